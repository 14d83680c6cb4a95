#include "os/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"

enum { BATCH = 256 };

struct loop {
	int epoll_fd;
	bool stopping;
	uint64_t now_ns;
	uint64_t round; /* of firing timers; one that is started meanwhile waits for the next round. Never 0 */
	struct loop_timer *timers;
	loop_turn_fn *before_sleep;
	loop_turn_fn *after_sleep;
	void *arg;
	struct epoll_event batch[BATCH];
};

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof *loop);
	if (!loop)
		return NULL;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		free(loop);
		return NULL;
	}
	loop->now_ns = clock_now_ns();
	loop->round = 1;
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->epoll_fd);
	free(loop);
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}

void loop_on_turn(struct loop *loop, loop_turn_fn *before_sleep, loop_turn_fn *after_sleep, void *arg)
{
	loop->before_sleep = before_sleep;
	loop->after_sleep = after_sleep;
	loop->arg = arg;
}

/* --- descriptors ----------------------------------------------------------------------------------------------------------- */

void loop_io_init(struct loop_io *io, loop_io_fn *fn)
{
	*io = (struct loop_io){ .fn = fn, .fd = -1 };
}

void loop_io_hand_over(struct loop_io *io, loop_io_fn *fn)
{
	io->fn = fn;
}

static int tell_kernel(struct loop *loop, struct loop_io *io)
{
	uint32_t events = (io->wanted & LOOP_READ ? EPOLLIN : 0U) | (io->wanted & LOOP_WRITE ? EPOLLOUT : 0U);
	struct epoll_event event = { .events = events, .data.ptr = io };
	int op = !io->wanted ? EPOLL_CTL_DEL : io->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(loop->epoll_fd, op, io->fd, &event) < 0) {
		int error = errno;
		ensure(op == EPOLL_CTL_ADD && (error == ENOMEM || error == ENOSPC));
		io->wanted = 0;
		return -error;
	}
	io->known = io->wanted;
	return 0;
}

int loop_io_set(struct loop *loop, struct loop_io *io, int fd, int events)
{
	ensure(io->fd == fd || io->known == 0);
	io->fd = fd;
	io->wanted = (uint8_t)events;
	return io->wanted & ~io->known ? tell_kernel(loop, io) : 0;
}

void loop_io_forget(struct loop *loop, struct loop_io *io)
{
	if (io->pending)
		loop->batch[io->pending - 1].data.ptr = NULL;
	*io = (struct loop_io){ .fn = io->fn, .fd = -1 };
}

void loop_io_stop(struct loop *loop, struct loop_io *io)
{
	io->wanted = 0;
	if (io->known)
		(void)tell_kernel(loop, io);
	loop_io_forget(loop, io);
}

int loop_io_events(const struct loop_io *io)
{
	return io->wanted;
}

static void dispatch_one(struct loop *loop, struct loop_io *io, uint32_t events)
{
	uint32_t both = events & (EPOLLERR | EPOLLHUP);
	int got = (both || (events & EPOLLIN) ? LOOP_READ : 0) | (both || (events & EPOLLOUT) ? LOOP_WRITE : 0);
	io->pending = 0;
	if (got & io->wanted)
		io->fn(io, got & io->wanted);
	else
		(void)tell_kernel(loop, io); /* what is no longer waited for has happened: now it must be said */
}

static void dispatch(struct loop *loop, int count)
{
	for (int i = 0; i < count; i++)
		((struct loop_io *)loop->batch[i].data.ptr)->pending = (uint16_t)(i + 1);
	for (int i = 0; i < count; i++)
		if (loop->batch[i].data.ptr)
			dispatch_one(loop, loop->batch[i].data.ptr, loop->batch[i].events);
}

/* --- timers: so few of them that a list will do ------------------------------------------------------------------------------ */

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn)
{
	*timer = (struct loop_timer){ .fn = fn };
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t after_ns)
{
	loop_timer_stop(loop, timer);
	timer->due_ns = loop->now_ns + after_ns;
	timer->round = loop->round;
	timer->next = loop->timers;
	timer->link = &loop->timers;
	if (timer->next)
		timer->next->link = &timer->next;
	loop->timers = timer;
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	if (!timer->link)
		return;
	*timer->link = timer->next;
	if (timer->next)
		timer->next->link = timer->link;
	timer->link = NULL;
}

bool loop_timer_active(const struct loop_timer *timer)
{
	return timer->link != NULL;
}

/* The first timer, but for those of the given round. */
static struct loop_timer *first_timer(const struct loop *loop, uint64_t but_round)
{
	struct loop_timer *first = NULL;
	for (struct loop_timer *timer = loop->timers; timer; timer = timer->next)
		if (timer->round != but_round && (!first || timer->due_ns < first->due_ns))
			first = timer;
	return first;
}

static void fire_timers(struct loop *loop)
{
	struct loop_timer *timer;
	loop->round++;
	while ((timer = first_timer(loop, loop->round)) != NULL && timer->due_ns <= loop->now_ns) {
		loop_timer_stop(loop, timer);
		timer->fn(timer);
	}
}

/* How long epoll may sleep, rounded up so that no timer finds itself too early. */
static int sleep_ms(const struct loop *loop)
{
	const struct loop_timer *next = first_timer(loop, 0);
	if (!next)
		return -1;
	uint64_t now_ns = clock_now_ns();
	uint64_t wait_ms = next->due_ns > now_ns ? (next->due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
	return wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms;
}

void loop_run(struct loop *loop)
{
	loop->stopping = false;
	while (!loop->stopping) {
		if (loop->before_sleep)
			loop->before_sleep(loop->arg);
		int count = epoll_wait(loop->epoll_fd, loop->batch, BATCH, sleep_ms(loop));
		loop->now_ns = clock_now_ns();
		if (loop->after_sleep)
			loop->after_sleep(loop->arg);
		dispatch(loop, count);
		fire_timers(loop);
	}
}
