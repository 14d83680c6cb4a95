/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
/* clang-format on */

#include <string.h>

#include "base/clock.h"
#include "shm/health.h"

static const struct health_limits limits = { .rise = 2, .fall = 3 };
static const struct health_check ok = { .result = HEALTH_RESULT_OK, .latency_ns = 1500 };
static const struct health_check bad = { .result = HEALTH_RESULT_STATUS, .detail = 503, .latency_ns = 7 * NS_PER_MS };

/* From unknown on: '+' a success, '-' a failure; the states as U(nknown), u(p), d(own). */
static void expect_states(uint32_t rise, uint32_t fall, const char *results, const char *states)
{
	const struct health_limits by = { .rise = rise, .fall = fall };
	struct health_verdict verdict = { 0 };
	for (size_t i = 0; results[i]; i++) {
		verdict = health_judge(verdict, &by, results[i] == '+');
		assert_int_equal("Uud"[verdict.state], states[i]);
	}
}

static void test_rise_and_fall(void **state)
{
	(void)state;
	expect_states(2, 3, "+", "u");
	expect_states(2, 3, "-", "d"); /* a server that is dead at the start gets nothing */
	expect_states(2, 3, "---+++", "dddduu");
	expect_states(2, 3, "+--+---", "uuuuuud");
	expect_states(2, 3, "-+-+-++", "ddddddu");
	expect_states(2, 3, "+-----++", "uuuddddu");
	expect_states(1, 1, "-+-+", "dudu");
	expect_states(0, 0, "-+-+", "dudu");
	expect_states(1, 4, "+---+----", "uuuuuuuud");
	expect_states(4, 1, "-+++-++++", "ddddddddu");
}

static void test_zeros_are_unknown(void **state)
{
	(void)state;
	struct health health;
	struct health_check last;
	memset(&health, 0, sizeof health);
	assert_int_equal(health_state(&health), HEALTH_UNKNOWN);
	health_last(&health, &last);
	assert_int_equal(last.result, HEALTH_RESULT_NONE);
	assert_string_equal(health_result_text(last.result), "not checked");
}

static void test_checks_are_recorded(void **state)
{
	(void)state;
	struct health health = { 0 };
	struct health_check last;
	health_note(&health, &limits, &ok, 100);
	assert_int_equal(health_state(&health), HEALTH_UP);
	assert_int_equal(health.changed_ns, 100);
	health_note(&health, &limits, &bad, 200);
	health_note(&health, &limits, &bad, 300);
	assert_int_equal(health_verdict(&health).against, 2);
	assert_int_equal(health_would_become(&health, &limits, &bad), HEALTH_DOWN);
	assert_int_equal(health_would_become(&health, &limits, &ok), HEALTH_UP);
	assert_int_equal(health.changed_ns, 100);
	health_note(&health, &limits, &bad, 400);
	assert_int_equal(health_state(&health), HEALTH_DOWN);
	assert_int_equal(health.changed_ns, 400);
	assert_int_equal(health.checked_ns, 400);
	assert_int_equal(health.passed, 1);
	assert_int_equal(health.failed, 3);
	health_last(&health, &last);
	assert_int_equal(last.result, HEALTH_RESULT_STATUS);
	assert_int_equal(last.detail, 503);
	assert_int_equal(last.latency_ns, 7 * NS_PER_MS);
	health_note(&health, &limits, &ok, 500);
	health_last(&health, &last);
	assert_int_equal(last.latency_ns, 1000); /* whole microseconds */

	health_forget(&health);
	assert_int_equal(health_state(&health), HEALTH_UNKNOWN);
	assert_int_equal(health.failed, 3);
	health_note(&health, &limits, &ok, 600); /* decides at once again */
	assert_int_equal(health_state(&health), HEALTH_UP);
}

static void test_what_says_nothing_judges_nothing(void **state)
{
	(void)state;
	static const enum health_result silent[] = { HEALTH_RESULT_NONE, HEALTH_RESULT_UNRESOLVED, HEALTH_RESULT_UNTRIED, N_HEALTH_RESULTS,
		(enum health_result)200 };
	struct health health = { 0 };
	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		const struct health_check check = { .result = silent[i] };
		health_note(&health, &limits, &check, 50);
		assert_int_equal(health_state(&health), HEALTH_UNKNOWN);
	}
	health_note(&health, &limits, &ok, 100);
	health_note(&health, &limits, &bad, 200);
	health_note(&health, &limits, &bad, 300);
	for (int i = 0; i < 100; i++) {
		const struct health_check check = { .result = HEALTH_RESULT_UNRESOLVED };
		health_note(&health, &limits, &check, 400);
	}
	assert_int_equal(health_verdict(&health).state, HEALTH_UP);
	assert_int_equal(health_verdict(&health).against, 2);
	assert_int_equal(health.passed + health.failed, 3);
	assert_int_equal(health.checked_ns, 400);
}

