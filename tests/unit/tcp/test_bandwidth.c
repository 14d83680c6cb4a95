/* What connections may move, with virtual time: the turns of a worker come every 4 ms, as its timers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "tcp/bandwidth.h"

#define KB UINT64_C(1000)
#define MB UINT64_C(1000000)
#define TURN_NS (4 * NS_PER_MS)

static const uint64_t start_ns = 1000 * NS_PER_S;

enum { MANY = 1000 };

struct street {
	struct shm_listener *shared;
	struct listener_config config;
	struct bandwidth bandwidth;
	struct lane lanes[MANY];
	uint64_t moved[MANY], all;
	uint64_t now_ns;
	unsigned asked; /* how often nothing was allowed */
};

static int set_up(void **state)
{
	struct street *street = calloc(1, sizeof *street);
	assert_non_null(street);
	street->shared = aligned_alloc(CACHE_LINE_BYTES, sizeof *street->shared);
	assert_non_null(street->shared);
	memset(street->shared, 0, sizeof *street->shared);
	street->now_ns = start_ns;
	*state = street;
	return 0;
}

static int tear_down(void **state)
{
	struct street *street = *state;
	free(street->shared);
	free(street);
	return 0;
}

static const struct bandwidth_way *up(const struct street *street)
{
	return &street->bandwidth.from[SIDE_CLIENT];
}

static void limit(struct street *street, uint64_t bytes_per_s, enum bandwidth_per per)
{
	street->config.bandwidth.up_bytes_per_s = bytes_per_s;
	street->config.bandwidth.per = per;
	bandwidth_init(&street->bandwidth, &street->config, street->shared);
	for (unsigned i = 0; i < MANY; i++)
		lane_init(&street->lanes[i], up(street));
	memset(street->moved, 0, sizeof street->moved);
	street->all = 0;
}

/* One connection that has `unread` bytes in each of its turns: what it moves in a turn. */
static void turn(struct street *street, unsigned i, uint64_t unread)
{
	struct lane *lane = &street->lanes[i];
	if (lane->due_ns != LANE_NOT_PAUSED && !lane_resume(lane, street->now_ns))
		return;
	for (uint64_t budget = RELAY_TURN_BYTES; budget > 0 && unread > 0;) {
		uint64_t bytes = lane_allow(lane, up(street), unread, street->now_ns);
		if (bytes == 0) {
			assert_true(lane->due_ns > street->now_ns);
			assert_true(lane->due_ns < street->now_ns + 3 * NS_PER_S);
			street->asked++;
			return;
		}
		if (bytes > unread)
			bytes = unread;
		if (bytes > budget)
			bytes = budget;
		lane_moved(lane, up(street), bytes, bytes == unread, street->now_ns);
		street->moved[i] += bytes;
		street->all += bytes;
		budget -= bytes;
		unread -= bytes;
	}
}

/* Nobody is always the first one. */
static void run(struct street *street, unsigned connections, uint64_t unread, uint64_t for_ns)
{
	unsigned first = 0;
	for (uint64_t end_ns = street->now_ns + for_ns; street->now_ns < end_ns; street->now_ns += TURN_NS, first += 7)
		for (unsigned i = 0; i < connections; i++)
			turn(street, (first + i) % connections, unread);
}

static uint64_t burst(uint64_t bytes_per_s)
{
	uint64_t least = bytes_per_s < 4096 ? bytes_per_s : 4096;
	return bytes_per_s / 10 > least ? bytes_per_s / 10 : least;
}

static void test_no_limit(void **state)
{
	struct street *street = *state;
	limit(street, 0, BANDWIDTH_PER_CONNECTION);
	assert_false(bandwidth_is_limited(&street->bandwidth));
	assert_true(lane_allow(&street->lanes[0], up(street), 1, start_ns) == SHAPER_NO_LIMIT);
	limit(street, 0, BANDWIDTH_PER_LISTENER);
	assert_true(lane_allow(&street->lanes[0], up(street), 1, start_ns) == SHAPER_NO_LIMIT);
	street->config.bandwidth.down_bytes_per_s = 1;
	limit(street, 0, BANDWIDTH_PER_LISTENER);
	assert_true(bandwidth_is_limited(&street->bandwidth));
}

static const uint64_t rates[] = { 1 * KB, 100 * KB, 1 * MB, 10 * MB, 50 * MB };

static void test_each_by_itself(void **state)
{
	struct street *street = *state;
	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		limit(street, rates[i], BANDWIDTH_PER_CONNECTION);
		run(street, 3, 10 * MB, 20 * NS_PER_S);
		for (unsigned j = 0; j < 3; j++)
			assert_in_range(street->moved[j], rates[i] * 19, rates[i] * 20 + burst(rates[i]));
	}
}

