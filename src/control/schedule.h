/* Which target is checked when. Pure: time is an argument.
 *
 * Process: control; a schedule is the prober's own.
 * States:  FRESH -> WAITING -> READY -> IN_FLIGHT -> WAITING ...; OUT before schedule_add() and after schedule_remove(). One alarm per
 * entry: when it becomes READY, or when its check is overdue. So an entry never has two checks in flight. Owner:   entries are embedded in
 * what they belong to.
 *
 * First checks are spread: entries that were added since the last schedule_advance() start a millisecond after each other, or at a faster
 * pace where they are so many that this would take longer than a second or than their interval. One may be put off (first_ns), as a check
 * that was made shortly before the entry was added would have it. Later ones follow at the interval, from start to start, give or take a
 * tenth. Of those that are due at most max_in_flight are under way; the others wait in the order in which they became due, which is known
 * to a tick of the wheel.
 */
#ifndef AEGIS_CONTROL_SCHEDULE_H
#define AEGIS_CONTROL_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/wheel.h"

#define SCHEDULE_SPREAD_NS NS_PER_S
#define SCHEDULE_PACE_NS NS_PER_MS

enum schedule_state { SCHEDULE_OUT, SCHEDULE_FRESH, SCHEDULE_WAITING, SCHEDULE_READY, SCHEDULE_IN_FLIGHT };

struct schedule_entry {
	uint64_t interval_ns; /* these are the caller's to set */
	uint64_t fast_interval_ns;
	uint64_t timeout_ns;
	uint64_t first_ns; /* the caller's, too: no check before that, where it is not longer than an interval from now */
	struct wheel_entry alarm;
	struct schedule_entry *next; /* in the queue of those that are FRESH or READY */
	struct schedule_entry **link;
	uint64_t started_ns;
	enum schedule_state state;
	bool hurries;
};

struct schedule_queue {
	struct schedule_entry *first;
	struct schedule_entry **last; /* what points to the end */
	size_t count;
};

struct schedule {
	struct wheel wheel;
	struct schedule_queue fresh;
	struct schedule_queue ready;
	unsigned in_flight;
	unsigned max_in_flight;
	uint64_t random;
};

typedef void schedule_overdue_fn(struct schedule_entry *entry, void *arg);

void schedule_init(struct schedule *schedule, uint64_t now_ns, unsigned max_in_flight, uint64_t seed);

/* The entry is all zero but for what is the caller's, or OUT. */
void schedule_add(struct schedule *schedule, struct schedule_entry *entry);
void schedule_remove(struct schedule *schedule, struct schedule_entry *entry);
/* Whether the fast interval applies. It does at once: a check that would be due later than that is moved forward. */
void schedule_hurry(struct schedule *schedule, struct schedule_entry *entry, bool hurries, uint64_t now_ns);

/* Let time pass. overdue() is called for each check that takes longer than its timeout; it calls schedule_done() or schedule_remove() for
 * that entry, and may change all others. */
void schedule_advance(struct schedule *schedule, uint64_t now_ns, schedule_overdue_fn *overdue, void *arg);
/* The next one to be checked now, from then on IN_FLIGHT; NULL when there is none or when too many are under way. */
must_check struct schedule_entry *schedule_take(struct schedule *schedule, uint64_t now_ns);
/* The check has ended. */
void schedule_done(struct schedule *schedule, struct schedule_entry *entry, uint64_t now_ns);

/* When schedule_advance() and schedule_take() have something to do next: 0 = now, WHEEL_NEVER. */
uint64_t schedule_next_ns(const struct schedule *schedule);

#endif
