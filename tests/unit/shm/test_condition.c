/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "base/clock.h"
#include "shm/condition.h"

enum { SERVERS = 3 };

#define TIMEOUT_NS (30 * NS_PER_S)
#define EJECTION_NS (20 * NS_PER_S)
#define SLOW_START_NS (10 * NS_PER_S)
#define START (1000 * NS_PER_S)

static const struct health_check ok = { .result = HEALTH_RESULT_OK };
static const struct health_check bad = { .result = HEALTH_RESULT_REFUSED };

/* An upstream of three servers; what happens, happens to the first. */
static struct condition servers[SERVERS];
static struct ejection *const members[] = { &servers[0].ejection, &servers[1].ejection, &servers[2].ejection };
static struct condition *const server = &servers[0];
static _Atomic uint64_t epoch;
static struct condition_rules rules;

static int make_upstream(void **state)
{
	(void)state;
	memset(servers, 0, sizeof servers);
	epoch = 0;
	rules = (struct condition_rules){
		.breaker = { .error_threshold = 5, .probes = 2, .timeout_ns = TIMEOUT_NS },
		.outlier = { .failures = 0, .max_percent = 50, .ejection_ns = EJECTION_NS },
		.health = { .rise = 2, .fall = 3 },
		.is_checked = true,
		.slow_start_ns = SLOW_START_NS,
		.group = { .members = members, .n = SERVERS },
		.epoch = &epoch,
	};
	return 0;
}

static enum usability usable(uint64_t now_ns)
{
	return condition_usable(server, &rules, false, now_ns);
}

static void connect(bool well, uint64_t now_ns)
{
	struct breaker_pass pass;
	assert_int_not_equal(condition_ask(server, &rules, now_ns, &pass), BREAKER_REFUSE);
	condition_report(server, &rules, &pass, well, now_ns);
}

static void check(const struct health_check *result, int times, uint64_t now_ns)
{
	for (int i = 0; i < times; i++)
		condition_checked(server, &rules, result, now_ns);
}

/* How often the epoch was raised since the last time. */
static uint64_t news(void)
{
	return atomic_exchange(&epoch, 0);
}

static void test_zeros_are_usable(void **state)
{
	(void)state;
	assert_int_equal(usable(START), USABILITY_USABLE);
	assert_int_equal(usable(0), USABILITY_USABLE);
	assert_int_equal(condition_usable(server, &rules, true, START), USABILITY_DISABLED);
	assert_int_equal(condition_weight(server, &rules, 100, START), 100);
	assert_int_equal(condition_weight(server, &rules, 0, START), 0);
	assert_true(condition_due_ns(server, &rules, START) == UINT64_MAX);
	assert_true(condition_recovered_ns(server, &rules, START) == 0);
	struct override none = condition_override(server);
	assert_int_equal(none.mode, OVERRIDE_NONE);
	assert_false(none.has_weight);
	connect(true, START);
	struct condition zeros;
	memset(&zeros, 0, sizeof zeros);
	assert_memory_equal(server, &zeros, sizeof zeros);
	const struct condition_rules nothing = { 0 }; /* nor does a process that knows nothing do any harm */
	struct breaker_pass pass;
	assert_int_equal(condition_ask(server, &nothing, START, &pass), BREAKER_PASS);
	condition_report(server, &nothing, &pass, false, START);
	assert_memory_equal(server, &zeros, sizeof zeros);
	assert_int_equal(news(), 0);
}

