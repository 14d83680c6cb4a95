#include "control/linger.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct lingerer {
	struct loop_io io;
	struct linger_set *set;
	struct lingerer *next;
	struct lingerer **link;
	uint64_t due_ns;
	size_t discarded;
};

/* Whether there is more to come. */
static bool discard(int fd, size_t *discarded)
{
	char bytes[16 << 10];

	while (*discarded < LINGER_BYTES) {
		ssize_t n = recv(fd, bytes, sizeof bytes, 0);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		*discarded += (size_t)n;
	}
	return false;
}

static void end(struct lingerer *lingerer)
{
	struct linger_set *set = lingerer->set;

	*lingerer->link = lingerer->next;
	if (lingerer->next)
		lingerer->next->link = lingerer->link;
	else
		set->last = lingerer->link;
	set->count--;
	int fd = lingerer->io.fd;
	loop_io_stop(set->loop, &lingerer->io); /* not forget: others may have copies of the descriptor */
	close(fd);
	free(lingerer);
}

static void on_readable(struct loop_io *io, int events)
{
	struct lingerer *lingerer = container_of(io, struct lingerer, io);

	(void)events;
	if (!discard(io->fd, &lingerer->discarded))
		end(lingerer);
}

static void set_timer(struct linger_set *set)
{
	uint64_t now_ns = loop_now_ns(set->loop);

	if (set->first)
		loop_timer_start(set->loop, &set->timer, set->first->due_ns > now_ns ? set->first->due_ns - now_ns : 0);
}

static void on_timer(struct loop_timer *timer)
{
	struct linger_set *set = container_of(timer, struct linger_set, timer);

	while (set->first && set->first->due_ns <= loop_now_ns(set->loop))
		end(set->first);
	set_timer(set);
}

void linger_init(struct linger_set *set, struct loop *loop)
{
	*set = (struct linger_set){ .loop = loop, .last = &set->first };
	loop_timer_init(&set->timer, on_timer);
}

void linger_fini(struct linger_set *set)
{
	while (set->first)
		end(set->first);
	loop_timer_stop(set->loop, &set->timer);
}

static struct lingerer *begin(struct linger_set *set, int fd)
{
	struct lingerer *lingerer = calloc(1, sizeof *lingerer);

	if (!lingerer)
		return NULL;
	loop_io_init(&lingerer->io, on_readable);
	if (loop_io_set(set->loop, &lingerer->io, fd, LOOP_READ)) {
		free(lingerer);
		return NULL;
	}
	return lingerer;
}

void linger_close(struct linger_set *set, int fd)
{
	size_t discarded = 0;
	bool more = shutdown(fd, SHUT_WR) == 0 && discard(fd, &discarded);
	struct lingerer *lingerer = more ? begin(set, fd) : NULL;

	if (!lingerer) {
		close(fd);
		return;
	}
	if (set->count == LINGER_MOST)
		end(set->first);
	lingerer->set = set;
	lingerer->discarded = discarded;
	lingerer->due_ns = loop_now_ns(set->loop) + LINGER_NS;
	lingerer->link = set->last;
	*set->last = lingerer;
	set->last = &lingerer->next;
	set->count++;
	if (!loop_timer_active(&set->timer))
		set_timer(set);
}
