/* Rates that hold over all workers: so many per second, and a burst on top.
 *
 * The generic cell rate algorithm (ITU-T I.371, virtual scheduling): the whole state is the time at which the bucket will be full
 * again, its theoretical arrival time (TAT). Each unit moves it on by the interval between two of them; a unit may pass while that
 * leaves it within `depth` of now. One atomic word therefore: it cannot be half done, no one who is killed leaves a lock or a share
 * behind, it says nothing any more once it lies in the past, and all zero is a full bucket.
 *
 * TATs count sixteenths of a nanosecond from the start of CLOCK_MONOTONIC, which lasts for 18 years. What is taken at once costs its
 * time rounded down to that: exact for 1000/s or 100000/s, 7e-11 too fast for 3/s, 7e-5 for 3000000/s one by one.
 *
 * The limit is an argument and not part of the state: a reload may change it at any time. What was used before stays used, as far as it
 * can with the new limit: a TAT further ahead than that allows (by more than a second) counts as an empty bucket.
 *
 * now_ns may lag behind what another process used: that is stricter by the difference, never looser. Only when it lags by more than a
 * second, and the bucket is empty, are too many let through: what the pace gives in that time, and at most burst + quantum.
 *
 * Writers: every worker, by compare and swap. Reader: anyone.
 */
#ifndef AEGIS_SHM_RATE_H
#define AEGIS_SHM_RATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/attr.h"

struct rate {
	_Atomic uint64_t tat;
};

/* Made by rate_limit_make(); each process has its own. Its all zero value is no limit. */
struct rate_limit {
	uint64_t interval; /* between two units, in 2^-32 ns; 0 = no limit */
	uint64_t depth;    /* how far ahead a TAT may be, in sixteenths of a nanosecond */
	uint32_t most;     /* the units that fill depth */
	uint32_t quantum;
};

/* per_s units a second, at least one quantum (0 counts as 1) at a time, and `burst` more at once on top of that: within t seconds
 * t * per_s + burst + quantum can pass. quantum is 1 where single things are counted; for bytes it is the least amount worth
 * waking up for. per_s = 0 is no limit. burst + quantum are cut to 2^32 - 1 units and to 208 days of the pace. */
struct rate_limit rate_limit_make(uint64_t per_s, uint64_t burst, uint32_t quantum);

/* Take one unit. True, or false with *wait_ns the time until one will be there, if nobody else takes it (0 when true; NULL: not
 * wanted). Also false when others were faster 64 times in a row; the wait is then that of a single unit. */
must_check bool rate_take(struct rate *rate, const struct rate_limit *limit, uint64_t now_ns, uint64_t *wait_ns);

/* How long until one unit will be there, if nobody else takes it; 0 = it is there. Takes nothing. */
must_check uint64_t rate_wait_ns(struct rate *rate, const struct rate_limit *limit, uint64_t now_ns);

/* Take up to n units, but nothing between 0 and the smaller of n and a quantum. How many; when less than n, *wait_ns is the time until
 * the next part (a quantum or the rest) will be there. Others being faster 64 times in a row counts as 0. */
must_check uint32_t rate_take_many(struct rate *rate, const struct rate_limit *limit, uint32_t n, uint64_t now_ns, uint64_t *wait_ns);

/* Give back n units that were taken a moment ago and not used. Never makes the bucket fuller than full. */
void rate_give_back(struct rate *rate, const struct rate_limit *limit, uint32_t n);

/* Book n units (at most limit->most) that will be there, before anyone who books later: *at_ns is when they may be used, now_ns or a later
 * time. They are taken from then on; who does not use them gives them back. False when that time is more than patience_ns ahead, which is
 * at most RATE_PATIENCE_NS; *at_ns is then when it is not, unless others book meanwhile. So all who want more than there is are served in
 * turn, over all processes, and nobody has to ask over and over. What a killed process had booked passes unused. */
#define RATE_PATIENCE_NS UINT64_C(1000000000)
must_check bool rate_book(
        struct rate *rate, const struct rate_limit *limit, uint32_t n, uint64_t now_ns, uint64_t patience_ns, uint64_t *at_ns);

/* --- for tables of rates ----------------------------------------------------------------------------------------------------- */

enum { RATE_FRACTION_BITS = 4, RATE_TRIES = 64 };

static inline uint64_t rate_time(uint64_t ns)
{
	return ns << RATE_FRACTION_BITS;
}

/* What n units cost; n up to limit->most. */
static inline uint64_t rate_cost(const struct rate_limit *limit, uint32_t n)
{
	enum { SHIFT = 32 - RATE_FRACTION_BITS };
	return n * (limit->interval >> SHIFT) + ((n * (limit->interval & ((UINT64_C(1) << SHIFT) - 1))) >> SHIFT);
}

/* The state after an attempt to take what costs `cost` at the time now = rate_time(now_ns), and whether it passes. */
static inline uint64_t rate_next(const struct rate_limit *limit, uint64_t tat, uint64_t now, uint64_t cost, bool *passes)
{
	const uint64_t slack = UINT64_C(1000000000) << RATE_FRACTION_BITS;
	uint64_t latest = now + limit->depth;
	uint64_t next = (tat > now ? tat : now) + cost;
	*passes = next <= latest;
	if (*passes)
		return next;
	return tat > latest + slack ? latest : tat;
}

#endif
