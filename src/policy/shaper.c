#include "policy/shaper.h"

#define PER_BYTE INT64_C(1000000000) /* of the credit's unit */
#define BURST_MAX UINT64_C(1000000000)
#define DEBT_MAX (INT64_C(4000000000) * PER_BYTE)

enum { BURST_BYTES = 4096, PIECE_BYTES = 1024 };

/* A part of the rate, or bytes where that is more, but no more than a second's worth of them. */
static int64_t credit_of(uint64_t rate, uint64_t part, uint64_t bytes)
{
	uint64_t least = bytes < rate ? bytes : rate;
	uint64_t credit = rate / part > least ? rate / part : least;

	return (int64_t)(credit < BURST_MAX ? credit : BURST_MAX) * PER_BYTE;
}

static int64_t full_credit(uint64_t rate)
{
	return credit_of(rate, 10, BURST_BYTES);
}

static int64_t piece_credit(uint64_t rate)
{
	return credit_of(rate, NS_PER_S / SHAPER_PAUSE_NS, PIECE_BYTES);
}

void shaper_init(struct shaper *shaper, uint64_t rate)
{
	*shaper = (struct shaper){ .rate = rate, .credit = full_credit(rate) };
}

static void fill(struct shaper *shaper, uint64_t now_ns)
{
	int64_t full = full_credit(shaper->rate);
	uint64_t missing = (uint64_t)(full - shaper->credit);

	if (now_ns <= shaper->at_ns)
		return;
	uint64_t elapsed = now_ns - shaper->at_ns;
	if (elapsed > missing / shaper->rate)
		shaper->credit = full;
	else
		shaper->credit += (int64_t)(elapsed * shaper->rate);
	shaper->at_ns = now_ns;
}

uint64_t shaper_allow(struct shaper *shaper, uint64_t now_ns)
{
	if (shaper->rate == 0)
		return SHAPER_NO_LIMIT;
	fill(shaper, now_ns);
	return shaper->credit < piece_credit(shaper->rate) ? 0 : (uint64_t)(shaper->credit / PER_BYTE);
}

void shaper_spent(struct shaper *shaper, uint64_t bytes, uint64_t now_ns)
{
	const uint64_t most = (uint64_t)(DEBT_MAX / PER_BYTE);

	if (shaper->rate == 0)
		return;
	fill(shaper, now_ns);
	shaper->credit -= (int64_t)(bytes < most ? bytes : most) * PER_BYTE;
	if (shaper->credit < -DEBT_MAX)
		shaper->credit = -DEBT_MAX;
}

uint64_t shaper_ready_ns(struct shaper *shaper, uint64_t now_ns)
{
	if (shaper_allow(shaper, now_ns) > 0)
		return now_ns;
	uint64_t missing = (uint64_t)(piece_credit(shaper->rate) - shaper->credit);
	uint64_t wait_ns = missing / shaper->rate + (missing % shaper->rate != 0);
	uint64_t ready_ns = shaper->at_ns + wait_ns;
	return ready_ns > now_ns + SHAPER_PAUSE_NS ? ready_ns : now_ns + SHAPER_PAUSE_NS;
}

void rate_guard_init(struct rate_guard *guard)
{
	*guard = (struct rate_guard){ .owing_ns = -(int64_t)RATE_GUARD_GRACE_NS, .since_ns = RATE_GUARD_NEVER };
}

static void count_time(struct rate_guard *guard, uint64_t now_ns)
{
	if (guard->since_ns == RATE_GUARD_NEVER)
		return;
	guard->owing_ns += (int64_t)(now_ns - guard->since_ns);
	guard->since_ns = now_ns;
}

void rate_guard_owes(struct rate_guard *guard, bool owes, uint64_t now_ns)
{
	count_time(guard, now_ns);
	if (!owes)
		guard->since_ns = RATE_GUARD_NEVER;
	else if (guard->since_ns == RATE_GUARD_NEVER)
		guard->since_ns = now_ns;
}

void rate_guard_moved(struct rate_guard *guard, uint64_t bytes)
{
	if (__builtin_add_overflow(guard->moved, bytes, &guard->moved))
		guard->moved = UINT64_MAX;
}

uint64_t rate_guard_due_ns(const struct rate_guard *guard)
{
	int64_t left_ns = (int64_t)RATE_GUARD_WINDOW_NS - guard->owing_ns;

	if (guard->since_ns == RATE_GUARD_NEVER)
		return RATE_GUARD_NEVER;
	return left_ns > 0 ? guard->since_ns + (uint64_t)left_ns : guard->since_ns;
}

bool rate_guard_slow(struct rate_guard *guard, uint64_t min_rate, uint64_t now_ns)
{
	count_time(guard, now_ns);
	if (guard->owing_ns < (int64_t)RATE_GUARD_WINDOW_NS)
		return false;
	uint64_t owing_ns = (uint64_t)guard->owing_ns, must;
	if (__builtin_mul_overflow(owing_ns / NS_PER_MS, min_rate, &must))
		must = UINT64_MAX;
	if (owing_ns <= RATE_GUARD_WINDOW_NS + RATE_GUARD_LATE_NS && guard->moved < must / 1000)
		return true;
	guard->owing_ns = 0;
	guard->moved = 0;
	return false;
}
