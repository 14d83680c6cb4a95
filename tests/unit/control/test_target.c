#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "control/target.h"

static void check_decodes(const char *text, bool plus, const char *expected)
{
	char out[64];
	assert_int_equal(target_decode(text, plus, out, sizeof out), 0);
	assert_string_equal(out, expected);
}

static void test_decode(void **state)
{
	(void)state;
	check_decodes("", false, "");
	check_decodes("/servers/app%2Fa%2fb", false, "/servers/app/a/b");
	check_decodes("a+b%20c", false, "a+b c");
	check_decodes("a+b%20c", true, "a b c");
	check_decodes("%25%32%35", false, "%25");
	check_decodes("%c3%A4\xe2\x82\xac%f0%9f%98%80", false, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
}

static void test_what_is_not_well_written(void **state)
{
	(void)state;
	static const char *const texts[] = { "%", "%4", "%4g", "%g4", "a%", "%%41", "%00", "a%00b", "%0a", "\n", "%7f", "%ff", "\xff",
		"%c3", "%c3%28", "\xc3", "%ed%a0%80", "%c0%80", "%f4%90%80%80", "%80%80%80%80%80", "%e2%82", "%C2%85" };
	char out[64];
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		if (target_decode(texts[i], false, out, sizeof out) != -EINVAL)
			fail_msg("\"%s\" passed", texts[i]);
}

static void test_decode_has_room(void **state)
{
	(void)state;
	char out[4];
	assert_int_equal(target_decode("%61%62%63", false, out, sizeof out), 0);
	assert_string_equal(out, "abc");
	assert_int_equal(target_decode("abcd", false, out, sizeof out), -ENAMETOOLONG);
	assert_int_equal(target_decode("", false, out, 1), 0);
	assert_int_equal(target_decode("a", false, out, 1), -ENAMETOOLONG);
}

static void check_star(const char *path, const char *pattern, const char *expected)
{
	char out[64] = "untouched";
	assert_int_equal(target_matches(path, pattern, out, sizeof out), expected != NULL);
	if (expected)
		assert_string_equal(out, expected);
}

static void test_matches(void **state)
{
	(void)state;
	check_star("/health", "/health", "");
	check_star("/health/", "/health", NULL);
	check_star("/healt", "/health", NULL);
	check_star("/servers/a", "/servers/*", "a");
	check_star("/servers/app/a", "/servers/*", "app/a");
	check_star("/servers/", "/servers/*", NULL);
	check_star("/servers", "/servers/*", NULL);
	check_star("/servers/app/a/drain", "/servers/*/drain", "app/a");
	check_star("/servers//drain", "/servers/*/drain", NULL);
	check_star("/servers/drain", "/servers/*/drain", NULL);
	check_star("/servers/drain/drain", "/servers/*/drain", "drain");
	check_star("/servers/a/drain/", "/servers/*/drain", NULL);
	/* What does not fit matches nothing. */
	char small[3];
	assert_true(target_matches("/servers/ab", "/servers/*", small, sizeof small));
	assert_false(target_matches("/servers/abc", "/servers/*", small, sizeof small));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_what_is_not_well_written),
		cmocka_unit_test(test_decode_has_room),
		cmocka_unit_test(test_matches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
