#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/json.h"

static struct json_body *read_ok(const char *text)
{
	struct json_body *body = NULL;
	char why[256] = "";
	if (json_body_read(text, strlen(text), &body, why, sizeof why) != 0)
		fail_msg("%s: %s", text, why);
	return body;
}

static void check_refused(const char *bytes, size_t n, const char *part)
{
	struct json_body *body = NULL;
	char why[256] = "";
	assert_int_equal(json_body_read(bytes, n, &body, why, sizeof why), -EINVAL);
	assert_null(body);
	if (!strstr(why, part))
		fail_msg("%.40s: %s", bytes, why);
	for (const char *p = why; *p; p++)
		assert_true((unsigned char)*p >= ' ');
}

static void test_nothing_is_an_empty_object(void **state)
{
	(void)state;
	static const char *const texts[] = { "", " \t\r\n", "{}", " { } " };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct json_body *body = read_ok(texts[i]);
		assert_null(json_body_stranger(body, NULL, 0));
		json_body_free(body);
	}
}

static void test_what_is_no_object(void **state)
{
	(void)state;
	check_refused("x", 1, "not JSON: line 1, column 1");
	check_refused("\0", 1, "not JSON");
	check_refused("\xff\x01", 2, "not JSON");
	check_refused("{\"a\":1", 6, "not JSON");
	check_refused("{\"a\":1}}", 8, "not JSON");
	check_refused("{\"a\":1,\"a\":1}", 13, "duplicate");
	check_refused("{\"a\":99999999999999999999}", 26, "too big");
	check_refused("{\"a\":1e400}", 11, "overflow");
	check_refused("{\"\\u0000\":1}", 12, "not JSON");
	check_refused("[1]", 3, "must be a JSON object");
}

static void test_depth(void **state)
{
	(void)state;
	enum { DEEP = 100000 };
	static char bytes[2 * DEEP];
	for (size_t i = 0; i < DEEP; i++) {
		bytes[i] = '[';
		bytes[DEEP + i] = ']';
	}
	check_refused(bytes, sizeof bytes, "deeper than 16");
	check_refused(bytes, DEEP, "deeper than 16");
	for (size_t i = 0; i + 5 <= sizeof bytes; i += 5)
		memcpy(bytes + i, "{\"a\":", 5);
	check_refused(bytes, sizeof bytes, "deeper than 16");
	/* One level less than too many, and brackets that are text. */
	json_body_free(read_ok("{\"a\":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}"));
	json_body_free(read_ok("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[\"}"));
	check_refused("{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", 39, "deeper than 16");
}

static void test_strangers(void **state)
{
	(void)state;
	static const char *const known[] = { "timeout", "weight" };
	struct json_body *body = read_ok("{\"weight\":1,\"timeout\":null}");
	assert_null(json_body_stranger(body, known, 2));
	assert_string_equal(json_body_stranger(body, known, 1), "weight");
	assert_true(json_body_is_null(body, "timeout"));
	assert_false(json_body_is_null(body, "weight"));
	assert_false(json_body_is_null(body, "other"));
	json_body_free(body);
}

static int whole(const char *text, uint64_t *out)
{
	char why[128] = "";
	struct json_body *body = read_ok(text);
	int found = json_body_whole(body, "n", 1, 65535, out, why, sizeof why);
	json_body_free(body);
	assert_true((found < 0) == (why[0] != '\0'));
	return found;
}

static void test_whole_numbers(void **state)
{
	(void)state;
	uint64_t n = 7;
	assert_int_equal(whole("{}", &n), 0);
	assert_int_equal(n, 7);
	assert_int_equal(whole("{\"n\":1}", &n), 1);
	assert_int_equal(n, 1);
	assert_int_equal(whole("{\"n\":65535}", &n), 1);
	assert_int_equal(n, 65535);
	static const char *const wrong[] = { "{\"n\":0}", "{\"n\":65536}", "{\"n\":-1}", "{\"n\":1.0}", "{\"n\":\"1\"}", "{\"n\":true}",
		"{\"n\":null}", "{\"n\":[1]}", "{\"n\":{}}", "{\"n\":9223372036854775807}", "{\"n\":-9223372036854775808}" };
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_int_equal(whole(wrong[i], &n), -EINVAL);
	assert_int_equal(n, 65535);
}

static int number(const char *text, double *out)
{
	char why[128] = "";
	struct json_body *body = read_ok(text);
	int found = json_body_number(body, "n", 0, 100, out, why, sizeof why);
	json_body_free(body);
	assert_true((found < 0) == (why[0] != '\0'));
	return found;
}

static void test_numbers(void **state)
{
	(void)state;
	double n = 7;
	assert_int_equal(number("{}", &n), 0);
	assert_int_equal(number("{\"n\":0}", &n), 1);
	assert_true(n == 0);
	assert_int_equal(number("{\"n\":99.5}", &n), 1);
	assert_true(n == 99.5);
	static const char *const wrong[] = { "{\"n\":-0.001}", "{\"n\":100.001}", "{\"n\":1e300}", "{\"n\":\"1\"}", "{\"n\":false}",
		"{\"n\":null}" };
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_int_equal(number(wrong[i], &n), -EINVAL);
	assert_true(n == 99.5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_an_empty_object),
		cmocka_unit_test(test_what_is_no_object),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_whole_numbers),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