static void test_one_has_all_of_the_listener(void **state)
{
	struct street *street = *state;
	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		limit(street, rates[i], BANDWIDTH_PER_LISTENER);
		street->now_ns += 10 * NS_PER_S;
		run(street, 1, 10 * MB, 20 * NS_PER_S);
		assert_in_range(street->all, rates[i] * 19, rates[i] * 20 + burst(rates[i]) + 1);
	}
}

static void test_many_share_evenly(void **state)
{
	struct street *street = *state;
	for (size_t i = 1; i < ARRAY_LEN(rates); i++) {
		limit(street, rates[i], BANDWIDTH_PER_LISTENER);
		street->now_ns += 10 * NS_PER_S;
		run(street, 10, 10 * MB, 20 * NS_PER_S);
		assert_in_range(street->all, rates[i] * 19, rates[i] * 20 + burst(rates[i]) + 1);
		for (unsigned j = 0; j < 10; j++)
			assert_in_range(street->moved[j], street->all / 10 * 8 / 10, street->all / 10 * 12 / 10);
	}
}

/* More than can book at a time: nobody has much more than others. */
static void test_a_crowd_shares(void **state)
{
	struct street *street = *state;
	limit(street, 1 * MB, BANDWIDTH_PER_LISTENER);
	run(street, MANY, 10 * MB, 2 * NS_PER_S); /* who comes first has the burst */
	memset(street->moved, 0, sizeof street->moved);
	street->all = street->asked = 0;
	run(street, MANY, 10 * MB, 60 * NS_PER_S);
	assert_in_range(street->all, 59 * MB, 60 * MB + burst(1 * MB) + 1);
	for (unsigned j = 0; j < MANY; j++)
		assert_in_range(street->moved[j], street->all / MANY * 6 / 10, street->all / MANY * 14 / 10);
	assert_true(street->asked < 60 * (1000 + 4 * MANY)); /* a second: who booked waits, who did not comes back later */
}

/* One that wants little gets it, whatever the others want. */
static void test_little_is_not_made_to_wait_long(void **state)
{
	struct street *street = *state;
	limit(street, 1 * MB, BANDWIDTH_PER_LISTENER);
	run(street, 10, 10 * MB, 5 * NS_PER_S);
	uint64_t waited_ns = 0;
	struct lane *lane = &street->lanes[10];
	while (lane_allow(lane, up(street), 100, street->now_ns) == 0) {
		run(street, 10, 10 * MB, TURN_NS);
		waited_ns += TURN_NS;
	}
	assert_in_range(waited_ns, 1, NS_PER_S / 4);
	lane_moved(lane, up(street), 100, true, street->now_ns);
	assert_int_equal(lane->booked, 0);
}

static void test_what_was_not_used_is_given_back(void **state)
{
	struct street *street = *state;
	limit(street, 100 * KB, BANDWIDTH_PER_LISTENER);
	uint64_t whole = street->bandwidth.from[SIDE_CLIENT].limit.most, got = 0;
	for (int i = 0; i < 1000; i++) { /* each leaves its piece unused but for one byte */
		assert_true(lane_allow(&street->lanes[0], up(street), 1024, start_ns) > 0);
		lane_moved(&street->lanes[0], up(street), 1, true, start_ns);
	}
	for (int i = 0; i < 5; i++) { /* or ends */
		assert_true(lane_allow(&street->lanes[i], up(street), 1024, start_ns) > 0);
		lane_fini(&street->lanes[i], up(street));
	}
	for (uint64_t bytes; (bytes = lane_allow(&street->lanes[0], up(street), 1, start_ns)) > 0; got += bytes)
		lane_moved(&street->lanes[0], up(street), bytes, false, start_ns);
	assert_int_equal(got, whole - 1000);
}

/* What lay unused for long is not a burst on top. */
static void test_stale_grants_are_no_burst(void **state)
{
	struct street *street = *state;
	limit(street, 100 * KB, BANDWIDTH_PER_LISTENER);
	for (unsigned i = 0; i < MANY; i++) { /* nobody uses it: their readers do not keep up */
		bool granted = lane_allow(&street->lanes[i], up(street), 1024, street->now_ns) > 0;
		street->now_ns += NS_PER_S;
		assert_true(granted || lane_resume(&street->lanes[i], street->now_ns));
	}
	run(street, MANY, 1024, NS_PER_S);
	assert_in_range(street->all, 90 * KB, 100 * KB + burst(100 * KB) + 1);
}

/* Bytes that came unasked count all the same. */
static void test_unasked(void **state)
{
	struct street *street = *state;
	limit(street, 100 * KB, BANDWIDTH_PER_LISTENER);
	lane_moved(&street->lanes[0], up(street), 5000, true, street->now_ns);
	run(street, 1, 10 * MB, NS_PER_S);
	assert_in_range(street->all, 95 * KB, 95 * KB + burst(100 * KB) + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_limit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_has_all_of_the_listener, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_share_evenly, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_crowd_shares, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_little_is_not_made_to_wait_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_was_not_used_is_given_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stale_grants_are_no_burst, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unasked, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
