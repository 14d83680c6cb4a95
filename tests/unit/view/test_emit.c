#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "view/emit.h"

struct fixture {
	char *text;
	size_t size;
	struct emit emit;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	fixture->emit.out = open_memstream(&fixture->text, &fixture->size);
	assert_non_null(fixture->emit.out);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	fclose(fixture->emit.out);
	free(fixture->text);
	free(fixture);
	return 0;
}

static void check_is(struct fixture *fixture, const char *expected)
{
	assert_int_equal(fflush(fixture->emit.out), 0);
	assert_string_equal(fixture->text, expected);
}

static void test_commas_come_by_themselves(void **state)
{
	struct fixture *fixture = *state;
	struct emit *emit = &fixture->emit;
	emit_open(emit, NULL, '{');
	emit_u64(emit, "a", UINT64_MAX);
	emit_open(emit, "b", '[');
	emit_close(emit, ']');
	emit_open(emit, "c", '[');
	emit_i32(emit, NULL, -7);
	emit_bool(emit, NULL, true);
	emit_null(emit, NULL);
	emit_open(emit, NULL, '{');
	emit_bool(emit, "d", false);
	emit_close(emit, '}');
	emit_close(emit, ']');
	emit_ms(emit, "e", 1500001);
	emit_seconds(emit, "f", 61002999999);
	emit_close(emit, '}');
	check_is(fixture, "{\"a\":18446744073709551615,\"b\":[],\"c\":[-7,true,null,{\"d\":false}],\"e\":1.500001,\"f\":61.002}");
}

static void test_strings_and_names_are_escaped(void **state)
{
	struct fixture *fixture = *state;
	struct emit *emit = &fixture->emit;
	emit_open(emit, NULL, '{');
	emit_name(emit, "app/\"x\"\n");
	emit_open(emit, NULL, '[');
	emit_close(emit, ']');
	emit_string(emit, "s", "\\ \x01 \xff \xc3\xa4");
	emit_close(emit, '}');
	check_is(fixture, "{\"app/\\\"x\\\"\\n\":[],\"s\":\"\\\\ \\u0001 ? \xc3\xa4\"}");
}

/* No length cuts a string, and no part of it ends within a character. */
static void test_long_strings(void **state)
{
	struct fixture *fixture = *state;
	enum { CHARACTERS = 3000 };
	static char value[3 * CHARACTERS + 2], expected[3 * CHARACTERS + 4];
	value[0] = 'x';
	for (size_t i = 0; i < CHARACTERS; i++)
		memcpy(value + 1 + 3 * i, "\xe2\x82\xac", 3);
	snprintf(expected, sizeof expected, "\"%s\"", value);
	emit_string(&fixture->emit, NULL, value);
	check_is(fixture, expected);
}

static void test_a_long_string_of_rubbish(void **state)
{
	struct fixture *fixture = *state;
	static char value[1001], expected[1003];
	memset(value, 0x80, 1000);
	memset(expected, '?', 1002);
	expected[0] = expected[1001] = '"';
	emit_string(&fixture->emit, NULL, value);
	check_is(fixture, expected);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		EACH(test_commas_come_by_themselves),
		EACH(test_strings_and_names_are_escaped),
		EACH(test_long_strings),
		EACH(test_a_long_string_of_rubbish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
