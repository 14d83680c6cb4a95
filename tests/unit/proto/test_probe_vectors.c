/* The bytes of health checks that other programs' tests use. Not part of the sources: AEGIS_TEST_VECTORS names the folder with
 * health/rise_fall_sequences.json. Where it is not there, this is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "proto/probe.h"

static char vectors[64 << 10];

/* The bytes of "key":"hex". */
static size_t take_bytes(const char *key, uint8_t *out, size_t size)
{
	char quoted[64];

	snprintf(quoted, sizeof quoted, "\"%s\":\"", key);
	const char *at = strstr(vectors, quoted);
	assert_non_null(at);
	at += strlen(quoted);
	size_t count = vectors_bytes(at, out, size);
	assert_true(count > 0 && at[2 * count] == '"');
	return count;
}

static enum probe_verdict verdict_on(enum probe_kind kind, const char *key)
{
	static struct probe probe;
	const struct probe_rules rules = { .kind = kind };
	uint8_t bytes[256];
	size_t count = take_bytes(key, bytes, sizeof bytes);

	assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
	enum probe_verdict verdict = probe_feed(&probe, bytes, count);
	print_message("%s: %s\n", key, probe_reason(&probe));
	return verdict;
}

static void test_redis(void **state)
{
	static struct probe probe;
	const struct probe_rules rules = { .kind = PROBE_REDIS };
	const char *output;
	uint8_t asks[64];

	(void)state;
	size_t count = take_bytes("redis_probe", asks, sizeof asks);
	assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
	assert_int_equal(probe_output(&probe, &output), count);
	assert_memory_equal(output, asks, count);
	assert_int_equal(verdict_on(PROBE_REDIS, "redis_ok"), PROBE_GOOD);
	assert_int_equal(verdict_on(PROBE_REDIS, "redis_err"), PROBE_BAD);
}

static void test_postgres(void **state)
{
	(void)state;
	assert_int_equal(verdict_on(PROBE_POSTGRES, "pgsql_auth_ok"), PROBE_GOOD);
	assert_int_equal(verdict_on(PROBE_POSTGRES, "pgsql_scram"), PROBE_GOOD);
	assert_int_equal(verdict_on(PROBE_POSTGRES, "pgsql_fatal"), PROBE_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis),
		cmocka_unit_test(test_postgres),
	};
	FILE *file = vectors_open("health/rise_fall_sequences.json");

	if (!file)
		return VECTORS_SKIPPED;
	vectors[fread(vectors, 1, sizeof vectors - 1, file)] = '\0';
	fclose(file);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
