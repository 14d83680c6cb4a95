/* The one clock inside Aegis: monotonic nanoseconds. Time is an argument everywhere below the session kinds; only
 * the event loop, the master and the tools ask for it. */
#ifndef AEGIS_BASE_CLOCK_H
#define AEGIS_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

static inline uint64_t clock_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

#endif
