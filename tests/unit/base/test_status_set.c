#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/status_set.h"

static bool in(const char *text, long status)
{
	struct status_set set;
	const char *why;

	assert_int_equal(status_set_parse(text, &set, &why), 0);
	return status_set_has(&set, status);
}

static unsigned count_of(const char *text)
{
	unsigned count = 0;

	for (long status = 0; status < 1000; status++)
		count += in(text, status);
	return count;
}

static void test_codes(void **state)
{
	(void)state;
	assert_true(in("204", 204));
	assert_int_equal(count_of("204"), 1);
	assert_true(in("100", 100));
	assert_true(in("599", 599));
	assert_int_equal(count_of("100,599,100"), 2);
}

static void test_classes(void **state)
{
	(void)state;
	assert_true(in("2xx", 200) && in("2xx", 299));
	assert_false(in("2xx", 199) || in("2xx", 300));
	assert_int_equal(count_of("2xx"), 100);
	assert_int_equal(count_of("2XX,304"), 101);
	assert_true(in("2xx,304", 304));
	assert_int_equal(count_of("1xx,2xx,3xx,4xx,5xx"), 500);
}

static void test_ranges(void **state)
{
	(void)state;
	assert_int_equal(count_of("200-399"), 200);
	assert_true(in("200-399", 399) && !in("200-399", 400));
	assert_int_equal(count_of("200-200"), 1);
	assert_int_equal(count_of("2xx-4xx"), 300);
	assert_int_equal(count_of("250-3xx"), 150);
	assert_int_equal(count_of(" 200 - 204 , 301 "), 6);
}

static void test_what_is_outside(void **state)
{
	static const long outside[] = { -1, 0, 99, 600, 999, INT64_MAX, INT64_MIN };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(outside); i++)
		assert_false(in("100-599", outside[i]));
}

static void assert_refused(const char *text, const char *part_of_why)
{
	struct status_set set;
	const char *why = NULL;

	memset(&set, 0x5a, sizeof set);
	struct status_set before = set;
	assert_int_equal(status_set_parse(text, &set, &why), -EINVAL);
	assert_non_null(why);
	if (!strstr(why, part_of_why))
		fail_msg("\"%s\": %s", text, why);
	assert_memory_equal(&set, &before, sizeof set);
}

static void test_nonsense(void **state)
{
	static const char *const nonsense[] = { "", " ", ",", "200,", ",200", "200,,204", "99", "600", "2x", "2x0", "20x", "xx", "ok",
		"200-", "-200", "200-600", "200--204", "+200", "0x200", "20", "2" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(nonsense); i++)
		assert_refused(nonsense[i], "not a status code");
	assert_refused("399-200", "ends before it begins");
	assert_refused("3xx-2xx", "ends before it begins");
	assert_refused("200 204", "commas");
	assert_refused("2000", "commas");
	assert_refused("2xxx", "commas");
	assert_refused("200-204-208", "commas");
	assert_refused("200;204", "commas");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_what_is_outside),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