static void test_the_weightiest_reason(void **state)
{
	(void)state;
	struct breaker_pass pass;
	rules.outlier.failures = 5;
	for (int i = 0; i < 5; i++)
		connect(false, START); /* both the breaker and the ejection */
	assert_int_equal(usable(START), USABILITY_EJECTED);
	check(&bad, 1, START);
	assert_int_equal(usable(START), USABILITY_DOWN);
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_DRAIN });
	assert_int_equal(usable(START), USABILITY_DRAINING);
	assert_int_equal(condition_usable(server, &rules, true, START), USABILITY_DRAINING);
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_DISABLED });
	assert_int_equal(usable(START), USABILITY_DISABLED);
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_ENABLED });
	assert_int_equal(condition_usable(server, &rules, true, START), USABILITY_DOWN);

	rules.is_checked = false; /* a reload without checks: what they said last is not for ever */
	assert_int_equal(usable(START), USABILITY_EJECTED);
	assert_int_equal(usable(START + EJECTION_NS), USABILITY_BREAKER_OPEN);
	rules.outlier.failures = 0;
	assert_int_equal(usable(START), USABILITY_BREAKER_OPEN);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(usable(START + TIMEOUT_NS), USABILITY_USABLE);
		assert_int_equal(condition_ask(server, &rules, START + TIMEOUT_NS, &pass), BREAKER_PROBE);
	}
	assert_int_equal(usable(START + TIMEOUT_NS), USABILITY_PROBES_TAKEN);
	rules.breaker.error_threshold = 0;
	assert_int_equal(usable(START + TIMEOUT_NS), USABILITY_USABLE);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(usability_name(USABILITY_USABLE), "usable");
	assert_string_equal(usability_name(USABILITY_BREAKER_OPEN), "breaker open");
	assert_string_equal(usability_name((enum usability)99), "unknown");
	assert_string_equal(override_mode_name(OVERRIDE_DRAIN), "drain");
	assert_string_equal(override_mode_name((enum override_mode)99), "unknown");
	for (int i = 0; i < N_USABILITIES; i++)
		assert_true(usability_name((enum usability)i)[0] != '\0');
}

static void test_override(void **state)
{
	(void)state;
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_DRAIN, .has_weight = true, .weight = 65535 });
	struct override got = condition_override(server);
	assert_int_equal(got.mode, OVERRIDE_DRAIN);
	assert_true(got.has_weight);
	assert_int_equal(got.weight, 65535);
	assert_int_equal(condition_weight(server, &rules, 100, START), 65535);
	condition_set_override(server, &rules, (struct override){ .has_weight = true, .weight = 0 });
	assert_int_equal(condition_weight(server, &rules, 100, START), 0);
	assert_int_equal(usable(START), USABILITY_USABLE);
	condition_set_override(server, &rules, (struct override){ 0 });
	assert_int_equal(condition_weight(server, &rules, 100, START), 100);
	assert_int_equal(news(), 3);
}

static void test_every_change_is_told(void **state)
{
	(void)state;
	struct breaker_pass pass[2];
	check(&ok, 1, START);
	assert_int_equal(news(), 1); /* unknown to up */
	check(&ok, 5, START);
	check(&bad, 2, START);
	assert_int_equal(news(), 0);
	check(&bad, 1, START);
	assert_int_equal(news(), 1);
	check(&ok, 2, START);
	assert_int_equal(news(), 1);

	for (int i = 0; i < 4; i++)
		connect(false, START);
	assert_int_equal(news(), 0);
	connect(false, START);
	assert_int_equal(news(), 1); /* open */
	assert_int_equal(condition_ask(server, &rules, START, &pass[0]), BREAKER_REFUSE);
	assert_int_equal(news(), 0);

	uint64_t now = condition_due_ns(server, &rules, START + SLOW_START_NS); /* half-open is known beforehand */
	assert_true(now == START + TIMEOUT_NS);
	assert_int_equal(condition_ask(server, &rules, now, &pass[0]), BREAKER_PROBE);
	assert_int_equal(news(), 0);
	assert_int_equal(condition_ask(server, &rules, now, &pass[1]), BREAKER_PROBE);
	assert_int_equal(news(), 1); /* that was the last one */
	condition_abandon(server, &rules, &pass[1]);
	assert_int_equal(news(), 1); /* there is one again */
	assert_int_equal(condition_ask(server, &rules, now, &pass[1]), BREAKER_PROBE);
	assert_int_equal(news(), 1);
	condition_report(server, &rules, &pass[0], true, now);
	assert_int_equal(news(), 0);
	condition_report(server, &rules, &pass[1], true, now);
	assert_int_equal(news(), 1); /* closed */
	assert_true(condition_recovered_ns(server, &rules, now) == now);

	rules.outlier.failures = 1;
	connect(false, now);
	assert_int_equal(news(), 1); /* ejected */
	condition_reset(server, &rules);
	assert_int_equal(news(), 1);
}

