/* Which first bytes are a request for the answer to a challenge, and where its head ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/attr.h"
#include "proto/acme.h"

#define PATH "/.well-known/acme-challenge/"
#define TOKEN_43 "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"
#define TOKEN_128 TOKEN_43 TOKEN_43 "0123456789012345678901234567890123456789-_"

/* However much of it there is: MORE before the end, then the same for ever. */
static enum acme_verdict read_bytewise(const char *bytes, size_t count, struct acme_request *out)
{
	enum acme_verdict verdict = ACME_MORE;
	for (size_t n = 0; n <= count; n++) {
		enum acme_verdict now = acme_request(bytes, n, out);
		assert_true(verdict == ACME_MORE || now == verdict);
		verdict = now;
	}
	return verdict;
}

static void what_is_answered(void **state)
{
	static const struct {
		const char *bytes, *token;
		bool head;
	} cases[] = {
		{ "GET " PATH TOKEN_43 " HTTP/1.1\r\n", TOKEN_43, false },
		{ "HEAD " PATH TOKEN_43 " HTTP/1.1\r\n", TOKEN_43, true },
		{ "GET " PATH TOKEN_43 " HTTP/1.0\r\n\r\n", TOKEN_43, false },
		{ "GET " PATH "a HTTP/1.1\r\nHost: one.test\r\n\r\nGET / HTTP/1.1\r\n", "a", false },
		{ "GET " PATH "-_ HTTP/1.1\r\n", "-_", false },
		{ "GET " PATH TOKEN_128 " HTTP/1.1\r\n", TOKEN_128, false },
		{ "HEAD " PATH TOKEN_128 " HTTP/1.9\r\n", TOKEN_128, true },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct acme_request request = { .token_length = 0 };
		assert_int_equal(read_bytewise(cases[i].bytes, strlen(cases[i].bytes), &request), ACME_REQUEST);
		assert_string_equal(request.token, cases[i].token);
		assert_int_equal(request.token_length, strlen(cases[i].token));
		assert_int_equal(request.head, cases[i].head);
	}
	assert_int_equal(strlen(TOKEN_128), ACME_TOKEN_MOST);
}

static void what_goes_on(void **state)
{
	static const char *const cases[] = {
		"GET / HTTP/1.1\r\n",
		"POST " PATH "a HTTP/1.1\r\n",
		"get " PATH "a HTTP/1.1\r\n",
		"HEAD / HTTP/1.1\r\n",
		"HELLO\r\n",
		" GET " PATH "a HTTP/1.1\r\n",
		"\r\nGET " PATH "a HTTP/1.1\r\n",
		"\nGET " PATH "a HTTP/1.1\r\n",
		"GET  " PATH "a HTTP/1.1\r\n",
		"GET\t" PATH "a HTTP/1.1\r\n",
		"GET http://one.test" PATH "a HTTP/1.1\r\n",
		"GET /.Well-Known/acme-challenge/a HTTP/1.1\r\n",
		"GET /./.well-known/acme-challenge/a HTTP/1.1\r\n",
		"GET //.well-known/acme-challenge/a HTTP/1.1\r\n",
		"GET /.well-known/acme-challenge//a HTTP/1.1\r\n",
		"GET /.well-known%2facme-challenge/a HTTP/1.1\r\n",
		"GET /.well-known/acme-challenge HTTP/1.1\r\n",
		"GET " PATH " HTTP/1.1\r\n",
		"GET " PATH ".. HTTP/1.1\r\n",
		"GET " PATH ". HTTP/1.1\r\n",
		"GET " PATH ".a HTTP/1.1\r\n",
		"GET " PATH "../../etc/passwd HTTP/1.1\r\n",
		"GET " PATH "a/../b HTTP/1.1\r\n",
		"GET " PATH "a/b HTTP/1.1\r\n",
		"GET " PATH "a/ HTTP/1.1\r\n",
		"GET " PATH "a.b HTTP/1.1\r\n",
		"GET " PATH "%2e%2e HTTP/1.1\r\n",
		"GET " PATH "a%41 HTTP/1.1\r\n",
		"GET " PATH "a+b HTTP/1.1\r\n",
		"GET " PATH "a= HTTP/1.1\r\n",
		"GET " PATH "a?b HTTP/1.1\r\n",
		"GET " PATH "a# HTTP/1.1\r\n",
		"GET " PATH "\xc3\xa4 HTTP/1.1\r\n",
		"GET " PATH TOKEN_128 "x HTTP/1.1\r\n",
		"GET " PATH "a  HTTP/1.1\r\n",
		"GET " PATH "a\tHTTP/1.1\r\n",
		"GET " PATH "a HTTP/1.1 \r\n",
		"GET " PATH "a HTTP/1.1\n",
		"GET " PATH "a HTTP/1.1\r\r\n",
		"GET " PATH "a HTTP/1.12\r\n",
		"GET " PATH "a HTTP/1.x\r\n",
		"GET " PATH "a HTTP/2.0\r\n",
		"GET " PATH "a http/1.1\r\n",
		"GET " PATH "a\r\n",
		"\x16\x03\x01",
		"PRI * HTTP/2.0\r\n",
	};
	struct acme_request request;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(read_bytewise(cases[i], strlen(cases[i]), &request), ACME_OTHER);
	assert_int_equal(read_bytewise("GET " PATH "a\0b HTTP/1.1\r\n", sizeof "GET " PATH "a\0b HTTP/1.1\r\n" - 1, &request), ACME_OTHER);
}

