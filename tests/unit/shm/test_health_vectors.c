/* Sequences of checks of another health checker's tests, with the state after each. Not part of the sources: AEGIS_TEST_VECTORS names the
 * folder with
 *   health/rise_fall_sequences.json    objects of "rise", "fall", "in" (results, 1 = success) and "state" (1 = up)
 * Where it is not there, this is skipped. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "shm/health.h"

enum { TEXT_MAX = 64 << 10, CASE_MAX = 256 };

static char text[TEXT_MAX];

/* The text behind "key": from there on. */
static const char *value_of(const char *from, const char *key)
{
	char quoted[32];
	snprintf(quoted, sizeof quoted, "\"%s\":", key);
	const char *at = strstr(from, quoted);
	assert_non_null(at);
	return at + strlen(quoted);
}

/* The zeros and ones of an array; how many. */
static size_t read_bits(const char *at, bool *out)
{
	size_t n = 0;
	assert_true(*at == '[');
	for (; *at != ']'; at++) {
		assert_true(*at != '\0' && n < CASE_MAX);
		if (*at == '0' || *at == '1')
			out[n++] = *at == '1';
	}
	return n;
}

static size_t check_case(const char *at)
{
	const struct health_limits limits = { .rise = (uint32_t)strtoul(value_of(at, "rise"), NULL, 10),
		.fall = (uint32_t)strtoul(value_of(at, "fall"), NULL, 10) };
	bool results[CASE_MAX], states[CASE_MAX];
	size_t n = read_bits(value_of(at, "in"), results);
	struct health_verdict verdict = { 0 };

	assert_int_equal(read_bits(value_of(at, "state"), states), n);
	for (size_t i = 0; i < n; i++) {
		verdict = health_judge(verdict, &limits, results[i]);
		if (verdict.state != (states[i] ? HEALTH_UP : HEALTH_DOWN))
			fail_msg("rise %u, fall %u: %s after %zu results", limits.rise, limits.fall, health_state_name(verdict.state),
			        i + 1);
	}
	return n;
}

static void test_agrees_with_the_other_checker(void **state)
{
	(void)state;
	size_t cases = 0, results = 0;
	for (const char *at = text; (at = strstr(at, "\"rise\":")) != NULL; at++, cases++)
		results += check_case(at);
	print_message("%zu sequences of %zu results\n", cases, results);
	assert_true(cases >= 5 && results >= 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_agrees_with_the_other_checker) };
	FILE *file = vectors_open("health/rise_fall_sequences.json");

	if (file == NULL)
		return VECTORS_SKIPPED;
	size_t size = fread(text, 1, sizeof text - 1, file);
	text[size] = '\0';
	fclose(file);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
