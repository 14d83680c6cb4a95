/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "policy/shaper.h"

#define START_NS (12345 * NS_PER_S)
#define YEAR_NS (365 * 86400 * NS_PER_S)

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(random_state >> 33) % limit;
}

/* --- the rate ------------------------------------------------------------------------------------------------------------ */

struct flow {
	uint64_t rate;
	uint64_t seconds;
	uint32_t piece;   /* what is moved in one go, at most */
	uint32_t late_ns; /* wake-ups come up to so much late */
};

/* Somebody who always has something to move. Returns what was moved. */
static uint64_t moved_by(const struct flow *flow, uint32_t *wake_ups)
{
	struct shaper shaper;
	uint64_t now = START_NS, end = START_NS + flow->seconds * NS_PER_S, moved = 0;

	shaper_init(&shaper, flow->rate);
	*wake_ups = 0;
	while (now < end) {
		uint64_t n;
		while ((n = shaper_allow(&shaper, now)) > 0) {
			uint64_t piece = 1 + random_below(flow->piece);
			piece = piece < n ? piece : n;
			shaper_spent(&shaper, piece, now);
			moved += piece;
			now += piece / 20; /* 20 GB/s */
		}
		uint64_t ready = shaper_ready_ns(&shaper, now);
		assert_true(ready >= now + SHAPER_PAUSE_NS);
		assert_true(ready <= now + NS_PER_S + SHAPER_PAUSE_NS);
		assert_true(shaper_allow(&shaper, ready - SHAPER_PAUSE_NS) == 0 || ready == now + SHAPER_PAUSE_NS);
		now = ready;
		assert_true(shaper_allow(&shaper, now) > 0);
		now += random_below(flow->late_ns + 1);
		(*wake_ups)++;
	}
	return moved;
}

static void test_long_run(void **state)
{
	(void)state;
	static const struct flow flows[] = {
		{ 10000, 120, 1460, 4200000 },
		{ 10000, 120, 1, 0 },
		{ 10000, 120, 65536, 90000000 },
		{ 12345, 300, 300, 4200000 },
		{ 1000000, 120, 65536, 4200000 },
		{ 10000000, 120, 65536, 4200000 },
		{ 10000000, 120, 65536, 85000000 },
		{ 99999989, 60, 262144, 4200000 },
		{ UINT64_C(5000000000), 60, 1048576, 4200000 },
		{ UINT64_C(5000000000), 60, 65536, 85000000 },
		{ UINT64_C(5000000000), 12, 8192, 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(flows); i++) {
		uint32_t wake_ups;
		uint64_t moved = moved_by(&flows[i], &wake_ups), right = flows[i].rate * flows[i].seconds;
		if (moved < right - right / 100 || moved > right + right / 100)
			fail_msg("%zu: %llu bytes, should be %llu", i, (unsigned long long)moved, (unsigned long long)right);
		assert_true(wake_ups <= flows[i].seconds * 100);
		if (flows[i].piece >= 65536) /* it takes all that is allowed */
			assert_true(moved / (wake_ups + 1) >= 1000);
	}
}

static void test_no_stretch_has_more_than_the_bucket(void **state)
{
	(void)state;
	static const struct {
		uint64_t rate, bucket;
	} cases[] = {
		{ 1, 1 },
		{ 100, 100 },
		{ 4096, 4096 },
		{ 10000, 4096 },
		{ 50000, 5000 },
		{ 10000000, 1000000 },
		{ UINT64_C(5000000000), 500000000 },
		{ UINT64_C(50000000000), 1000000000 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct shaper shaper;
		uint64_t now = START_NS;
		shaper_init(&shaper, cases[i].rate);
		assert_int_equal(shaper_allow(&shaper, now), cases[i].bucket);
		shaper_spent(&shaper, cases[i].bucket, now);
		assert_int_equal(shaper_allow(&shaper, now), 0);
		for (int idle = 0; idle < 5; idle++) {
			now += (1 + NS_PER_S) << idle;
			assert_int_equal(shaper_allow(&shaper, now), cases[i].bucket);
		}
		now += YEAR_NS;
		assert_int_equal(shaper_allow(&shaper, now), cases[i].bucket);
		assert_int_equal(shaper_ready_ns(&shaper, now), now);
		now = UINT64_MAX;
		assert_int_equal(shaper_allow(&shaper, now), cases[i].bucket);
	}
}

static void test_a_piece_gathers_first(void **state)
{
	(void)state;
	struct shaper shaper;

	shaper_init(&shaper, 10000);
	shaper_spent(&shaper, 4096 - 1024, START_NS);
	assert_int_equal(shaper_allow(&shaper, START_NS), 1024);
	shaper_spent(&shaper, 1, START_NS);
	assert_int_equal(shaper_allow(&shaper, START_NS), 0);
	/* it is there after 100 us, but nobody is to come back that soon */
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS + SHAPER_PAUSE_NS);
	assert_int_equal(shaper_allow(&shaper, START_NS + 99999), 0);
	assert_int_equal(shaper_allow(&shaper, START_NS + 100000), 1024);
	shaper_spent(&shaper, 1024, START_NS + 100000);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS + 100000), START_NS + 102500000);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS + 200000), START_NS + 102500000);

	shaper_init(&shaper, 100); /* less than a piece in a second */
	shaper_spent(&shaper, 100, START_NS);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS + NS_PER_S);
	assert_int_equal(shaper_allow(&shaper, START_NS + NS_PER_S), 100);

	shaper_init(&shaper, 3); /* what cannot be divided is rounded to the later */
	shaper_spent(&shaper, 1, START_NS);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS + 333333334);
}

