/* The line of clients that wait for a place at the servers of an upstream: first come, first served over all workers.
 *
 * Who joins takes a ticket. Each worker keeps its own waiters in the order of their tickets, and shows the ticket of the first one here.
 * The worker that has the least of all tickets tries; when it got a place, it shows its next one, and tells whoever is first then.
 * limit_upstream() counts all who wait, and bounds them: exactly, and without those of a worker that was killed.
 *
 * Nobody is missed: who shows a ticket looks for a place after that, who frees a place looks for tickets after that; one of both sees the
 * other one (line_show() and line_firsts() have the fences). A ring may still be lost with the worker that was about to ring or to try:
 * therefore each worker that has waiters looks at least every LINE_LOOK_NS, and notes the time. Tickets of a worker that did not look for
 * LINE_STALE_NS are passed over: it was killed, and the master has not cleared its seat yet, or it hangs.
 *
 * Each generation has a line of its own, in which one's turn depends on the others of the same generation only: the servers that one can
 * use may be full while those of the other one are not. Within a generation all wait for the same ones.
 *
 * Writers: line_head by the seat's worker, and by the master when that is gone; the rest by all workers.
 */
#ifndef AEGIS_SHM_LINE_H
#define AEGIS_SHM_LINE_H

#include "base/clock.h"
#include "shm/limit.h"

#define LINE_LOOK_NS (50 * NS_PER_MS)
#define LINE_STALE_NS (5 * LINE_LOOK_NS)

enum { LINE_GENERATIONS = 16 };

/* The first in line of a generation. */
struct line_first {
	uint64_t ticket;
	uint32_t generation;
	uint32_t seat;
};

/* Does anybody wait? A hint: line_firsts() knows. */
static inline bool line_waits(const struct shm *shm, uint32_t upstream)
{
	return limit_used(shm, limit_upstream(shm, upstream)) > 0;
}

/* From 1 on, each but once. */
must_check uint64_t line_ticket(struct shm *shm, uint32_t upstream);

/* The seat's first waiter, 0 = it has none any more; and that its worker looks at this time. */
void line_show(struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t ticket, uint64_t now_ns);

/* Is the seat's ticket the least of its generation? The same ticket that it showed. */
must_check bool line_is_first(const struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t ticket, uint64_t now_ns);

/* The first ones, one for each generation that waits. After a place was freed, or line_show(). Returns how many; of more than
 * LINE_GENERATIONS the rest is left to look for itself. */
must_check uint32_t line_firsts(const struct shm *shm, uint32_t upstream, uint64_t now_ns, struct line_first firsts[LINE_GENERATIONS]);

/* The worker of the seat is dead. Master only. */
void line_clear(struct shm *shm, uint32_t seat);

#endif
