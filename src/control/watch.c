#include "control/watch.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/path_watch.h"

/* Certificate and key are two files: both shall be there. */
#define QUIET_NS (500 * NS_PER_MS)
#define MOST_NS (5 * NS_PER_S)

struct watch {
	int fd;
	struct loop *loop;
	struct loop_io io;
	struct loop_timer quiet;
	uint64_t since_ns; /* the first change that was not told; 0 = none */
	void (*changed)(void *arg);
	void *arg;
};

static void on_quiet(struct loop_timer *timer)
{
	struct watch *watch = container_of(timer, struct watch, quiet);
	watch->since_ns = 0;
	watch->changed(watch->arg);
}

static void wait_for_quiet(struct watch *watch)
{
	uint64_t now_ns = loop_now_ns(watch->loop);
	if (watch->since_ns == 0)
		watch->since_ns = now_ns;
	if (loop_timer_active(&watch->quiet) && now_ns - watch->since_ns > MOST_NS)
		return; /* where there is no end of changes what there is has to do */
	loop_timer_start(watch->loop, &watch->quiet, QUIET_NS);
}

static void on_events(struct loop_io *io, int events)
{
	struct watch *watch = container_of(io, struct watch, io);
	(void)events;
	if (path_watch_heard(watch->fd)) /* whatever it is: to look at the files costs little, and says whether they changed */
		wait_for_quiet(watch);
}

int watch_new(struct loop *loop, int fd, bool missed, void (*changed)(void *arg), void *arg, struct watch **out)
{
	struct watch *watch = calloc(1, sizeof *watch);
	if (!watch)
		return -ENOMEM;
	*watch = (struct watch){ .fd = fd, .loop = loop, .changed = changed, .arg = arg };
	loop_io_init(&watch->io, on_events);
	loop_timer_init(&watch->quiet, on_quiet);
	int error = loop_io_set(loop, &watch->io, fd, LOOP_READ);
	if (error) {
		free(watch);
		return error;
	}
	if (missed)
		wait_for_quiet(watch);
	*out = watch;
	return 0;
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	loop_timer_stop(watch->loop, &watch->quiet);
	loop_io_stop(watch->loop, &watch->io);
	close(watch->fd);
	free(watch);
}
