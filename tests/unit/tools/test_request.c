#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/demo_request.h"

/* Parse from memory that ends right after the text, so that a read behind it shows under a sanitizer. */
static int parse(const char *text, size_t length, struct request *out, struct request_error *error)
{
	char *bytes = malloc(length + 1);
	assert_non_null(bytes);
	memcpy(bytes + 1, text, length);
	int rc = request_parse(bytes + 1, length, out, error);
	free(bytes);
	return rc;
}

static struct request parse_ok(const char *text)
{
	struct request request;
	struct request_error error;
	assert_int_equal(parse(text, strlen(text), &request, &error), 0);
	return request;
}

static void test_every_beginning_is_incomplete(void **state)
{
	(void)state;
	static const char text[] = "\r\nPOST /count?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nConnection: close\r\n\r\n";
	struct request request;
	struct request_error error;
	for (size_t length = 0; length < sizeof text - 1; length++)
		assert_int_equal(parse(text, length, &request, &error), -EAGAIN);
	request = parse_ok(text);
	assert_int_equal(request.method, METHOD_POST);
	assert_string_equal(request.path, "/count");
	assert_string_equal(request.query, "a=1");
	assert_int_equal(request.body_bytes, 12);
	assert_int_equal(request.head_bytes, sizeof text - 1);
	assert_false(request.keep_alive);
}

static void test_keep_alive(void **state)
{
	(void)state;
	assert_true(parse_ok("GET / HTTP/1.1\r\nHost: x\r\n\r\n").keep_alive);
	assert_false(parse_ok("GET / HTTP/1.1\r\nHost: x\r\nCONNECTION: a, Close\r\n\r\n").keep_alive);
	assert_false(parse_ok("GET / HTTP/1.0\r\n\r\n").keep_alive);
	assert_true(parse_ok("GET / HTTP/1.0\r\nConnection: a ,keep-alive \r\n\r\n").keep_alive);
}

static void test_query(void **state)
{
	(void)state;
	char value[8];
	struct request request = parse_ok("GET /bytes?m=1&n=64k&n=2 HTTP/1.0\r\n\r\n");
	assert_true(request_query(&request, "n", value, sizeof value));
	assert_string_equal(value, "64k");
	assert_false(request_query(&request, "o", value, sizeof value));
	request = parse_ok("GET /bytes?n=123456789 HTTP/1.0\r\n\r\n");
	assert_false(request_query(&request, "n", value, sizeof value));
}

static void test_long_paths_are_of_no_resource(void **state)
{
	(void)state;
	char text[512];
	snprintf(text, sizeof text, "GET /%0100d?%0200d HTTP/1.0\r\n\r\n", 1, 2);
	struct request request = parse_ok(text);
	assert_string_equal(request.path, "");
	assert_string_equal(request.query, "");
}

static void test_too_large(void **state)
{
	(void)state;
	static char text[REQUEST_HEAD_BYTES];
	struct request request;
	struct request_error error = { 0 };
	memset(text, 'a', sizeof text);
	assert_int_equal(parse(text, sizeof text - 1, &request, &error), -EAGAIN);
	assert_int_equal(parse(text, sizeof text, &request, &error), -EINVAL);
	assert_int_equal(error.status, 431);
}

/* Random changes to a good request: any answer will do, as long as it stays inside. */
static void test_damaged_requests(void **state)
{
	(void)state;
	static const char good[] = "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
	uint64_t seed = 7;
	for (int i = 0; i < 20000; i++) {
		char text[sizeof good];
		memcpy(text, good, sizeof good);
		for (int k = 0; k < 3; k++) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			text[(seed >> 33) % (sizeof good - 1)] = (char)(seed >> 25);
		}
		struct request request;
		struct request_error error;
		int rc = parse(text, sizeof good - 1, &request, &error);
		assert_true(rc == 0 || rc == -EAGAIN || (rc == -EINVAL && error.status >= 400 && error.why != NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_beginning_is_incomplete),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_long_paths_are_of_no_resource),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_damaged_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
