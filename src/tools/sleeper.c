#include "tools/sleeper.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

int sleeper_open(struct sleeper *sleeper)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data = { .ptr = NULL } };
	sleeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sleeper->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (sleeper->epoll_fd < 0 || sleeper->timer_fd < 0 || epoll_ctl(sleeper->epoll_fd, EPOLL_CTL_ADD, sleeper->timer_fd, &event) < 0)
		return -errno;
	return 0;
}

void sleeper_close(struct sleeper *sleeper)
{
	if (sleeper->epoll_fd >= 0)
		close(sleeper->epoll_fd);
	if (sleeper->timer_fd >= 0)
		close(sleeper->timer_fd);
	sleeper->epoll_fd = sleeper->timer_fd = -1;
}

void sleeper_wake_at(const struct sleeper *sleeper, uint64_t time_ns)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(time_ns / NS_PER_S), .tv_nsec = (long)(time_ns % NS_PER_S) } };
	ensure(timerfd_settime(sleeper->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) == 0);
}
