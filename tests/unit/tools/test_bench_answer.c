#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/bench_answer.h"

/* Feed the text in pieces of a size; each piece lies in memory of just that size, so that a read behind it shows under a sanitizer.
 * The number of bytes used, or a negative errno. */
static int feed(struct answer *answer, const char *text, size_t size, size_t piece)
{
	size_t at = 0;
	answer_begin(answer);
	while (at < size && answer->phase != ANSWER_COMPLETE) {
		size_t n = size - at < piece ? size - at : piece, used = 0;
		char *bytes = malloc(n);
		assert_non_null(bytes);
		memcpy(bytes, text + at, n);
		int rc = answer_feed(answer, bytes, n, &used);
		free(bytes);
		if (rc < 0)
			return rc;
		assert_true(used == n || answer->phase == ANSWER_COMPLETE);
		at += used;
	}
	return (int)at;
}

struct example {
	const char *text;
	int status;
	uint64_t body_bytes;
	bool keep_alive;
	size_t rest; /* bytes behind the response */
};

static const struct example examples[] = {
	{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, 5, true, 0 },
	{ "HTTP/1.1 200 OK\r\ncontent-length:0\r\nConnection: close\r\n\r\n", 200, 0, false, 0 },
	{ "HTTP/1.0 200 OK\r\nContent-Length: 1 \r\n\r\nx", 200, 1, false, 0 },
	{ "HTTP/1.0 200\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", 200, 1, true, 0 },
	{ "HTTP/1.1 204 No Content\r\n\r\nHTTP", 204, 0, true, 4 },
	{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, 0, true, 0 },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1", 503, 2, true, 8 },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", 200, 31,
	        true, 0 },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\nAnother: y\r\n\r\nmore", 200, 0, true, 4 },
};

static void test_examples_in_pieces_of_all_sizes(void **state)
{
	(void)state;
	struct answer answer = { .head = NULL };
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		const struct example *example = &examples[i];
		size_t size = strlen(example->text);
		for (size_t piece = 1; piece <= size; piece++) {
			assert_int_equal(feed(&answer, example->text, size, piece), size - example->rest);
			assert_int_equal(answer.phase, ANSWER_COMPLETE);
			assert_int_equal(answer.status, example->status);
			assert_int_equal(answer.body_bytes, example->body_bytes);
			assert_int_equal(answer.keep_alive, example->keep_alive);
		}
		for (size_t cut = 0; cut < size - example->rest; cut++) {
			assert_int_equal(feed(&answer, example->text, cut, 7), cut);
			assert_int_not_equal(answer.phase, ANSWER_COMPLETE);
			assert_false(answer_ends(&answer));
		}
	}
	answer_fini(&answer);
}

static void test_body_up_to_the_end_of_input(void **state)
{
	(void)state;
	struct answer answer = { .head = NULL };
	static const char text[] = "HTTP/1.1 200 OK\r\n\r\nsome bytes";
	assert_int_equal(feed(&answer, text, sizeof text - 1, 3), sizeof text - 1);
	assert_int_equal(answer.phase, ANSWER_UNTIL_CLOSE);
	answer_skip(&answer, 1000);
	assert_true(answer_ends(&answer));
	assert_int_equal(answer.phase, ANSWER_COMPLETE);
	assert_int_equal(answer.body_bytes, 1010);
	assert_false(answer.keep_alive);
	answer_fini(&answer);
}

static void test_skipping_ends_where_the_body_ends(void **state)
{
	(void)state;
	struct answer answer = { .head = NULL };
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
	assert_int_equal(feed(&answer, text, sizeof text - 1, sizeof text), sizeof text - 1);
	assert_int_equal(answer_skippable(&answer), 100000);
	answer_skip(&answer, 99999);
	assert_int_equal(answer.phase, ANSWER_BODY);
	answer_skip(&answer, 1);
	assert_int_equal(answer.phase, ANSWER_COMPLETE);
	assert_int_equal(answer_skippable(&answer), 0);
	answer_fini(&answer);
}

static void test_what_is_not_http_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"SSH-2.0-x\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1 20\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\nbare\rreturn: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
	};
	struct answer answer = { .head = NULL };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		for (size_t piece = 1; piece <= strlen(wrong[i]); piece++)
			assert_int_equal(feed(&answer, wrong[i], strlen(wrong[i]), piece), -EPROTO);
	answer_fini(&answer);
}

static void test_a_head_without_end_is_refused(void **state)
{
	(void)state;
	struct answer answer = { .head = NULL };
	size_t size = ANSWER_HEAD_BYTES + 1;
	char *text = malloc(size);
	assert_non_null(text);
	memset(text, 'x', size);
	memcpy(text, "HTTP/1.1 200 OK\r\nx: ", 20);
	assert_int_equal(feed(&answer, text, ANSWER_HEAD_BYTES - 1, 1000), ANSWER_HEAD_BYTES - 1);
	assert_int_equal(feed(&answer, text, size, 1000), -EPROTO);
	free(text);
	answer_fini(&answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples_in_pieces_of_all_sizes),
		cmocka_unit_test(test_body_up_to_the_end_of_input),
		cmocka_unit_test(test_skipping_ends_where_the_body_ends),
		cmocka_unit_test(test_what_is_not_http_is_refused),
		cmocka_unit_test(test_a_head_without_end_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
