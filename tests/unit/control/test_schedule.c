#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "control/schedule.h"

#define START_NS (1000 * NS_PER_S)
#define TICK_NS (UINT64_C(1) << WHEEL_TICK_SHIFT)

enum { MANY = 1000 };

static struct schedule schedule;
static struct schedule_entry entries[MANY];
static unsigned overdue_calls;
static struct schedule_entry *last_overdue;
static uint64_t now_ns;

static void begin(unsigned max_in_flight, uint64_t seed)
{
	memset(entries, 0, sizeof entries);
	overdue_calls = 0;
	now_ns = START_NS;
	schedule_init(&schedule, now_ns, max_in_flight, seed);
}

static struct schedule_entry *add(int i, uint64_t interval_ns, uint64_t fast_interval_ns, uint64_t timeout_ns)
{
	entries[i].interval_ns = interval_ns;
	entries[i].fast_interval_ns = fast_interval_ns;
	entries[i].timeout_ns = timeout_ns;
	schedule_add(&schedule, &entries[i]);
	return &entries[i];
}

/* Due one after the other: which of those that are due in one tick comes first is open. */
static void add_in_order(int i, uint64_t interval_ns, uint64_t timeout_ns)
{
	entries[i].first_ns = START_NS + (uint64_t)i * 2 * TICK_NS;
	add(i, interval_ns, 0, timeout_ns);
}

static void on_overdue(struct schedule_entry *entry, void *arg)
{
	assert_ptr_equal(arg, &overdue_calls);
	assert_int_equal(entry->state, SCHEDULE_IN_FLIGHT);
	overdue_calls++;
	last_overdue = entry;
	schedule_done(&schedule, entry, now_ns);
}

static void advance_to(uint64_t ns)
{
	assert_true(ns >= now_ns);
	now_ns = ns;
	schedule_advance(&schedule, now_ns, on_overdue, &overdue_calls);
}

/* On to the next thing to do, as the loop does it: no event is ever missed by sleeping until then. */
static struct schedule_entry *take_next(void)
{
	for (;;) {
		uint64_t next_ns = schedule_next_ns(&schedule);
		assert_true(next_ns != WHEEL_NEVER);
		advance_to(next_ns > now_ns ? next_ns : now_ns);
		struct schedule_entry *entry = schedule_take(&schedule, now_ns);
		if (entry)
			return entry;
	}
}

/* How many checks start in each 10 ms. */
static void count_starts(unsigned n, uint64_t span_ns, unsigned *buckets, size_t n_buckets)
{
	for (unsigned i = 0; i < n; i++) {
		struct schedule_entry *entry = take_next();
		size_t bucket = (now_ns - START_NS) / (10 * NS_PER_MS);
		assert_in_range(now_ns - START_NS, 0, span_ns + TICK_NS);
		assert_true(bucket < n_buckets);
		buckets[bucket]++;
		schedule_done(&schedule, entry, now_ns);
	}
}

static void test_first_checks_are_spread(void **state)
{
	unsigned buckets[110] = { 0 }, busy = 0;

	(void)state;
	begin(256, 1);
	for (int i = 0; i < MANY; i++)
		add(i, 5 * NS_PER_S, 5 * NS_PER_S, NS_PER_S);
	count_starts(MANY, NS_PER_S, buckets, ARRAY_LEN(buckets));
	for (size_t i = 0; i < ARRAY_LEN(buckets); i++) {
		assert_in_range(buckets[i], 0, 15); /* 10, and what a tick of 4.2 ms moves from one to the next */
		busy += buckets[i] > 0;
	}
	assert_in_range(busy, 100, 101);
}

static void test_first_checks_are_made_within_a_short_interval(void **state)
{
	unsigned buckets[11] = { 0 };

	(void)state;
	begin(256, 1);
	for (int i = 0; i < 200; i++)
		add(i, 100 * NS_PER_MS, 100 * NS_PER_MS, NS_PER_S);
	count_starts(200, 100 * NS_PER_MS, buckets, ARRAY_LEN(buckets));
	for (size_t i = 0; i < 10; i++)
		assert_in_range(buckets[i], 10, 30);
}

