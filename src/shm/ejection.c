/* The word of a server: bits 0-1 state, bits 2-7 times, bits 8-63 until when, in microseconds. */
#include "shm/ejection.h"

#include <assert.h>
#include <stddef.h>

#include "base/clock.h"
#include "shm/moment.h"

enum hold { HOLD_NONE, HOLD_RESERVED, HOLD_EJECTED };
enum { TIMES_SHIFT = 2, TIMES_MASK = 63, UNTIL_SHIFT = 8 };

#define RESERVATION_NS NS_PER_S
#define UNTIL_US_MAX ((UINT64_C(1) << 56) - 1)

static_assert((int)EJECTION_TIMES_MAX <= (int)TIMES_MASK, "times have six bits");

static uint64_t pack(enum hold hold, uint32_t times, uint64_t until_ns)
{
	uint64_t until_us = until_ns / NS_PER_US + (until_ns % NS_PER_US != 0);
	return (until_us < UNTIL_US_MAX ? until_us : UNTIL_US_MAX) << UNTIL_SHIFT | (uint64_t)times << TIMES_SHIFT | (uint64_t)hold;
}

static enum hold hold_of(uint64_t word)
{
	return (enum hold)(word & 3);
}

static uint32_t times_of(uint64_t word)
{
	return word >> TIMES_SHIFT & TIMES_MASK;
}

static uint64_t until_of(uint64_t word)
{
	uint64_t until_us = word >> UNTIL_SHIFT;
	return until_us > UINT64_MAX / NS_PER_US ? UINT64_MAX : until_us * NS_PER_US;
}

/* Reserved or ejected, and not over. */
static bool is_held(uint64_t word, uint64_t now_ns)
{
	return hold_of(word) != HOLD_NONE && until_of(word) > now_ns;
}

/* The multiple of an ejection now. */
static uint32_t next_times(uint64_t word, const struct ejection_limits *limits, uint64_t now_ns)
{
	uint64_t forgiven = moment_age_ns(until_of(word), now_ns) / (limits->ejection_ns ? limits->ejection_ns : 1);
	uint32_t times = times_of(word);
	times = (forgiven < times ? times - (uint32_t)forgiven : 0) + 1;
	return times < EJECTION_TIMES_MAX ? times : EJECTION_TIMES_MAX;
}

/* Reserving and counting are a store and loads of other words, in this order for all: hence everything here is seq_cst. */
static bool try_change(struct ejection *ejection, uint64_t *word, uint64_t to)
{
	return atomic_compare_exchange_strong(&ejection->word, word, to);
}

/* Reserved or ejected. A reservation that is over is taken away from who made it before it is left out of the count. */
static bool holds_place(struct ejection *ejection, uint64_t now_ns)
{
	uint64_t word = atomic_load(&ejection->word);
	while (hold_of(word) == HOLD_RESERVED && until_of(word) <= now_ns)
		if (try_change(ejection, &word, pack(HOLD_NONE, times_of(word), until_of(word))))
			return false;
	return is_held(word, now_ns);
}

static bool has_place(
        const struct ejection *ejection, const struct ejection_limits *limits, const struct ejection_group *group, uint64_t now_ns)
{
	uint64_t places = (uint64_t)group->n * limits->max_percent / 100;
	for (uint32_t i = 0; i < group->n && places > 0; i++)
		if (group->members[i] != ejection && holds_place(group->members[i], now_ns))
			places--;
	return places > 0;
}

static bool eject(struct ejection *ejection, const struct ejection_limits *limits, const struct ejection_group *group, uint64_t now_ns)
{
	uint64_t before = atomic_load(&ejection->word);
	uint64_t mine = pack(HOLD_RESERVED, times_of(before), moment_after(now_ns, RESERVATION_NS));
	if (is_held(before, now_ns) || !try_change(ejection, &before, mine))
		return false; /* another worker is at it, or was just before us */

	uint64_t word = mine;
	if (!has_place(ejection, limits, group, now_ns)) {
		(void)try_change(ejection, &word, hold_of(before) == HOLD_EJECTED ? before : before & ~(uint64_t)3);
		return false;
	}
	uint32_t times = next_times(before, limits, now_ns);
	uint64_t duration_ns = limits->ejection_ns > UINT64_MAX / times ? UINT64_MAX : limits->ejection_ns * times;
	if (!try_change(ejection, &word, pack(HOLD_EJECTED, times, moment_after(now_ns, duration_ns))))
		return false;
	atomic_fetch_add_explicit(&ejection->count, 1, memory_order_relaxed);
	return true;
}

/* True when there are enough of them. */
static bool count_failure(struct ejection *ejection, uint32_t enough)
{
	uint32_t failures = atomic_load_explicit(&ejection->failures, memory_order_relaxed);
	while (failures < enough)
		if (atomic_compare_exchange_weak_explicit(
		            &ejection->failures, &failures, failures + 1, memory_order_relaxed, memory_order_relaxed))
			return failures + 1 == enough;
	return true;
}

bool ejection_report(
        struct ejection *ejection, const struct ejection_limits *limits, const struct ejection_group *group, bool ok, uint64_t now_ns)
{
	if (limits->failures == 0)
		return false;
	if (ok) {
		if (unlikely(atomic_load_explicit(&ejection->failures, memory_order_relaxed) != 0))
			atomic_store_explicit(&ejection->failures, 0, memory_order_relaxed);
		return false;
	}
	if (is_held(atomic_load_explicit(&ejection->word, memory_order_relaxed), now_ns) || !count_failure(ejection, limits->failures))
		return false;
	bool ejected = eject(ejection, limits, group, now_ns);
	atomic_store_explicit(&ejection->failures, 0, memory_order_relaxed);
	return ejected;
}

uint64_t ejection_until_ns(const struct ejection *ejection)
{
	uint64_t word = atomic_load_explicit(&ejection->word, memory_order_acquire);
	return hold_of(word) == HOLD_EJECTED ? until_of(word) : 0;
}

uint32_t ejection_times(const struct ejection *ejection, const struct ejection_limits *limits, uint64_t now_ns)
{
	return next_times(atomic_load_explicit(&ejection->word, memory_order_relaxed), limits, now_ns);
}

void ejection_reset(struct ejection *ejection)
{
	atomic_store(&ejection->word, 0);
	atomic_store_explicit(&ejection->failures, 0, memory_order_relaxed);
}