static void test_recoveries_start_slowly(void **state)
{
	(void)state;
	check(&ok, 1, START); /* the first time is no recovery */
	assert_int_equal(condition_weight(server, &rules, 100, START), 100);
	check(&bad, 3, START);
	uint64_t now = START + NS_PER_S;
	check(&ok, 2, now);
	assert_true(condition_recovered_ns(server, &rules, now) == now);
	assert_int_equal(condition_weight(server, &rules, 100, now), 10);
	assert_int_equal(condition_weight(server, &rules, 100, now + SLOW_START_NS / 2), 55);
	assert_int_equal(condition_weight(server, &rules, 100, now + SLOW_START_NS), 100);
	condition_set_override(server, &rules, (struct override){ .has_weight = true, .weight = 1000 });
	assert_int_equal(condition_weight(server, &rules, 100, now), 100);
	condition_set_override(server, &rules, (struct override){ 0 });

	rules.outlier.failures = 1;
	connect(false, now);
	uint64_t until = now + EJECTION_NS;
	assert_true(condition_recovered_ns(server, &rules, until - 1) == now);
	assert_true(condition_due_ns(server, &rules, until - 1) == until);
	assert_true(condition_recovered_ns(server, &rules, until) == until);
	assert_int_equal(condition_weight(server, &rules, 100, until), 10);
	rules.slow_start_ns = 0;
	assert_int_equal(condition_weight(server, &rules, 100, until), 100);
}

/* Whoever looks again when it is due sees each step once. */
static void test_due_steps(void **state)
{
	(void)state;
	check(&bad, 1, START);
	check(&ok, 2, START);
	uint32_t steps = 0, weight = condition_weight(server, &rules, 100, START);
	assert_int_equal(weight, 10);
	for (uint64_t now = START; (now = condition_due_ns(server, &rules, now)) != UINT64_MAX; steps++) {
		uint32_t next = condition_weight(server, &rules, 100, now);
		assert_int_equal(next, weight + 9);
		weight = next;
	}
	assert_int_equal(steps, 10);
	assert_int_equal(weight, 100);
	rules.slow_start_ns = 3; /* less than steps */
	assert_true(condition_due_ns(server, &rules, START) == START + 3);
	assert_true(condition_due_ns(server, &rules, START - 1) == START + 3);
	rules.slow_start_ns = UINT64_MAX;
	assert_true(condition_due_ns(server, &rules, START) == START + UINT64_MAX / 10);
}

static void test_slow_start_weight(void **state)
{
	(void)state;
	assert_int_equal(slow_start_weight(100, 0, 50, 1000), 100);
	assert_int_equal(slow_start_weight(100, 50, 50, 0), 100);
	assert_int_equal(slow_start_weight(100, 50, 40, 1000), 10); /* recovered by the clock of another */
	assert_int_equal(slow_start_weight(100, 50, 50, 1000), 10);
	assert_int_equal(slow_start_weight(100, 50, 550, 1000), 55);
	assert_int_equal(slow_start_weight(100, 50, 1049, 1000), 99);
	assert_int_equal(slow_start_weight(100, 50, 1050, 1000), 100);
	assert_int_equal(slow_start_weight(100, 50, UINT64_MAX, 1000), 100);
	assert_int_equal(slow_start_weight(0, 50, 60, 1000), 0);
	assert_int_equal(slow_start_weight(1, 50, 60, 1000), 1);
	assert_int_equal(slow_start_weight(2, 50, 51, 1000), 1);
	assert_int_equal(slow_start_weight(UINT32_MAX, 1, 2, UINT64_MAX), UINT32_MAX / 10);
	static const uint64_t durations[] = { 1, 9, 1000, NS_PER_S, 3600 * NS_PER_S, UINT64_MAX - 1 };
	for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
		uint32_t before = 0;
		for (uint64_t step = 0; step <= 1000; step++) { /* never falls, never beyond */
			uint64_t age = step == 1000 ? durations[i] : durations[i] / 1000 * step;
			uint32_t weight = slow_start_weight(65535, 1, 1 + age, durations[i]);
			assert_true(weight >= before && weight <= 65535);
			before = weight;
		}
		assert_int_equal(before, 65535);
		uint32_t half = slow_start_weight(65535, 1, 1 + durations[i] / 2, durations[i]);
		assert_in_range(half, durations[i] < 1000 ? 1 : 36043, 36045);
	}
}