/* With the first byte that is different, so that nobody else waits. */
static void decided_at_once(void **state)
{
	static const char line[] = "GET " PATH "a HTTP/1.1\r\n";
	char bytes[sizeof line];
	struct acme_request request;
	(void)state;
	for (size_t i = 0; i < sizeof line - 1; i++) {
		memcpy(bytes, line, sizeof line);
		bytes[i] = '\x7f';
		assert_int_equal(acme_request(bytes, i, &request), ACME_MORE);
		assert_int_equal(acme_request(bytes, i + 1, &request), ACME_OTHER);
	}
	const char *longer = "GET " PATH TOKEN_128 "x";
	assert_int_equal(acme_request(longer, strlen(longer) - 1, &request), ACME_MORE);
	assert_int_equal(acme_request(longer, strlen(longer), &request), ACME_OTHER);
}

static size_t length_of_head(const char *bytes)
{
	enum acme_head head = ACME_HEAD_LINE_BEGINS;
	size_t at = 0;
	while (bytes[at] && head != ACME_HEAD_ENDED)
		head = acme_head_feed(head, &bytes[at++], 1);
	enum acme_head at_once = acme_head_feed(ACME_HEAD_LINE_BEGINS, bytes, strlen(bytes));
	assert_int_equal(at_once, head);
	return head == ACME_HEAD_ENDED ? at : 0;
}

static void the_end_of_the_head(void **state)
{
	(void)state;
	assert_int_equal(length_of_head("GET x\r\n\r\n"), 9);
	assert_int_equal(length_of_head("GET x\r\nA: b\r\n\r\nbehind\r\n\r\n"), 15);
	assert_int_equal(length_of_head("GET x\nA: b\n\nbehind"), 12);
	assert_int_equal(length_of_head("GET x\r\nA: b\n\r\n"), 14);
	assert_int_equal(length_of_head("GET x\r\nA\rb\r\n \r\n\r\n"), 17);
	assert_int_equal(length_of_head("GET x\r\n\r\r\n"), 0);
	assert_int_equal(length_of_head("GET x\r\n\rA\r\n\r\n"), 13);
	assert_int_equal(length_of_head("GET x\r\n"), 0);
	assert_int_equal(length_of_head("GET x\r\n\r"), 0);
	assert_int_equal(length_of_head(""), 0);
}

static void the_answer(void **state)
{
	char bytes[ACME_ANSWER_HEAD_SIZE];
	(void)state;
	size_t length = acme_answer_head(bytes, 87, 784111777); /* the date of RFC 9110 5.6.7 */
	assert_string_equal(bytes, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/octet-stream\r\n"
	                           "Content-Length: 87\r\nConnection: close\r\n\r\n");
	assert_int_equal(length, strlen(bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_answered),
		cmocka_unit_test(what_goes_on),
		cmocka_unit_test(decided_at_once),
		cmocka_unit_test(the_end_of_the_head),
		cmocka_unit_test(the_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