static void test_a_few_first_checks_are_made_soon(void **state)
{
	unsigned buckets[3] = { 0 };

	(void)state;
	begin(256, 1);
	for (int i = 0; i < 20; i++)
		add(i, 5 * NS_PER_S, 5 * NS_PER_S, NS_PER_S);
	count_starts(20, 20 * NS_PER_MS, buckets, ARRAY_LEN(buckets));
	assert_in_range(buckets[0], 5, 15);
}

static void test_a_first_check_may_be_put_off(void **state)
{
	(void)state;
	begin(256, 1);
	entries[0].first_ns = START_NS + 2 * NS_PER_S;
	add(0, 5 * NS_PER_S, 0, NS_PER_S);
	assert_ptr_equal(take_next(), &entries[0]);
	assert_in_range(now_ns - START_NS, 2 * NS_PER_S, 2 * NS_PER_S + TICK_NS);
	begin(256, 1);
	entries[0].first_ns = UINT64_MAX;
	add(0, 5 * NS_PER_S, 0, NS_PER_S);
	assert_ptr_equal(take_next(), &entries[0]);
	assert_in_range(now_ns - START_NS, 5 * NS_PER_S, 5 * NS_PER_S + TICK_NS);
}

static void test_the_first_one_of_all_starts_at_once(void **state)
{
	(void)state;
	begin(1, 1);
	add(0, 3600 * NS_PER_S, 0, NS_PER_S);
	assert_int_equal(schedule_next_ns(&schedule), 0);
	assert_ptr_equal(take_next(), &entries[0]);
	assert_in_range(now_ns - START_NS, 0, TICK_NS);
}

static void test_later_checks_have_jitter(void **state)
{
	uint64_t least_ns = UINT64_MAX, most_ns = 0, sum_ns = 0;

	(void)state;
	begin(1, 7);
	add(0, NS_PER_S, NS_PER_S, NS_PER_S);
	struct schedule_entry *entry = take_next();
	for (int i = 0; i < 1000; i++) {
		uint64_t started_ns = now_ns;
		schedule_done(&schedule, entry, now_ns + 3 * NS_PER_MS); /* how long it took does not matter */
		entry = take_next();
		uint64_t gap_ns = now_ns - started_ns;
		least_ns = gap_ns < least_ns ? gap_ns : least_ns;
		most_ns = gap_ns > most_ns ? gap_ns : most_ns;
		sum_ns += gap_ns;
	}
	assert_in_range(least_ns, 900 * NS_PER_MS, 910 * NS_PER_MS);
	assert_in_range(most_ns, 1090 * NS_PER_MS, 1100 * NS_PER_MS + TICK_NS);
	assert_in_range(sum_ns / 1000, 990 * NS_PER_MS, 1010 * NS_PER_MS + TICK_NS);
}

static void test_a_seed_gives_the_same_times(void **state)
{
	uint64_t times[3][20];
	static const uint64_t seeds[3] = { 5, 5, 6 };

	(void)state;
	for (int round = 0; round < 3; round++) {
		begin(1, seeds[round]);
		add(0, 60 * NS_PER_S, 0, NS_PER_S);
		for (int i = 0; i < 20; i++) {
			schedule_done(&schedule, take_next(), now_ns);
			times[round][i] = now_ns;
		}
	}
	assert_memory_equal(times[0], times[1], sizeof times[0]);
	assert_memory_not_equal(times[0], times[2], sizeof times[0]);
}

static void test_not_more_than_allowed_in_flight_and_in_order(void **state)
{
	(void)state;
	begin(3, 1);
	for (int i = 0; i < 10; i++)
		add_in_order(i, NS_PER_S, 3600 * NS_PER_S);
	advance_to(START_NS);
	advance_to(START_NS + 2 * NS_PER_S); /* all are due */
	struct schedule_entry *flying[10];
	for (int i = 0; i < 3; i++)
		flying[i] = schedule_take(&schedule, now_ns);
	assert_null(schedule_take(&schedule, now_ns));
	assert_true(schedule_next_ns(&schedule) > now_ns); /* no reason to look again before one ends */
	for (int i = 3; i < 10; i++) {
		schedule_done(&schedule, flying[i - 3], now_ns);
		assert_int_equal(schedule_next_ns(&schedule), 0);
		flying[i] = schedule_take(&schedule, now_ns);
		assert_null(schedule_take(&schedule, now_ns));
	}
	for (int i = 0; i < 10; i++)
		assert_ptr_equal(flying[i], &entries[i]);
	assert_int_equal(schedule.in_flight, 3);
}

