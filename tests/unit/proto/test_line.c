#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "exchange.h"
#include "proto/framing.h"

#define KIND FRAMING_LINE

static void test_nothing_passed_is_clean(void **state)
{
	(void)state;
	for (int kind = FRAMING_NONE; kind <= FRAMING_LINE; kind++) {
		struct framing framing;

		framing_init(&framing, (enum framing_kind)kind);
		framing_request(&framing, "", 0);
		framing_response(&framing, NULL, 0);
		assert_int_equal(framing_verdict(&framing), FRAMING_CLEAN);
		assert_null(framing_pinned_by(&framing));
	}
}

static void test_without_framing_the_first_byte_pins(void **state)
{
	(void)state;
	ASSERT_EXCHANGE(FRAMING_NONE, FRAMING_PINNED, ">a");
	ASSERT_EXCHANGE(FRAMING_NONE, FRAMING_PINNED, "<a");
}

static void test_zeros_are_without_framing(void **state)
{
	(void)state;
	struct framing framing = { .owed = 0 };

	assert_int_equal(framing_verdict(&framing), FRAMING_CLEAN);
	framing_request(&framing, "GET", 3);
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
}

static void test_pinned_is_for_ever_and_keeps_its_first_reason(void **state)
{
	(void)state;
	struct framing framing;

	framing_init(&framing, FRAMING_LINE);
	framing_response(&framing, "hello\n", 6);
	const char *reason = framing_pinned_by(&framing);
	assert_non_null(reason);
	framing_request(&framing, "a\rb\n", 4);
	framing_response(&framing, "c\n", 2);
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
	assert_ptr_equal(framing_pinned_by(&framing), reason);
	assert_int_equal(framing_owed(&framing), 0);
}

static void test_a_line_answers_a_line(void **state)
{
	(void)state;
	ASSERT_CLEAN(">get a\n", "<1\n");
	ASSERT_CLEAN(">get a\r\n", "<1\r\n");
	ASSERT_CLEAN(">\n", "<\n");
	ASSERT_CLEAN(">a\nb\nc\n", "<1\n2\n", "<3\n");
	ASSERT_OWED(">a\nb\nc\n", "<1\n2\n");
	ASSERT_OWED(">a\n", "<1");
	ASSERT_PARTIAL(">a");
	ASSERT_PARTIAL(">a\r");
	ASSERT_PARTIAL(">a\nb", "<1\n");
}

static void test_an_unasked_line_pins(void **state)
{
	(void)state;
	ASSERT_PINNED("<hello\n");
	ASSERT_PINNED(">a\n", "<1\n2");
	ASSERT_PINNED(">a", "<1\n");
}

static void test_what_may_end_a_line_elsewhere_pins(void **state)
{
	(void)state;
	ASSERT_PINNED(">a\rb\n");
	ASSERT_PINNED(">a\r\r\n");
	ASSERT_PINNED(">a\n", "<1\r2\n");
	for (size_t piece = 1; piece < 5; piece++) {
		struct framing framing;

		framing_init(&framing, FRAMING_LINE);
		exchange_feed(&framing, '>', "a\0b\n", 4, piece);
		assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
	}
}

/* A line of this many bytes, with its end, in pieces of this size. */
static enum framing_verdict verdict_of_long(size_t length, size_t piece)
{
	struct framing framing;
	char *line = malloc(length);

	assert_non_null(line);
	memset(line, 'x', length);
	line[length - 1] = '\n';
	framing_init(&framing, FRAMING_LINE);
	exchange_feed(&framing, '>', line, length, piece);
	free(line);
	return framing_verdict(&framing);
}

static void test_a_line_too_long_pins(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 200000; piece *= 37) {
		assert_int_equal(verdict_of_long(64 << 10, piece), FRAMING_OWED);
		assert_int_equal(verdict_of_long((64 << 10) + 1, piece), FRAMING_PINNED);
	}
}

static void test_owed_counts(void **state)
{
	(void)state;
	struct framing framing;

	framing_init(&framing, FRAMING_LINE);
	framing_request(&framing, "a\nb\nc", 5);
	assert_int_equal(framing_owed(&framing), 2);
	framing_response(&framing, "1\n", 2);
	assert_int_equal(framing_owed(&framing), 1);
}

static void test_too_many_at_once_pin(void **state)
{
	(void)state;
	struct framing framing;
	char lines[4096];

	memset(lines, '\n', sizeof lines);
	framing_init(&framing, FRAMING_LINE);
	for (size_t i = 0; i < (1 << 20) / sizeof lines; i++)
		framing_request(&framing, lines, sizeof lines);
	assert_int_equal(framing_verdict(&framing), FRAMING_OWED);
	framing_request(&framing, "\n", 1);
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_passed_is_clean),
		cmocka_unit_test(test_without_framing_the_first_byte_pins),
		cmocka_unit_test(test_zeros_are_without_framing),
		cmocka_unit_test(test_pinned_is_for_ever_and_keeps_its_first_reason),
		cmocka_unit_test(test_a_line_answers_a_line),
		cmocka_unit_test(test_an_unasked_line_pins),
		cmocka_unit_test(test_what_may_end_a_line_elsewhere_pins),
		cmocka_unit_test(test_a_line_too_long_pins),
		cmocka_unit_test(test_owed_counts),
		cmocka_unit_test(test_too_many_at_once_pin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