/* A server that goes up and down ten times a second: nothing else begins anew because of it. */
static void test_flapping_resets_nothing_else(void **state)
{
	(void)state;
	rules.health = (struct health_limits){ .rise = 1, .fall = 1 };
	rules.breaker.error_threshold = 6;
	rules.outlier.failures = 5;
	rules.outlier.max_percent = 0;
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_ENABLED, .has_weight = true, .weight = 7 });
	for (int i = 0; i < 4; i++)
		connect(false, START);
	const struct breaker breaker = server->breaker;
	const struct ejection ejection = server->ejection;
	(void)news();
	uint64_t now = START;
	for (int i = 0; i < 100; i++) {
		now += NS_PER_S / 20;
		check(&bad, 1, now);
		assert_int_equal(usable(now), USABILITY_DOWN);
		now += NS_PER_S / 20;
		check(&ok, 1, now);
		assert_int_equal(usable(now), USABILITY_USABLE);
	}
	assert_int_equal(news(), 200);
	assert_memory_equal(&breaker, &server->breaker, sizeof breaker);
	assert_memory_equal(&ejection, &server->ejection, sizeof ejection);
	assert_int_equal(condition_override(server).weight, 7);
	assert_int_equal(server->health.passed, 100);
	assert_int_equal(server->health.failed, 100);

	connect(false, now); /* the fifth in a row */
	assert_int_equal(breaker_state(&server->breaker), BREAKER_CLOSED);
	connect(false, now);
	assert_int_equal(breaker_state(&server->breaker), BREAKER_OPEN);
	check(&bad, 1, now);
	check(&ok, 1, now);
	assert_int_equal(usable(now), USABILITY_BREAKER_OPEN);
	assert_int_equal(server->breaker.trips, 1);
}

/* The control process dies after it wrote that the server recovered, and before it wrote that it is up. */
static void test_control_killed_half_way(void **state)
{
	(void)state;
	check(&bad, 1, START);
	check(&ok, 1, START);
	server->recovered_ns = START + 1;
	assert_int_equal(usable(START + 1), USABILITY_DOWN);
	check(&ok, 1, START + 2); /* the next one checks again */
	assert_int_equal(usable(START + 2), USABILITY_USABLE);
	assert_true(condition_recovered_ns(server, &rules, START + 2) == START + 2);
}

static void test_reset(void **state)
{
	(void)state;
	rules.outlier.failures = 5;
	for (int i = 0; i < 5; i++)
		connect(false, START);
	check(&bad, 1, START);
	check(&ok, 2, START);
	check(&bad, 3, START);
	condition_set_override(server, &rules, (struct override){ .mode = OVERRIDE_ENABLED });
	condition_reset(server, &rules);
	assert_int_equal(usable(START), USABILITY_USABLE);
	assert_int_equal(health_state(&server->health), HEALTH_UNKNOWN);
	assert_int_equal(condition_override(server).mode, OVERRIDE_ENABLED);
	assert_int_equal(condition_weight(server, &rules, 100, START), 100);
	assert_true(condition_due_ns(server, &rules, START) == UINT64_MAX);
	assert_int_equal(server->breaker.trips, 1);
	assert_int_equal(server->ejection.count, 1);
	assert_int_equal(server->health.failed, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_zeros_are_usable, make_upstream),
		cmocka_unit_test_setup(test_the_weightiest_reason, make_upstream),
		cmocka_unit_test_setup(test_names, make_upstream),
		cmocka_unit_test_setup(test_override, make_upstream),
		cmocka_unit_test_setup(test_every_change_is_told, make_upstream),
		cmocka_unit_test_setup(test_recoveries_start_slowly, make_upstream),
		cmocka_unit_test_setup(test_due_steps, make_upstream),
		cmocka_unit_test_setup(test_slow_start_weight, make_upstream),
		cmocka_unit_test_setup(test_flapping_resets_nothing_else, make_upstream),
		cmocka_unit_test_setup(test_control_killed_half_way, make_upstream),
		cmocka_unit_test_setup(test_reset, make_upstream),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