static void test_more_than_allowed_is_owed(void **state)
{
	(void)state;
	struct shaper shaper;

	shaper_init(&shaper, 1000000);
	shaper_spent(&shaper, 100000 + 2000000, START_NS);
	assert_int_equal(shaper_allow(&shaper, START_NS), 0);
	assert_int_equal(shaper_allow(&shaper, START_NS + 2 * NS_PER_S), 0);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS + 2 * NS_PER_S + 10 * NS_PER_MS);
	assert_int_equal(shaper_allow(&shaper, START_NS + 2 * NS_PER_S + 10 * NS_PER_MS), 10000);
	for (int i = 0; i < 10; i++)
		shaper_spent(&shaper, UINT64_MAX, START_NS + 3 * NS_PER_S);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS + 3 * NS_PER_S), START_NS + 4003 * NS_PER_S + 10 * NS_PER_MS);
	shaper_init(&shaper, 1);
	shaper_spent(&shaper, UINT64_MAX, START_NS);
	shaper_spent(&shaper, UINT64_MAX, START_NS);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS + UINT64_C(4000000001) * NS_PER_S);
	assert_int_equal(shaper_allow(&shaper, START_NS + 100 * YEAR_NS), 0);
	assert_int_equal(shaper_allow(&shaper, START_NS + 200 * YEAR_NS), 1);
}

static void test_without_limit(void **state)
{
	(void)state;
	struct shaper shaper;

	shaper_init(&shaper, 0);
	assert_true(shaper_allow(&shaper, START_NS) == SHAPER_NO_LIMIT);
	shaper_spent(&shaper, UINT64_MAX, START_NS);
	assert_true(shaper_allow(&shaper, START_NS) == SHAPER_NO_LIMIT);
	assert_int_equal(shaper_ready_ns(&shaper, START_NS), START_NS);
	/* the most that a rate can be */
	shaper_init(&shaper, INT64_MAX);
	for (int i = 0; i < 100; i++) {
		uint64_t now = START_NS + (uint64_t)i;
		assert_int_equal(shaper_allow(&shaper, now), 1000000000);
		shaper_spent(&shaper, 1000000000, now);
	}
	assert_true(sizeof shaper <= 24);
}

static void test_time_that_stands_still_or_goes_back(void **state)
{
	(void)state;
	struct shaper shaper;

	shaper_init(&shaper, 1000000);
	shaper_spent(&shaper, 100000, START_NS);
	assert_int_equal(shaper_allow(&shaper, START_NS - NS_PER_S), 0);
	assert_int_equal(shaper_allow(&shaper, START_NS), 0);
	assert_int_equal(shaper_allow(&shaper, START_NS + 20 * NS_PER_MS), 20000);
	assert_int_equal(shaper_allow(&shaper, START_NS), 20000);
	assert_int_equal(shaper_allow(&shaper, START_NS + 20 * NS_PER_MS), 20000);
}

/* --- the guard ----------------------------------------------------------------------------------------------------------- */

/* A peer that owes all the time and moves so many bytes every 100 ms. When it is found slow, after START_NS, or 0. */
static uint64_t found_ns(uint64_t per_step, uint64_t min_rate, uint64_t seconds)
{
	struct rate_guard guard;

	rate_guard_init(&guard);
	rate_guard_owes(&guard, true, START_NS);
	for (uint64_t at = NS_PER_S / 10; at <= seconds * NS_PER_S; at += NS_PER_S / 10) {
		rate_guard_moved(&guard, per_step);
		if (START_NS + at < rate_guard_due_ns(&guard))
			assert_false(rate_guard_slow(&guard, min_rate, START_NS + at));
		else if (rate_guard_slow(&guard, min_rate, START_NS + at))
			return at;
	}
	return 0;
}

static void test_slow_after_grace_and_window(void **state)
{
	(void)state;
	const uint64_t first = RATE_GUARD_GRACE_NS + RATE_GUARD_WINDOW_NS;

	assert_int_equal(found_ns(100, 1000, 3600), 0);
	assert_int_equal(found_ns(99, 1000, 3600), first + RATE_GUARD_WINDOW_NS); /* what it did in the grace let it pass the first time */
	assert_int_equal(found_ns(0, 1000, 3600), first);
	assert_int_equal(found_ns(0, 1, 3600), first);
	assert_int_equal(found_ns(40, 1000, 3600), first);
	assert_int_equal(found_ns(0, 0, 3600), 0);
	assert_int_equal(found_ns(UINT64_C(1) << 60, 1000, 3600), 0);
	assert_int_equal(found_ns(1000, UINT64_MAX, 3600), first);
}

