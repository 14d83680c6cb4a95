/* What a load process sleeps on: an epoll instance, and a timer in it that is finer than the milliseconds of epoll_wait(2).
 *
 * Process: a load process; it adds its sockets to epoll_fd by itself. The events of the timer have data.ptr NULL, and it need not be read:
 *          it is there with edge triggering.
 */
#ifndef AEGIS_TOOLS_SLEEPER_H
#define AEGIS_TOOLS_SLEEPER_H

#include <stdint.h>

#include "base/attr.h"

struct sleeper {
	int epoll_fd, timer_fd; /* -1 = not open */
};

/* 0 or a negative errno; sleeper_close() in any case. */
must_check int sleeper_open(struct sleeper *sleeper);
void sleeper_close(struct sleeper *sleeper);

/* Wake at this time at the latest, once. */
void sleeper_wake_at(const struct sleeper *sleeper, uint64_t time_ns);

#endif
