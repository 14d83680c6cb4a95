/* How much a connection may move, and how little it must. Decisions only: no I/O, no clock.
 *
 * struct shaper keeps one direction of a connection (or the share of one worker in a listener) to a rate: a bucket fills with the rate, and
 * what is moved is taken out.
 *     n = shaper_allow(&shaper, now_ns);            move at most n bytes; if it is 0, come back at shaper_ready_ns()
 *     shaper_spent(&shaper, moved, now_ns);
 * The bucket holds a tenth of a second's worth, so that a wake-up may be that late without loss of rate; at low rates up to 4 kB, so that a
 * short exchange is not cut to pieces, and never more than one second's worth. It is full at the beginning.
 * Nothing is moved before a piece has gathered: 10 ms' worth, at low rates up to 1 kB, and never more than one second's worth. So no pieces
 * are tiny, and who comes back when it is time does so at most every 10 ms.
 *
 * struct rate_guard finds a peer that is slow on purpose: one that owes something (the rest of its request, room for the answer) and moves
 * less than it must within RATE_GUARD_WINDOW_NS. Only time in which it owes something counts, and not the first RATE_GUARD_GRACE_NS of it.
 * A peer that stops holds on for the rest of a window and one more, at the beginning for the grace and two.
 *
 * Process: a worker; both are part of what they belong to, and nothing is to be freed.
 */
#ifndef AEGIS_POLICY_SHAPER_H
#define AEGIS_POLICY_SHAPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/clock.h"

#define SHAPER_NO_LIMIT UINT64_MAX
#define SHAPER_PAUSE_NS (10 * NS_PER_MS)

struct shaper {
	uint64_t rate;  /* bytes per second; 0 = no limit */
	uint64_t at_ns; /* when the credit was */
	int64_t credit; /* in 10^-9 bytes, so that a nanosecond adds the rate, without rounding; negative after more was moved than allowed
	                 */
};

/* From 100 GB/s on it is as good as no limit. */
void shaper_init(struct shaper *shaper, uint64_t rate);

/* Bytes that may be moved now: 0, or at least a piece; SHAPER_NO_LIMIT. */
must_check uint64_t shaper_allow(struct shaper *shaper, uint64_t now_ns);

/* So much was moved. More than was allowed is owed from what comes, up to some 4 GB. */
void shaper_spent(struct shaper *shaper, uint64_t bytes, uint64_t now_ns);

/* When shaper_allow() has a piece: now, or at least SHAPER_PAUSE_NS later. */
must_check uint64_t shaper_ready_ns(struct shaper *shaper, uint64_t now_ns);

#define RATE_GUARD_GRACE_NS (5 * NS_PER_S)
#define RATE_GUARD_WINDOW_NS (5 * NS_PER_S)
#define RATE_GUARD_LATE_NS NS_PER_S
#define RATE_GUARD_NEVER UINT64_MAX

struct rate_guard {
	int64_t owing_ns;  /* how long the peer owed in this window; negative during the grace */
	uint64_t since_ns; /* it owes, and is counted up to here; RATE_GUARD_NEVER = it owes nothing */
	uint64_t moved;    /* bytes in this window */
};

/* The peer owes nothing yet. */
void rate_guard_init(struct rate_guard *guard);

/* It is the peer's turn from now on, or no more. May be said again. */
void rate_guard_owes(struct rate_guard *guard, bool owes, uint64_t now_ns);

/* The peer sent or took so many bytes. */
void rate_guard_moved(struct rate_guard *guard, uint64_t bytes);

/* When to call rate_guard_slow(), unless the turn changes before; RATE_GUARD_NEVER while the peer owes nothing. */
must_check uint64_t rate_guard_due_ns(const struct rate_guard *guard);

/* Whether the peer moved less than min_rate bytes per second (0 = never) in the window that is over. False during a window, and when the
 * call comes more than RATE_GUARD_LATE_NS late: it was not the peer then who was slow, what it sent may not have been read. */
must_check bool rate_guard_slow(struct rate_guard *guard, uint64_t min_rate, uint64_t now_ns);

#endif
