/* Outlier ejection: a server to which connections fail one after the other is left out for a while, unless too many of its upstream
 * already are.
 *
 * A failure is a connection that could not be made, or was reset before any byte came. `failures` of them in a row over all workers
 * eject the server until now + ejection * times. times is 1 at first and one more at each further ejection, at most
 * EJECTION_TIMES_MAX; it loses one for each `ejection` that passes without the server being ejected.
 *
 * At most max_percent of the servers of the group are ejected at one time, rounded down, as in Envoy since 1.31: of 3 servers none with
 * 30, one with 50. So at least one server is left unless max_percent is 100. Who would be one too many starts counting anew.
 *
 * The number ejected is nowhere kept, so that it cannot drift when a worker is killed: each server has its word, which is free, reserved
 * or ejected. Who wants to eject a server first reserves it, where all can see it, and then counts those reserved or ejected. Of any that
 * are ejected at one time, the one reserved last has seen all the others. Two at once for one last place both go without, and the next
 * failures decide. A reservation lasts for nanoseconds; what a killed worker left of it is taken away by others when it is a second old,
 * and only then, so that who was merely asleep finds it gone and does not eject.
 *
 * Process:  workers. Memory: in the shared segment, all zero = never failed.
 */
#ifndef AEGIS_SHM_EJECTION_H
#define AEGIS_SHM_EJECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

enum { EJECTION_TIMES_MAX = 10 };

struct ejection {
	_Atomic uint64_t word;     /* what, how often and until when: see ejection.c */
	_Atomic uint32_t failures; /* in a row */
	_Atomic uint32_t count;    /* ejections ever; one may be missing for each kill */
};

struct ejection_limits {
	uint32_t failures;    /* 0 = off */
	uint32_t max_percent; /* 0..100 */
	uint64_t ejection_ns;
};

/* The servers of an upstream, in this process's own memory. */
struct ejection_group {
	struct ejection *const *members;
	uint32_t n;
};

/* How a connection to a member of the group went. True when this ejected it. */
bool ejection_report(
        struct ejection *ejection, const struct ejection_limits *limits, const struct ejection_group *group, bool ok, uint64_t now_ns);

/* When the last ejection was, or will be, over (rounded up to microseconds); 0 = never ejected. */
must_check uint64_t ejection_until_ns(const struct ejection *ejection);

/* By what the next ejection would be multiplied if it came now. */
must_check uint32_t ejection_times(const struct ejection *ejection, const struct ejection_limits *limits, uint64_t now_ns);

/* End it and forget all but the count. */
void ejection_reset(struct ejection *ejection);

#endif
