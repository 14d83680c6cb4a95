#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "exchange.h"
#include "proto/framing.h"

#define KIND FRAMING_HTTP1
#define GET ">GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define HEAD ">HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST ">POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
#define OK "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
/* a request, or an answer, with these lines as its fields */
#define ASK(fields, rest) ">POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n" rest
#define ANSWER(fields, rest) "<HTTP/1.1 200 OK\r\n" fields "\r\n" rest
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static void test_requests_and_answers(void **state)
{
	(void)state;
	ASSERT_CLEAN(GET, OK);
	ASSERT_CLEAN(POST, OK);
	ASSERT_CLEAN(GET, OK, POST, OK, GET, OK);
	ASSERT_OWED(GET);
	ASSERT_OWED(GET, "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
	ASSERT_CLEAN(GET, "<HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 404 Not \xe4 Found\r\nContent-Length: 0\r\nX: \xff\tz\r\nEmpty:\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 200 \r\ncontent-length:2\r\n\r\nok");
	ASSERT_CLEAN(">GET /a?b=c&d=%20#e;f HTTP/1.1\r\nhost: a:80\r\nX-A_b.c: \xc3\xa9 \t!\r\nAccept: */*\r\n\r\n", OK);
	ASSERT_CLEAN(">POST / HTTP/1.1\r\nHOST:a\r\nCONTENT-LENGTH:0\r\n\r\n", OK);
	ASSERT_CLEAN(">POST / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
	ASSERT_CLEAN(">GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", OK);
}

static void test_a_request_in_the_middle_is_partial(void **state)
{
	static const char request[] = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";

	(void)state;
	for (size_t length = 1; length < sizeof request - 1; length++) {
		char part[sizeof request + 1];

		snprintf(part, sizeof part, ">%.*s", (int)length, request);
		ASSERT_PARTIAL(part);
		ASSERT_PARTIAL(GET, part, OK);
	}
}

static void test_an_answer_in_the_middle_is_owed(void **state)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";

	(void)state;
	for (size_t length = 1; length < sizeof answer - 1; length++) {
		char part[sizeof answer + 1];

		snprintf(part, sizeof part, "<%.*s", (int)length, answer);
		ASSERT_OWED(GET, part);
	}
}

static void test_pipelining(void **state)
{
	(void)state;
	ASSERT_OWED(GET, POST, GET, OK, OK);
	ASSERT_CLEAN(GET, POST, GET, OK, OK, OK);
	ASSERT_CLEAN(">GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	        "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	ASSERT_PINNED(GET, GET, OK, OK, OK);
}

static void test_pipelining_is_bounded(void **state)
{
	struct framing framing;

	(void)state;
	framing_init(&framing, FRAMING_HTTP1);
	for (int i = 0; i < 64; i++)
		exchange_feed(&framing, '>', &HEAD[1], strlen(HEAD) - 1, 1000);
	assert_int_equal(framing_owed(&framing), 64);
	for (int i = 0; i < 10; i++)
		framing_response(&framing, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38);
	assert_int_equal(framing_owed(&framing), 54);
	for (int i = 0; i < 10; i++)
		exchange_feed(&framing, '>', &GET[1], strlen(GET) - 1, 1000);
	for (int i = 0; i < 54; i++)
		framing_response(&framing, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38);
	for (int i = 0; i < 10; i++)
		framing_response(&framing, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 39);
	assert_int_equal(framing_verdict(&framing), FRAMING_CLEAN);
	for (int i = 0; i < 65; i++) {
		assert_int_not_equal(framing_verdict(&framing), FRAMING_PINNED);
		exchange_feed(&framing, '>', &GET[1], strlen(GET) - 1, 1000);
	}
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
}

static void test_answers_without_a_body(void **state)
{
	(void)state;
	ASSERT_CLEAN(HEAD, "<HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
	ASSERT_CLEAN(HEAD, "<HTTP/1.1 200 OK\r\n\r\n");
	ASSERT_CLEAN(HEAD, "<HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", GET, OK);
	ASSERT_CLEAN(GET, "<HTTP/1.1 204 No Content\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 304 Not Modified\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n");
}

static void test_a_body_where_there_is_none_pins(void **state)
{
	(void)state;
	ASSERT_PINNED(HEAD, OK);
	ASSERT_PINNED(HEAD, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok");
}

static void test_unasked_bytes_of_the_server_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(OK);
	ASSERT_PINNED("<H");
	ASSERT_PINNED(GET, OK, OK);
	ASSERT_PINNED(GET, OK, "<\r\n");
	ASSERT_PINNED(GET, OK, "<x");
	ASSERT_PINNED(GET, "<\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

static void test_an_answer_before_the_end_of_its_request_pins(void **state)
{
	(void)state;
	ASSERT_PINNED(">GET / HTTP/1.1\r\nHost: a\r\n\r", OK);
	ASSERT_PINNED(ASK("Content-Length: 3\r\n", "ab"), OK);
	ASSERT_PINNED(ASK("Content-Length: 3\r\n", "ab"), "<HTTP/1.1 100 Continue\r\n\r\n");
	ASSERT_PINNED(ASK("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), OK);
	ASSERT_PINNED(">POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", "<HTTP/1.1 100 Continue\r\n\r\n");
}

static void test_expect_continue(void **state)
{
	(void)state;
	ASSERT_PARTIAL(ASK("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), "<HTTP/1.1 100 Continue\r\n\r\n");
	ASSERT_CLEAN(ASK("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), "<HTTP/1.1 100 Continue\r\n\r\n", ">abc", OK);
	ASSERT_CLEAN(ASK("Expect: 100-Continue\r\n" CHUNKED, ""), "<HTTP/1.1 100 Continue\r\n\r\n", ">1\r\na\r\n0\r\n\r\n", OK);
	ASSERT_CLEAN(ASK("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"), OK);
	ASSERT_CLEAN(GET, ASK("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), OK, "<HTTP/1.1 100 Continue\r\n\r\n", ">abc", OK);
	ASSERT_PINNED(ASK("Expect: 100-continue\r\n", ""));
	ASSERT_PINNED(ASK("Expect: 100-continue\r\nContent-Length: 0\r\n", ""));
	ASSERT_PINNED(ASK("Expect: y 100-continue\r\nContent-Length: 3\r\n", ""));
	ASSERT_PINNED(ASK("Expect: 100-continue \r\nContent-Length: 3\r\n", ""));
	ASSERT_PINNED(ASK("Expect: 100-continue, 100-continue\r\nContent-Length: 3\r\n", ""));
	ASSERT_PINNED(ASK("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", ""));
	ASSERT_PINNED(ASK("Expect:\r\nContent-Length: 3\r\n", ""));
}

static void test_interim_answers(void **state)
{
	(void)state;
	ASSERT_OWED(GET, "<HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
	ASSERT_CLEAN(GET, "<HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK);
	ASSERT_CLEAN(GET, "<HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", OK);
	ASSERT_CLEAN(POST, "<HTTP/1.1 100 Continue\r\n\r\n", OK);
	ASSERT_PINNED(GET, OK, "<HTTP/1.1 100 Continue\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 101 Switching Protocols\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 199 New\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void test_content_length_has_one_spelling(void **state)
{
	(void)state;
	ASSERT_CLEAN(ASK("Content-Length:   3\r\n", "abc"), OK);
	ASSERT_PARTIAL(ASK("Content-Length: 999999999999999\r\n", "abc"));
	static const char *const odd[] = { "", " ", "03", "003", "00", "+3", "-3", "0x3", "3 ", "3\t", "\t3", "3 3", "3,3", "3, 3", "3;",
		"3.0", "3e0", "three", "\"3\"", "9999999999999999", "18446744073709551619", "4294967299x", "\xc2\xb3", "3\x01" };
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		char request[128], answer[128];

		snprintf(request, sizeof request, ASK("Content-Length: %s\r\n", "abc"), odd[i]);
		ASSERT_PINNED(request);
		snprintf(answer, sizeof answer, ANSWER("Content-Length: %s\r\n", "abc"), odd[i]);
		ASSERT_PINNED(GET, answer);
	}
}

static void test_two_lengths_pin(void **state)
{
	static const char *const fields[] = {
		"Content-Length: 3\r\nContent-Length: 3\r\n",
		"Content-Length: 3\r\ncontent-length: 4\r\n",
		"Content-Length: 3\r\n" CHUNKED,
		CHUNKED "Content-Length: 3\r\n",
		CHUNKED "X: y\r\nContent-Length: 0\r\n",
		CHUNKED CHUNKED,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		char request[256], answer[256];

		snprintf(request, sizeof request, ASK("%s", ""), fields[i]);
		ASSERT_PINNED(request);
		snprintf(answer, sizeof answer, ANSWER("%s", ""), fields[i]);
		ASSERT_PINNED(GET, answer);
	}
}

static void test_transfer_encoding_is_just_chunked(void **state)
{
	static const char *const odd[] = { "", "Chunked", "CHUNKED", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked,",
		",chunked", "chunked;q=1", "xchunked", "chunkedchunked", "chunked ", "chunked\t", "\tchunked", "\"chunked\"", "'chunked'",
		"\vchunked", "\377chunked", "chunked\x01", "chunk", "ch\x96nked" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		char request[128], answer[128];

		snprintf(request, sizeof request, ASK("Transfer-Encoding: %s\r\n", "0\r\n\r\n"), odd[i]);
		ASSERT_PINNED(request);
		snprintf(answer, sizeof answer, ANSWER("Transfer-Encoding: %s\r\n", "0\r\n\r\n"), odd[i]);
		ASSERT_PINNED(GET, answer);
	}
}

static void test_chunks(void **state)
{
	(void)state;
	ASSERT_CLEAN(ASK(CHUNKED, "0\r\n\r\n"), OK);
	ASSERT_CLEAN(ASK(CHUNKED, "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"), OK);
	ASSERT_CLEAN(ASK(CHUNKED, "A\r\n0\r\n\r\n01234\r\n0\r\n\r\n"), OK);
	ASSERT_CLEAN(GET, ANSWER(CHUNKED, "3\r\nabc\r\n0\r\n\r\n"));
	ASSERT_CLEAN(GET, GET, ANSWER(CHUNKED, "3\r\nabc\r\n0\r\n\r\n"), OK);
	ASSERT_CLEAN(GET, "<HTTP/1.1 200 OK\r\ntransfer-encoding:  chunked\r\n\r\n0\r\n\r\n");
	ASSERT_PARTIAL(ASK(CHUNKED, "fffffff\r\n"));
}

static void test_unusual_chunks_pin(void **state)
{
	static const char *const odd[] = { "\r\n", "00\r\n", "03\r\nabc\r\n", "3 \r\nabc\r\n", " 3\r\nabc\r\n", "\t3\r\nabc\r\n",
		"+3\r\nabc\r\n", "0x3\r\nabc\r\n", "-1\r\n", "g\r\n", "3;a\r\nabc\r\n", "3;a=b\r\nabc\r\n", "3;\r\nabc\r\n", "3\nabc\r\n",
		"3\r\rabc\r\n", "3\rabc\r\n", "3\r\nabcd\r\n", "3\r\nabc\n", "3\r\nabc\rx", "10000000\r\n", "80000000\r\n",
		"ffffffffffffffff\r\n", "10000000000000003\r\nabc\r\n", "0\r\nTrailer: x\r\n\r\n", "0\r\n\n", "0\r\n\rx", "0\n\r\n",
		"0;a\r\n\r\n", "\"3\"\r\nabc\r\n" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		char request[128], answer[128];

		snprintf(request, sizeof request, ASK(CHUNKED, "%s"), odd[i]);
		ASSERT_PINNED(request);
		snprintf(answer, sizeof answer, ANSWER(CHUNKED, "%s"), odd[i]);
		ASSERT_PINNED(GET, answer);
	}
}

static void test_a_body_that_the_method_does_not_have_pins(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "DELETE" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		char request[128];

		snprintf(request, sizeof request, ">%s / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", methods[i]);
		ASSERT_PINNED(request);
		snprintf(request, sizeof request, ">%s / HTTP/1.1\r\nHost: a\r\n" CHUNKED "\r\n", methods[i]);
		ASSERT_PINNED(request);
		snprintf(request, sizeof request, ">%s / HTTP/1.1\r\nHost: a\r\n\r\n", methods[i]);
		ASSERT_OWED(request);
	}
}

static void test_methods(void **state)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "MKCOL", "REPORT" };
	static const char *const unknown[] = { "CONNECT", "TRACE", "PRI", "get", "Head", "HEADS", "HEA", "", "G\tT", "SOURCE", "FOO",
		"M-SEARCH", "AVERYLONGMETHODTHATISNOTKNOWN", "\r\nGET", "GET\r\n", "GET " };
	char request[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		snprintf(request, sizeof request, ">%s / HTTP/1.1\r\nHost: a\r\n\r\n", known[i]);
		ASSERT_OWED(request);
	}
	for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
		snprintf(request, sizeof request, ">%s / HTTP/1.1\r\nHost: a\r\n\r\n", unknown[i]);
		ASSERT_PINNED(request);
	}
}

static void test_targets_and_versions(void **state)
{
	static const char *const odd[] = { "* HTTP/1.1", "http://a/ HTTP/1.1", "a:443 HTTP/1.1", "/a b HTTP/1.1", "/a\tb HTTP/1.1",
		"/\x7f HTTP/1.1", "/\xc3\xa9 HTTP/1.1", "/\x01 HTTP/1.1", "/", "/ HTTP/1.0", "/ HTTP/1.10", "/ HTTP/1.1 ", "/  HTTP/1.1",
		"/ HTTP/2.0", "/ HTTP/01.1", "/ http/1.1", "/ HTTP/1,1", "/ HTTPS/1.1", "/ RTSP/1.0", "/ HTTP/1.1\r", "/ HTTP/1.1\n" };
	char request[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		snprintf(request, sizeof request, ">GET %s\r\nHost: a\r\n\r\n", odd[i]);
		ASSERT_PINNED(request);
	}
	ASSERT_PINNED(">GET / HTTP/1.1\nHost: a\r\n\r\n");
	ASSERT_PINNED(GET, ">\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_unusual_fields_pin(void **state)
{
	static const char *const odd[] = { " X: y\r\n", "\tX: y\r\n", "X : y\r\n", "X\t: y\r\n", "X y: z\r\n", ": y\r\n", "X\r\n",
		"X y\r\n", "X: a\rb\r\n", "X: a\nb\r\n", "X: a\n", "X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X: a\x01\r\n", "X: a\x7f\r\n",
		"X:\x0c\r\n", "X\x01: a\r\n", "X\xe4: a\r\n", "X(: a\r\n", "X\": a\r\n", "X/: a\r\n", "X@: a\r\n", "X+: a\r\n",
		"X: abcdefgh\x1fijklmnop\r\n", "X: 0123456701234567\x7f\r\n", "X\rY: a\r\n", "\rX: a\r\n", "\nX: a\r\n", "X: a\r\r\n" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		char request[128], answer[128];

		snprintf(request, sizeof request, ASK("%s", ""), odd[i]);
		ASSERT_PINNED(request);
		snprintf(answer, sizeof answer, ANSWER("%sContent-Length: 0\r\n", ""), odd[i]);
		ASSERT_PINNED(GET, answer);
	}
}

/* every control byte at every place of a word of eight, in a value */
static void test_every_control_byte_in_a_value_pins(void **state)
{
	(void)state;
	for (int byte = 1; byte < 256; byte++) {
		for (size_t at = 0; at < 20; at++) {
			char request[] = ">GET / HTTP/1.1\r\nHost: a\r\nX: 01234567890123456789\r\n\r\n";
			strchr(request, 'X')[3 + at] = (char)byte;
			if (byte == '\t' || (byte >= 0x20 && byte != 0x7f))
				ASSERT_OWED(request);
			else
				ASSERT_PINNED(request);
		}
	}
}

static void test_nul_pins(void **state)
{
	static const char whole[] = "GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789\r\n\r\n";

	(void)state;
	for (size_t at = 0; at < sizeof whole - 1; at++) {
		char request[sizeof whole];
		struct framing framing;

		memcpy(request, whole, sizeof whole);
		request[at] = '\0';
		framing_init(&framing, FRAMING_HTTP1);
		exchange_feed(&framing, '>', request, sizeof whole - 1, 1000);
		assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
	}
}

static void test_names_that_are_nearly_ones_that_count_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(ASK("Transfer_Encoding: chunked\r\n", ""));
	ASSERT_PINNED(ASK("Content_Length: 3\r\n", ""));
	ASSERT_PINNED(GET, ANSWER("Content_Length: 3\r\nContent-Length: 0\r\n", ""));
	ASSERT_OWED(ASK("Content-Length-X: 3\r\n", ""));
	ASSERT_OWED(ASK("X-Content-Length: 3\r\n", ""));
	ASSERT_OWED(ASK("Content-Encoding: chunked\r\nX_Y: z\r\nTE: trailers\r\n", ""));
	ASSERT_OWED(ASK("Transfer-EncodingTransfer-Encoding: chunked\r\n", ""));
	ASSERT_OWED(ASK("Transfer-Encodin: chunked\r\n", ""));
}

static void test_host_is_there_once(void **state)
{
	(void)state;
	ASSERT_PINNED(">GET / HTTP/1.1\r\n\r\n");
	ASSERT_PINNED(">GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
	ASSERT_CLEAN(GET, ANSWER("Host: a\r\nHost: a\r\nContent-Length: 0\r\n", ""));
}

static void test_connection(void **state)
{
	static const char *const names[] = { "Connection", "Proxy-Connection" };
	static const char *const keep[] = { "keep-alive", "Keep-Alive", "keep-alive, keep-alive", " keep-alive" };
	static const char *const odd[] = { "close", "Close", "keep-alive, close", "close, keep-alive", "TE", "keep-alive, Content-Length",
		"upgrade, HTTP2-Settings", "keep-alive\t", "\tkeep-alive", "keep-alive;", "\"keep-alive\"", "keep-alive=1", "keep-alivex" };
	char request[128], answer[128];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
			snprintf(request, sizeof request, ASK("%s: %s\r\n", ""), names[n], keep[i]);
			snprintf(answer, sizeof answer, ANSWER("%s: %s\r\nContent-Length: 0\r\n", ""), names[n], keep[i]);
			ASSERT_CLEAN(request, answer);
		}
		for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
			snprintf(request, sizeof request, ASK("%s: %s\r\n", ""), names[n], odd[i]);
			ASSERT_PINNED(request);
			snprintf(answer, sizeof answer, ANSWER("%s: %s\r\nContent-Length: 0\r\n", ""), names[n], odd[i]);
			ASSERT_PINNED(GET, answer);
		}
	}
	ASSERT_PINNED(ASK("Connection: keep-alive\r\nConnection: close\r\n", ""));
}

static void test_upgrade(void **state)
{
	(void)state;
	ASSERT_PINNED(ASK("Upgrade: websocket\r\n", ""));
	ASSERT_PINNED(ASK("Connection: Upgrade\r\n", ""));
	/* an offer, which is no change of protocols */
	ASSERT_CLEAN(GET, ANSWER("Upgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 0\r\n", ""));
}

static void test_a_method_override_pins(void **state)
{
	(void)state;
	ASSERT_PINNED(ASK("X-HTTP-Method-Override: HEAD\r\n", ""));
	ASSERT_PINNED(ASK("X-HTTP-Method: HEAD\r\n", ""));
	ASSERT_PINNED(ASK("X-Method-Override: HEAD\r\n", ""));
}

static void test_credentials(void **state)
{
	static const char *const fine[] = { "Basic YTpi", "bearer a.b.c=", "Digest username=\"a\", realm=\"NTLM\"",
		"AWS4-HMAC-SHA256 Credential=a" };
	static const char *const odd[] = { "NTLM TlRMTVNTUAABAAAA", "Negotiate YII=", "negotiate\t", "Kerberos a", "",
		"YTpi=", "SomethingNew a", "Basic,NTLM" };
	char request[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
		snprintf(request, sizeof request, ASK("Authorization: %s\r\nProxy-Authorization: %s\r\n", ""), fine[i], fine[i]);
		ASSERT_OWED(request);
	}
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		snprintf(request, sizeof request, ASK("Authorization: %s\r\n", ""), odd[i]);
		ASSERT_PINNED(request);
		snprintf(request, sizeof request, ASK("Proxy-Authorization: %s\r\n", ""), odd[i]);
		ASSERT_PINNED(request);
	}
}

static void test_challenges(void **state)
{
	(void)state;
	ASSERT_CLEAN(GET, "<HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"the, place\"\r\nContent-Length: 0\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\", negotiate\r\nContent-Length: 0\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 407 Proxy\r\nProxy-Authenticate: Basic\tNTLM\r\nContent-Length: 0\r\n\r\n");
	ASSERT_PINNED(GET, ANSWER("Persistent-Auth: true\r\nContent-Length: 0\r\n", ""));
}

static void test_answers_that_end_with_the_connection_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(GET, "<HTTP/1.1 200 OK\r\n\r\n");
	ASSERT_PINNED(GET, "<HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
	ASSERT_PINNED(GET, "<HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
}

static void test_unusual_status_lines_pin(void **state)
{
	static const char *const odd[] = { "HTTP/1.1 200", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK",
		"HTTP/1.1 600 OK", "HTTP/1.1 2x0 OK", "HTTP/1.1\t200 OK", "HTTP/1.2 200 OK", "HTTP/2 200 OK", "HTP/1.1 200 OK",
		"http/1.1 200 OK", "HTTP/1.1 200 O\x01K", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\nK", "ICY 200 OK" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		char answer[128];

		snprintf(answer, sizeof answer, "<%s\r\nContent-Length: 0\r\n\r\n", odd[i]);
		ASSERT_PINNED(GET, answer);
	}
}

static void test_a_server_that_did_not_take_the_request_pins(void **state)
{
	static const int odd[] = { 400, 408, 411, 413, 414, 417, 421, 426, 431, 501, 505 };
	static const int fine[] = { 200, 301, 401, 403, 404, 405, 409, 422, 429, 500, 502, 503, 599 };
	char answer[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		snprintf(answer, sizeof answer, "<HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", odd[i]);
		ASSERT_PINNED(GET, answer);
	}
	for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
		snprintf(answer, sizeof answer, "<HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", fine[i]);
		ASSERT_CLEAN(GET, answer);
	}
}

/* A request of just so many bytes, in pieces of this size. */
static enum framing_verdict verdict_of_head(size_t length, size_t piece)
{
	static const char begin[] = "GET / HTTP/1.1\r\nHost: a\r\nX: ", end[] = "\r\n\r\n";
	struct framing framing;
	char *head = malloc(length);

	assert_non_null(head);
	memset(head, 'x', length);
	memcpy(head, begin, sizeof begin - 1);
	memcpy(head + length - (sizeof end - 1), end, sizeof end - 1);
	framing_init(&framing, FRAMING_HTTP1);
	exchange_feed(&framing, '>', head, length, piece);
	free(head);
	return framing_verdict(&framing);
}

static void test_a_head_is_bounded(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 100000; piece *= 31) {
		assert_int_equal(verdict_of_head(32 << 10, piece), FRAMING_OWED);
		assert_int_equal(verdict_of_head((32 << 10) + 1, piece), FRAMING_PINNED);
	}
}

static void test_a_large_body_is_skipped(void **state)
{
	static char zeros[1 << 20];
	struct framing framing;

	(void)state;
	framing_init(&framing, FRAMING_HTTP1);
	exchange_feed(&framing, '>', &GET[1], strlen(GET) - 1, 1000);
	framing_response(&framing, "HTTP/1.1 200 OK\r\nContent-Length: 6442450944\r\n\r\n", 47);
	for (int i = 0; i < 6144; i++) {
		assert_int_equal(framing_verdict(&framing), FRAMING_OWED);
		framing_response(&framing, zeros, sizeof zeros);
	}
	assert_int_equal(framing_verdict(&framing), FRAMING_CLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_and_answers),
		cmocka_unit_test(test_a_request_in_the_middle_is_partial),
		cmocka_unit_test(test_an_answer_in_the_middle_is_owed),
		cmocka_unit_test(test_pipelining),
		cmocka_unit_test(test_pipelining_is_bounded),
		cmocka_unit_test(test_answers_without_a_body),
		cmocka_unit_test(test_a_body_where_there_is_none_pins),
		cmocka_unit_test(test_unasked_bytes_of_the_server_pin),
		cmocka_unit_test(test_an_answer_before_the_end_of_its_request_pins),
		cmocka_unit_test(test_expect_continue),
		cmocka_unit_test(test_interim_answers),
		cmocka_unit_test(test_content_length_has_one_spelling),
		cmocka_unit_test(test_two_lengths_pin),
		cmocka_unit_test(test_transfer_encoding_is_just_chunked),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_unusual_chunks_pin),
		cmocka_unit_test(test_a_body_that_the_method_does_not_have_pins),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_targets_and_versions),
		cmocka_unit_test(test_unusual_fields_pin),
		cmocka_unit_test(test_every_control_byte_in_a_value_pins),
		cmocka_unit_test(test_nul_pins),
		cmocka_unit_test(test_names_that_are_nearly_ones_that_count_pin),
		cmocka_unit_test(test_host_is_there_once),
		cmocka_unit_test(test_connection),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_a_method_override_pins),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_challenges),
		cmocka_unit_test(test_answers_that_end_with_the_connection_pin),
		cmocka_unit_test(test_unusual_status_lines_pin),
		cmocka_unit_test(test_a_server_that_did_not_take_the_request_pins),
		cmocka_unit_test(test_a_head_is_bounded),
		cmocka_unit_test(test_a_large_body_is_skipped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