/* Even when the check takes many intervals. */
static void test_never_two_of_one(void **state)
{
	(void)state;
	begin(10, 1);
	add(0, 10 * NS_PER_MS, 0, NS_PER_S);
	struct schedule_entry *entry = take_next();
	for (int i = 0; i < 90; i++) {
		advance_to(now_ns + 10 * NS_PER_MS);
		assert_null(schedule_take(&schedule, now_ns));
	}
	schedule_done(&schedule, entry, now_ns);
	advance_to(now_ns + TICK_NS); /* it is late: at once */
	assert_ptr_equal(schedule_take(&schedule, now_ns), entry);
	assert_int_equal(overdue_calls, 0);
}

static void test_overdue(void **state)
{
	(void)state;
	begin(10, 1);
	add(0, 10 * NS_PER_S, 0, 2 * NS_PER_S);
	struct schedule_entry *entry = take_next();
	uint64_t started_ns = now_ns;
	advance_to(started_ns + 2 * NS_PER_S - 1);
	assert_int_equal(overdue_calls, 0);
	advance_to(started_ns + 2 * NS_PER_S + TICK_NS);
	assert_int_equal(overdue_calls, 1);
	assert_ptr_equal(last_overdue, entry);
	assert_int_equal(entry->state, SCHEDULE_WAITING);
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 9 * NS_PER_S, 11 * NS_PER_S + TICK_NS);
}

/* The time of a check that waits for its turn has not begun. */
static void test_waiting_for_a_turn_is_not_overdue(void **state)
{
	(void)state;
	begin(1, 1);
	add_in_order(0, NS_PER_S, 10 * NS_PER_S);
	add_in_order(1, NS_PER_S, NS_PER_S);
	struct schedule_entry *first = take_next();
	assert_ptr_equal(first, &entries[0]);
	advance_to(now_ns + 5 * NS_PER_S);
	assert_int_equal(overdue_calls, 0);
	schedule_done(&schedule, first, now_ns);
	uint64_t started_ns = now_ns;
	assert_ptr_equal(schedule_take(&schedule, now_ns), &entries[1]);
	advance_to(started_ns + NS_PER_S - 1);
	assert_int_equal(overdue_calls, 0);
	advance_to(started_ns + NS_PER_S + TICK_NS);
	assert_int_equal(overdue_calls, 1);
}

static void test_hurry(void **state)
{
	(void)state;
	begin(1, 1);
	struct schedule_entry *entry = add(0, 60 * NS_PER_S, NS_PER_S, NS_PER_S);
	schedule_done(&schedule, take_next(), now_ns);
	uint64_t started_ns = now_ns;
	schedule_hurry(&schedule, entry, true, now_ns); /* what waits is moved forward */
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 900 * NS_PER_MS, 1100 * NS_PER_MS + TICK_NS);
	started_ns = now_ns;
	schedule_done(&schedule, entry, now_ns);
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 900 * NS_PER_MS, 1100 * NS_PER_MS + TICK_NS);
	started_ns = now_ns;
	schedule_hurry(&schedule, entry, false, now_ns);
	schedule_done(&schedule, entry, now_ns);
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 54 * NS_PER_S, 66 * NS_PER_S + TICK_NS);
	/* and late: it is due at once, not in the past */
	schedule_done(&schedule, entry, now_ns);
	advance_to(now_ns + 20 * NS_PER_S);
	schedule_hurry(&schedule, entry, true, now_ns);
	started_ns = now_ns;
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 0, TICK_NS);
}

static void test_a_fast_interval_that_is_slower_does_not_count(void **state)
{
	(void)state;
	begin(1, 1);
	struct schedule_entry *entry = add(0, NS_PER_S, 60 * NS_PER_S, NS_PER_S);
	schedule_hurry(&schedule, entry, true, now_ns);
	schedule_done(&schedule, take_next(), now_ns);
	uint64_t started_ns = now_ns;
	assert_ptr_equal(take_next(), entry);
	assert_in_range(now_ns - started_ns, 900 * NS_PER_MS, 1100 * NS_PER_MS + TICK_NS);
}