static void test_limits_change_half_way(void **state)
{
	(void)state;
	struct health health = { 0 };
	health_note(&health, &limits, &ok, 1);
	const struct health_limits patient = { .rise = 2, .fall = UINT32_MAX }, hasty = { .rise = 1, .fall = 1 };
	for (int i = 0; i < 50; i++)
		health_note(&health, &patient, &bad, 2);
	assert_int_equal(health_state(&health), HEALTH_UP);
	health_note(&health, &hasty, &bad, 3);
	assert_int_equal(health_state(&health), HEALTH_DOWN);
	assert_int_equal(health_verdict(&health).against, 0);

	health_note(&health, &hasty, &ok, 4);
	atomic_store(&health.verdict, (uint64_t)(UINT32_MAX - 2) << 32 | HEALTH_UP);
	health_note(&health, &patient, &bad, 5);
	assert_int_equal(health_state(&health), HEALTH_UP);
	health_note(&health, &patient, &bad, 5);
	assert_int_equal(health_state(&health), HEALTH_DOWN);
}

static void test_the_ends_of_numbers(void **state)
{
	(void)state;
	struct health health = { 0 };
	struct health_check last;
	const struct health_check huge = { .result = HEALTH_RESULT_TIMEOUT, .detail = UINT32_MAX, .latency_ns = UINT64_MAX };
	health.failed = UINT64_MAX;
	health_note(&health, &limits, &huge, UINT64_MAX);
	health_last(&health, &last);
	assert_int_equal(last.result, HEALTH_RESULT_TIMEOUT);
	assert_int_equal(last.detail, (1 << 24) - 1);
	assert_true(last.latency_ns == UINT32_MAX * NS_PER_US);
	assert_int_equal(health.failed, 0);
	assert_int_equal(health_state(&health), HEALTH_DOWN);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(health_state_name(HEALTH_DOWN), "down");
	assert_string_equal(health_state_name((enum health_state)255), "unknown");
	assert_string_equal(health_result_text(HEALTH_RESULT_REFUSED), "connection refused");
	assert_string_equal(health_result_text((enum health_result)255), "unknown");
	for (int i = 0; i < N_HEALTH_RESULTS; i++)
		assert_true(health_result_text((enum health_result)i)[0] != '\0');
	assert_int_equal(health_result_effect(HEALTH_RESULT_OK), HEALTH_SUCCEEDED);
	assert_int_equal(health_result_effect(HEALTH_RESULT_TLS), HEALTH_FAILED);
}

static void assert_why(enum health_result result, uint32_t detail, const char *wanted)
{
	char why[HEALTH_WHY_SIZE];
	const struct health_check check = { .result = result, .detail = detail };
	assert_string_equal(health_check_why(&check, why, sizeof why), wanted);
}

static void test_what_a_detail_tells(void **state)
{
	(void)state;
	assert_why(HEALTH_RESULT_STATUS, 503, "503");
	assert_why(HEALTH_RESULT_STATUS, 0, "");
	assert_why(HEALTH_RESULT_OK, 204, "");
	assert_why(HEALTH_RESULT_UNREACHABLE, EHOSTUNREACH, strerror(EHOSTUNREACH));
	assert_why(HEALTH_RESULT_TLS, HEALTH_TLS_EXPIRED, "certificate expired");
	assert_why(HEALTH_RESULT_TLS, HEALTH_TLS_UNKNOWN, "");
	assert_why(HEALTH_RESULT_TLS, HEALTH_TLS_ALERT + 48, "alert: unknown ca");
	assert_why(HEALTH_RESULT_TLS, HEALTH_TLS_ALERT + 1, "alert 1");
	assert_why(HEALTH_RESULT_TLS, HEALTH_TLS_ALERT + 255, "alert 255");
	assert_why(HEALTH_RESULT_TLS, N_HEALTH_TLS_FAULTS, ""); /* of a later build */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rise_and_fall),
		cmocka_unit_test(test_zeros_are_unknown),
		cmocka_unit_test(test_checks_are_recorded),
		cmocka_unit_test(test_what_says_nothing_judges_nothing),
		cmocka_unit_test(test_limits_change_half_way),
		cmocka_unit_test(test_the_ends_of_numbers),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_a_detail_tells),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
