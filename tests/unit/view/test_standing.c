#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "view/standing.h"

#define NOW_NS (1000 * NS_PER_S)

static const struct health_limits once = { .rise = 1, .fall = 1 };
static struct shm_upstream upstream;
static struct shm_server server;
static struct standing standing;

/* All that a shield has, at a server of weight 100 of which nothing is known. */
static int setup(void **state)
{
	(void)state;
	memset((void *)&upstream, 0, sizeof upstream);
	memset((void *)&server, 0, sizeof server);
	upstream.is_checked = 1;
	upstream.breaker_threshold = 1;
	upstream.breaker_probes = 2;
	upstream.breaker_timeout_ns = 30 * NS_PER_S;
	upstream.outlier_failures = 1;
	upstream.slow_start_ns = 10 * NS_PER_S;
	server.weight = 100;
	return 0;
}

static struct condition_rules rules(void)
{
	static struct ejection *members[1];
	members[0] = &server.condition.ejection;
	return (struct condition_rules){ .breaker = { .error_threshold = upstream.breaker_threshold,
		                                 .probes = upstream.breaker_probes,
		                                 .timeout_ns = upstream.breaker_timeout_ns },
		.outlier = { .failures = upstream.outlier_failures, .max_percent = 100, .ejection_ns = 20 * NS_PER_S },
		.health = once,
		.is_checked = true,
		.slow_start_ns = upstream.slow_start_ns,
		.group = { members, 1 } };
}

static void check(enum health_result result, uint64_t at_ns)
{
	const struct condition_rules all = rules();
	condition_checked(&server.condition, &all, &(struct health_check){ .result = result, .latency_ns = 5 * NS_PER_MS }, at_ns);
}

/* A connection that fails, or not. */
static void report(bool ok, uint64_t at_ns)
{
	const struct condition_rules all = rules();
	struct breaker_pass pass;
	assert_int_not_equal(condition_ask(&server.condition, &all, at_ns, &pass), BREAKER_REFUSE);
	condition_report(&server.condition, &all, &pass, ok, at_ns);
}

static void set_override(enum override_mode mode)
{
	const struct condition_rules all = rules();
	condition_set_override(&server.condition, &all, (struct override){ .mode = mode });
}

static void expect(enum standing_state state, bool is_usable, uint64_t now_ns)
{
	standing_make(&standing, &server, &upstream, now_ns);
	assert_string_equal(standing_name(standing.state), standing_name(state));
	assert_int_equal(standing.is_usable, is_usable);
}

static void test_nothing_known(void **state)
{
	(void)state;
	expect(STANDING_UNKNOWN, true, NOW_NS);
	assert_int_equal(standing.health, HEALTH_UNKNOWN);
	assert_true(standing.is_checked);
	assert_true(standing.checked_ago_ns == STANDING_NEVER && standing.health_changed_ago_ns == STANDING_NEVER);
	assert_true(standing.recovered_ago_ns == STANDING_NEVER);
	assert_int_equal(standing.weight_now, 100);
	assert_int_equal(standing.slow_start_percent, 100);
	server.weight = 0;
	expect(STANDING_UNKNOWN, false, NOW_NS);
}

static void test_checks(void **state)
{
	(void)state;
	check(HEALTH_RESULT_OK, NOW_NS - 7 * NS_PER_S);
	check(HEALTH_RESULT_OK, NOW_NS - 2 * NS_PER_S);
	/* It was never down: no slow start. */
	expect(STANDING_UP, true, NOW_NS);
	assert_int_equal(standing.last.result, HEALTH_RESULT_OK);
	assert_int_equal(standing.last.latency_ns, 5 * NS_PER_MS);
	assert_int_equal(standing.checked_ago_ns, 2 * NS_PER_S);
	assert_int_equal(standing.health_changed_ago_ns, 7 * NS_PER_S);
	assert_int_equal(standing.checks_passed, 2);
	check(HEALTH_RESULT_TIMEOUT, NOW_NS - NS_PER_S);
	expect(STANDING_DOWN, false, NOW_NS);
	assert_int_equal(standing.checks_failed, 1);
	/* A worker may be ahead of us. */
	standing_make(&standing, &server, &upstream, NOW_NS - 5 * NS_PER_S);
	assert_int_equal(standing.checked_ago_ns, 0);
	/* No longer checked: what the last one said does not count. */
	upstream.is_checked = 0;
	expect(STANDING_UNKNOWN, true, NOW_NS);
	assert_int_equal(standing.last.result, HEALTH_RESULT_NONE);
	assert_true(standing.checked_ago_ns == STANDING_NEVER);
	assert_int_equal(standing.checks_failed, 1);
	/* Nor without an upstream. */
	standing_make(&standing, &server, NULL, NOW_NS);
	assert_int_equal(standing.state, STANDING_UNKNOWN);
	assert_true(standing.is_usable);
}

static void test_slow_start(void **state)
{
	(void)state;
	check(HEALTH_RESULT_REFUSED, NOW_NS - 8 * NS_PER_S);
	check(HEALTH_RESULT_OK, NOW_NS - 5 * NS_PER_S);
	expect(STANDING_SLOW_START, true, NOW_NS);
	/* From a tenth on, half of the way: 10 + 90 / 2. */
	assert_int_equal(standing.slow_start_percent, 55);
	assert_int_equal(standing.weight_now, 55);
	assert_int_equal(standing.recovered_ago_ns, 5 * NS_PER_S);
	/* In steps of a tenth. */
	expect(STANDING_SLOW_START, true, NOW_NS + 900 * NS_PER_MS);
	assert_int_equal(standing.weight_now, 55);
	expect(STANDING_SLOW_START, true, NOW_NS + NS_PER_S);
	assert_int_equal(standing.weight_now, 64);
	expect(STANDING_UP, true, NOW_NS + 5 * NS_PER_S);
	assert_int_equal(standing.weight_now, 100);
	upstream.slow_start_ns = 0;
	expect(STANDING_UP, true, NOW_NS);
}