static void test_remove_in_every_state(void **state)
{
	(void)state;
	begin(1, 1);
	for (int i = 0; i < 6; i++)
		add_in_order(i, NS_PER_S, NS_PER_S);
	schedule_remove(&schedule, &entries[5]); /* the last of the fresh ones */
	schedule_remove(&schedule, &entries[0]); /* and the first */
	add(5, NS_PER_S, 0, NS_PER_S);
	advance_to(START_NS);
	schedule_remove(&schedule, &entries[5]); /* waiting */
	advance_to(START_NS + 900 * NS_PER_MS);  /* 1 to 4 are ready */
	assert_ptr_equal(schedule_take(&schedule, now_ns), &entries[1]);
	schedule_remove(&schedule, &entries[4]);
	schedule_remove(&schedule, &entries[2]);
	assert_null(schedule_take(&schedule, now_ns));
	schedule_remove(&schedule, &entries[1]); /* in flight */
	assert_int_equal(schedule.in_flight, 0);
	assert_ptr_equal(schedule_take(&schedule, now_ns), &entries[3]);
	schedule_remove(&schedule, &entries[3]);
	advance_to(START_NS + 10 * NS_PER_S);
	assert_null(schedule_take(&schedule, now_ns));
	assert_int_equal(schedule_next_ns(&schedule), WHEEL_NEVER);
	assert_int_equal(overdue_calls, 0);
	for (int i = 0; i < 6; i++)
		assert_int_equal(entries[i].state, SCHEDULE_OUT);
}

/* Ten minutes of a thousand targets, some slow, some removed and added again: the invariants hold throughout. */
static void test_a_long_time(void **state)
{
	struct schedule_entry *flying[20];
	unsigned n_flying = 0, starts = 0;
	uint64_t random = 42, last_ns[MANY] = { 0 };

	(void)state;
	begin(ARRAY_LEN(flying), 3);
	for (int i = 0; i < MANY; i++)
		add(i, 30 * NS_PER_S, NS_PER_S, 10 * NS_PER_S);
	while (now_ns < START_NS + 600 * NS_PER_S) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		advance_to(now_ns + random % (2 * TICK_NS));
		unsigned kept = 0;
		for (unsigned i = 0; i < n_flying; i++) /* but for those that were overdue */
			if (flying[i]->state == SCHEDULE_IN_FLIGHT)
				flying[kept++] = flying[i];
		n_flying = kept;
		assert_int_equal(n_flying, schedule.in_flight);
		if (n_flying > 0 && (random >> 33) % 4 != 0) {
			size_t i = (random >> 40) % n_flying;
			if ((flying[i] - entries) % 50 != 0) { /* those never answer */
				schedule_done(&schedule, flying[i], now_ns);
				flying[i] = flying[--n_flying];
			}
		}
		if ((random >> 50) % 16 == 0) {
			struct schedule_entry *entry = &entries[(random >> 35) % MANY];
			if (entry->state != SCHEDULE_IN_FLIGHT) {
				schedule_remove(&schedule, entry);
				schedule_add(&schedule, entry);
				last_ns[entry - entries] = 0;
			}
		}
		for (struct schedule_entry *entry; (entry = schedule_take(&schedule, now_ns)) != NULL; starts++) {
			uint64_t *last = &last_ns[entry - entries];
			assert_true(n_flying < ARRAY_LEN(flying));
			assert_true(*last == 0 || now_ns - *last >= 27 * NS_PER_S);
			*last = now_ns;
			flying[n_flying++] = entry;
		}
	}
	assert_true(starts > 15 * MANY);
	assert_true(overdue_calls > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_checks_are_spread),
		cmocka_unit_test(test_first_checks_are_made_within_a_short_interval),
		cmocka_unit_test(test_a_few_first_checks_are_made_soon),
		cmocka_unit_test(test_a_first_check_may_be_put_off),
		cmocka_unit_test(test_the_first_one_of_all_starts_at_once),
		cmocka_unit_test(test_later_checks_have_jitter),
		cmocka_unit_test(test_a_seed_gives_the_same_times),
		cmocka_unit_test(test_not_more_than_allowed_in_flight_and_in_order),
		cmocka_unit_test(test_never_two_of_one),
		cmocka_unit_test(test_overdue),
		cmocka_unit_test(test_waiting_for_a_turn_is_not_overdue),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_a_fast_interval_that_is_slower_does_not_count),
		cmocka_unit_test(test_remove_in_every_state),
		cmocka_unit_test(test_a_long_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
