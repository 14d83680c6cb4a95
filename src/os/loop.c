#include "os/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

enum { BATCH = 256 };

struct loop {
	int epoll_fd;
	int timer_fd;
	bool stopping;
	uint64_t now_ns;
	uint64_t before_ns; /* when it last went to sleep */
	uint64_t longest_turn_ns;
	uint64_t round; /* of firing timers; one that is started meanwhile waits for the next round. Never 0 */
	struct loop_timer *timers;
	uint64_t timer_set_ns;  /* when the timer descriptor fires; NEVER = not set */
	struct loop_io *agains; /* to be called again */
	loop_turn_fn *before_sleep;
	void *arg;
	loop_waiter_fn *waiter;
	void *waiter_arg;
	bool look; /* with a waiter: epoll may have something */
	struct epoll_event batch[BATCH];
};

#define NEVER UINT64_MAX

/* The timer descriptor has no watcher: that it woke the loop is all it is for. */
static int add_timer_fd(struct loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return loop->timer_fd < 0 ? -1 : epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &event);
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof *loop);
	if (!loop)
		return NULL;
	loop->timer_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0 || add_timer_fd(loop) < 0) {
		loop_free(loop);
		return NULL;
	}
	loop->now_ns = clock_now_ns();
	loop->timer_set_ns = NEVER;
	loop->round = 1;
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->epoll_fd >= 0)
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

uint64_t loop_take_longest_turn_ns(struct loop *loop)
{
	uint64_t longest_ns = loop->longest_turn_ns;
	loop->longest_turn_ns = 0;
	return longest_ns;
}

void loop_on_turn(struct loop *loop, loop_turn_fn *before_sleep, void *arg)
{
	loop->before_sleep = before_sleep;
	loop->arg = arg;
}

void loop_set_waiter(struct loop *loop, loop_waiter_fn *waiter, void *arg)
{
	loop->waiter = waiter;
	loop->waiter_arg = arg;
	loop->look = true;
}

int loop_poll_fd(const struct loop *loop)
{
	return loop->epoll_fd;
}

void loop_woke(struct loop *loop)
{
	loop->now_ns = clock_now_ns();
}

void loop_poll_ready(struct loop *loop)
{
	loop->look = true;
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

static uint32_t epoll_events(const struct loop_io *io)
{
	uint32_t events = (io->wanted & LOOP_READ ? EPOLLIN : 0U) | (io->wanted & LOOP_WRITE ? EPOLLOUT : 0U);
	return io->wanted & LOOP_EDGE ? events | EPOLLET | EPOLLRDHUP | EPOLLPRI : events;
}

static int tell_kernel(struct loop *loop, struct loop_io *io)
{
	struct epoll_event event = { .events = epoll_events(io), .data.ptr = io };
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

void loop_io_again(struct loop *loop, struct loop_io *io)
{
	if (io->link)
		return;
	io->next = loop->agains;
	io->link = &loop->agains;
	if (io->next)
		io->next->link = &io->next;
	loop->agains = io;
}

static void unlink_again(struct loop_io *io)
{
	if (!io->link)
		return;
	*io->link = io->next;
	if (io->next)
		io->next->link = io->link;
	io->link = NULL;
}

void loop_io_forget(struct loop *loop, struct loop_io *io)
{
	if (io->pending)
		loop->batch[io->pending - 1].data.ptr = NULL;
	unlink_again(io);
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

static int events_of(uint32_t epoll)
{
	uint32_t both = epoll & (EPOLLERR | EPOLLHUP);
	int got = (both || (epoll & EPOLLIN) ? LOOP_READ : 0) | (both || (epoll & EPOLLOUT) ? LOOP_WRITE : 0);
	return got | (epoll & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) ? LOOP_ENDED : 0) | (epoll & EPOLLPRI ? LOOP_URGENT : 0);
}

static void dispatch_one(struct loop *loop, struct loop_io *io, uint32_t epoll)
{
	int got = events_of(epoll);
	io->pending = 0;
	if (io->wanted & LOOP_EDGE)
		io->fn(io, got);
	else if (got & io->wanted)
		io->fn(io, got & io->wanted);
	else
		(void)tell_kernel(loop, io); /* what is no longer waited for has happened: now it must be said */
}

static void dispatch(struct loop *loop, int count)
{
	for (int i = 0; i < count; i++)
		if (loop->batch[i].data.ptr) /* but for the timer descriptor */
			((struct loop_io *)loop->batch[i].data.ptr)->pending = (uint16_t)(i + 1);
	for (int i = 0; i < count; i++)
		if (loop->batch[i].data.ptr)
			dispatch_one(loop, loop->batch[i].data.ptr, loop->batch[i].events);
}

/* Those that asked before this turn; who asks meanwhile waits for the next one. */
static void call_again(struct loop *loop)
{
	struct loop_io *list = loop->agains;
	if (likely(!list))
		return;
	loop->agains = NULL;
	list->link = &list;
	while (list) {
		struct loop_io *io = list;
		unlink_again(io);
		io->fn(io, LOOP_READ);
	}
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

/* See to it that the loop wakes for the first timer: the descriptor is set only when it would be too late. */
static void set_timer_fd(struct loop *loop)
{
	const struct loop_timer *first = first_timer(loop, 0);
	if (loop->timer_set_ns <= loop->now_ns)
		loop->timer_set_ns = NEVER; /* it has fired */
	if (!first || first->due_ns >= loop->timer_set_ns)
		return;
	uint64_t due_ns = first->due_ns ? first->due_ns : 1; /* all zero would switch it off */
	struct itimerspec spec = { .it_value = { .tv_sec = (time_t)(due_ns / NS_PER_S), .tv_nsec = (long)(due_ns % NS_PER_S) } };
	ensure(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
	loop->timer_set_ns = first->due_ns;
}

/* --- turning ----------------------------------------------------------------------------------------------------------------- */

/* What epoll has, after having waited for it or for what the waiter waits for. */
static int wait_for_events(struct loop *loop)
{
	bool sleep = !loop->agains;
	if (!loop->waiter) {
		int count = epoll_wait(loop->epoll_fd, loop->batch, BATCH, sleep ? -1 : 0);
		loop_woke(loop);
		return count;
	}
	loop->waiter(loop->waiter_arg, sleep && !loop->look); /* that of level-triggered watchers the waiter is told but once */
	return loop->look ? epoll_wait(loop->epoll_fd, loop->batch, BATCH, 0) : 0;
}

static void take_turn(struct loop *loop)
{
	int count = wait_for_events(loop);
	loop->look = count > 0;
	dispatch(loop, count);
	call_again(loop);
	if (loop->timers)
		fire_timers(loop);
}

void loop_run(struct loop *loop)
{
	loop->stopping = false;
	loop_woke(loop);
	while (!loop->stopping) {
		if (loop->before_sleep)
			loop->before_sleep(loop->arg);
		if (unlikely(loop->stopping))
			break;
		if (loop->timers)
			set_timer_fd(loop);
		loop->before_ns = clock_now_ns();
		if (loop->before_ns - loop->now_ns > loop->longest_turn_ns)
			loop->longest_turn_ns = loop->before_ns - loop->now_ns;
		take_turn(loop);
	}
}