static void test_time_of_others_does_not_count(void **state)
{
	(void)state;
	struct rate_guard guard;
	uint64_t now = START_NS;

	rate_guard_init(&guard);
	assert_true(rate_guard_due_ns(&guard) == RATE_GUARD_NEVER);
	assert_false(rate_guard_slow(&guard, 1000, now + YEAR_NS));
	/* it owes for 1 s of every hour, and moves nothing */
	for (int i = 0; i < 9; i++, now += 3600 * NS_PER_S) {
		rate_guard_owes(&guard, true, now);
		assert_int_equal(rate_guard_due_ns(&guard), now + (uint64_t)(10 - i) * NS_PER_S);
		assert_false(rate_guard_slow(&guard, 1000, now + NS_PER_S / 2));
		rate_guard_owes(&guard, true, now + NS_PER_S / 2);
		rate_guard_owes(&guard, false, now + NS_PER_S);
		rate_guard_owes(&guard, false, now + 2 * NS_PER_S);
		assert_true(rate_guard_due_ns(&guard) == RATE_GUARD_NEVER);
		assert_false(rate_guard_slow(&guard, 1000, now + 3599 * NS_PER_S));
	}
	rate_guard_owes(&guard, true, now);
	assert_int_equal(rate_guard_due_ns(&guard), now + NS_PER_S);
	assert_false(rate_guard_slow(&guard, 1000, now + NS_PER_S - 1));
	assert_true(rate_guard_slow(&guard, 1000, now + NS_PER_S));
}

static void test_each_window_for_itself(void **state)
{
	(void)state;
	struct rate_guard guard;
	uint64_t now = START_NS + RATE_GUARD_GRACE_NS + RATE_GUARD_WINDOW_NS;

	rate_guard_init(&guard);
	rate_guard_owes(&guard, true, START_NS);
	rate_guard_moved(&guard, UINT64_MAX);
	rate_guard_moved(&guard, UINT64_MAX);
	assert_false(rate_guard_slow(&guard, 1000, now));
	assert_int_equal(rate_guard_due_ns(&guard), now + RATE_GUARD_WINDOW_NS);
	rate_guard_moved(&guard, 5000);
	assert_false(rate_guard_slow(&guard, 1000, now + RATE_GUARD_WINDOW_NS));
	rate_guard_moved(&guard, 4999);
	assert_false(rate_guard_slow(&guard, 1000, now + 2 * RATE_GUARD_WINDOW_NS - 1));
	assert_true(rate_guard_slow(&guard, 1000, now + 2 * RATE_GUARD_WINDOW_NS));
}

static void test_who_looks_late_blames_nobody(void **state)
{
	(void)state;
	struct rate_guard guard;
	uint64_t due = START_NS + RATE_GUARD_GRACE_NS + RATE_GUARD_WINDOW_NS;

	rate_guard_init(&guard);
	rate_guard_owes(&guard, true, START_NS);
	assert_false(rate_guard_slow(&guard, 1000, due + RATE_GUARD_LATE_NS + 1));
	due += RATE_GUARD_LATE_NS + 1 + RATE_GUARD_WINDOW_NS;
	assert_int_equal(rate_guard_due_ns(&guard), due);
	/* a little late the rate counts, not the sum */
	rate_guard_moved(&guard, 5999);
	assert_true(rate_guard_slow(&guard, 1000, due + RATE_GUARD_LATE_NS));
	assert_true(rate_guard_due_ns(&guard) <= due + RATE_GUARD_LATE_NS);
	rate_guard_moved(&guard, 1);
	assert_false(rate_guard_slow(&guard, 1000, due + RATE_GUARD_LATE_NS));
	assert_false(rate_guard_slow(&guard, 1000, due + YEAR_NS));
	uint64_t next = rate_guard_due_ns(&guard);
	assert_false(rate_guard_slow(&guard, 1000, due)); /* time went back */
	assert_int_equal(rate_guard_due_ns(&guard), next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_run),
		cmocka_unit_test(test_no_stretch_has_more_than_the_bucket),
		cmocka_unit_test(test_a_piece_gathers_first),
		cmocka_unit_test(test_more_than_allowed_is_owed),
		cmocka_unit_test(test_without_limit),
		cmocka_unit_test(test_time_that_stands_still_or_goes_back),
		cmocka_unit_test(test_slow_after_grace_and_window),
		cmocka_unit_test(test_time_of_others_does_not_count),
		cmocka_unit_test(test_each_window_for_itself),
		cmocka_unit_test(test_who_looks_late_blames_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