static void test_breaker(void **state)
{
	(void)state;
	upstream.outlier_failures = 0;
	check(HEALTH_RESULT_OK, NOW_NS);
	report(false, NOW_NS);
	expect(STANDING_BREAKER_OPEN, false, NOW_NS);
	assert_int_equal(standing.breaker, BREAKER_OPEN);
	assert_int_equal(standing.trips, 1);
	/* Over, but nobody has come to probe it: open, although it lets one in. */
	const uint64_t later_ns = NOW_NS + 30 * NS_PER_S;
	expect(STANDING_BREAKER_OPEN, true, later_ns);
	report(true, later_ns);
	expect(STANDING_BREAKER_HALF_OPEN, true, later_ns);
	report(true, later_ns);
	expect(STANDING_SLOW_START, true, later_ns);
	assert_int_equal(standing.slow_start_percent, 10);
	assert_int_equal(standing.breaker, BREAKER_CLOSED);
	assert_int_equal(standing.trips, 1);
	/* Switched off while open. */
	report(false, later_ns);
	upstream.breaker_threshold = 0;
	expect(STANDING_UP, true, later_ns + 20 * NS_PER_S);
	assert_int_equal(standing.breaker, BREAKER_CLOSED);
	assert_int_equal(standing.trips, 2);
}

static void test_all_probes_taken(void **state)
{
	(void)state;
	const struct condition_rules all = rules();
	struct breaker_pass pass;
	report(false, NOW_NS);
	const uint64_t later_ns = NOW_NS + 30 * NS_PER_S;
	for (int i = 0; i < 2; i++)
		assert_int_equal(condition_ask(&server.condition, &all, later_ns, &pass), BREAKER_PROBE);
	expect(STANDING_BREAKER_HALF_OPEN, false, later_ns);
}

static void test_ejection(void **state)
{
	(void)state;
	upstream.breaker_threshold = 0;
	check(HEALTH_RESULT_OK, NOW_NS);
	report(false, NOW_NS);
	expect(STANDING_EJECTED, false, NOW_NS + 5 * NS_PER_S);
	assert_int_equal(standing.ejected_for_ns, 15 * NS_PER_S);
	assert_int_equal(standing.ejections, 1);
	/* Over by itself; then it starts slowly. */
	expect(STANDING_SLOW_START, true, NOW_NS + 21 * NS_PER_S);
	assert_int_equal(standing.ejected_for_ns, 0);
	upstream.outlier_failures = 0;
	expect(STANDING_UP, true, NOW_NS + 5 * NS_PER_S);
}

/* Of several reasons the weightiest is told. */
static void test_order(void **state)
{
	(void)state;
	report(false, NOW_NS);
	expect(STANDING_EJECTED, false, NOW_NS);
	check(HEALTH_RESULT_REFUSED, NOW_NS);
	expect(STANDING_DOWN, false, NOW_NS);
	set_override(OVERRIDE_DRAIN);
	expect(STANDING_DRAINING, false, NOW_NS);
	assert_int_equal(standing.override, OVERRIDE_DRAIN);
	set_override(OVERRIDE_DISABLED);
	expect(STANDING_DISABLED, false, NOW_NS);
	set_override(OVERRIDE_NONE);
	server.flags = SHM_SERVER_DISABLED;
	expect(STANDING_DISABLED, false, NOW_NS);
	/* Nobody checks it then. */
	assert_false(standing.is_checked);
	assert_int_equal(standing.health, HEALTH_UNKNOWN);
	/* What the operator enabled is not disabled, whatever the settings say. */
	set_override(OVERRIDE_ENABLED);
	expect(STANDING_DOWN, false, NOW_NS);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(standing_name(STANDING_SLOW_START), "slow start");
	assert_string_equal(standing_name((enum standing_state)99), "unknown");
}

/* Any bytes come to an end, and to no state that is not one. */
static void test_damage(void **state)
{
	(void)state;
	uint64_t seed = 7;
	for (int i = 0; i < 20000; i++) {
		unsigned char *bytes = i % 2 == 0 ? (void *)&server : (void *)&upstream;
		size_t size = i % 2 == 0 ? sizeof server : sizeof upstream;
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		bytes[(seed >> 20) % size] = (unsigned char)(seed >> 8);
		standing_make(&standing, &server, &upstream, NOW_NS);
		assert_in_range(standing.state, STANDING_UNKNOWN, STANDING_DISABLED);
		assert_true(standing.slow_start_percent <= 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nothing_known, setup),
		cmocka_unit_test_setup(test_checks, setup),
		cmocka_unit_test_setup(test_slow_start, setup),
		cmocka_unit_test_setup(test_breaker, setup),
		cmocka_unit_test_setup(test_all_probes_taken, setup),
		cmocka_unit_test_setup(test_ejection, setup),
		cmocka_unit_test_setup(test_order, setup),
		cmocka_unit_test_setup(test_names, setup),
		cmocka_unit_test_setup(test_damage, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
