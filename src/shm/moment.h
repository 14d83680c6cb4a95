/* Points in time that processes share: CLOCK_MONOTONIC nanoseconds, 0 = never.
 *
 * A process knows the time of its turn of the loop, which may be a little behind that of the others: a moment in shared memory can lie
 * ahead of one's own now, and then has no age yet.
 */
#ifndef AEGIS_SHM_MOMENT_H
#define AEGIS_SHM_MOMENT_H

#include <stdatomic.h>
#include <stdint.h>

static inline uint64_t moment_get(const _Atomic uint64_t *moment)
{
	return atomic_load_explicit(moment, memory_order_relaxed);
}

/* Move a moment forward, never back: whoever was late changes nothing. */
static inline void moment_raise(_Atomic uint64_t *moment, uint64_t to_ns)
{
	uint64_t ns = moment_get(moment);
	while (ns < to_ns && !atomic_compare_exchange_weak_explicit(moment, &ns, to_ns, memory_order_relaxed, memory_order_relaxed))
		;
}

static inline uint64_t moment_age_ns(uint64_t moment_ns, uint64_t now_ns)
{
	return now_ns > moment_ns ? now_ns - moment_ns : 0;
}

/* So long after it; UINT64_MAX when that is beyond all time. */
static inline uint64_t moment_after(uint64_t moment_ns, uint64_t duration_ns)
{
	return duration_ns > UINT64_MAX - moment_ns ? UINT64_MAX : moment_ns + duration_ns;
}

#endif
