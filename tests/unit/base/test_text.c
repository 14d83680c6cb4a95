#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/text.h"

static void adds_until_it_is_full(void **state)
{
	(void)state;
	char bytes[8];
	struct text text = text_of(bytes, sizeof bytes);

	text_add(&text, "%s-%d", "ab", 12);
	assert_string_equal(bytes, "ab-12");
	assert_int_equal(text.length, 5);
	assert_false(text.cut);
	text_add(&text, "xy");
	assert_false(text.cut);
	text_add(&text, "z");
	assert_true(text.cut);
	assert_string_equal(bytes, "ab-12xy");
	text_add(&text, "more");
	assert_string_equal(bytes, "ab-12xy");
	assert_int_equal(text.length, 7);
}

static void a_buffer_of_one_byte_holds_the_empty_text(void **state)
{
	(void)state;
	char bytes[1] = { 'x' };
	struct text text = text_of(bytes, sizeof bytes);

	text_add(&text, "%s", "");
	text_add_escaped(&text, "");
	assert_false(text.cut);
	text_add_escaped(&text, "a");
	assert_true(text.cut);
	assert_string_equal(bytes, "");
}

static const char *escaped(const char *s)
{
	static char bytes[256];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_escaped(&text, s);
	return bytes;
}

static void escapes_what_json_and_terminals_cannot_take(void **state)
{
	(void)state;
	assert_string_equal(escaped("plain"), "plain");
	assert_string_equal(escaped("a\"b\\c"), "a\\\"b\\\\c");
	assert_string_equal(escaped("a\nb\rc\td"), "a\\nb\\rc\\td");
	assert_string_equal(escaped("\x1b[31m\x7f"), "\\u001b[31m\\u007f");
	assert_string_equal(escaped("\xc2\x9b"), "\\u009b"); /* CSI in one character */
	assert_string_equal(escaped("\xe2\x80\xa8"), "\\u2028");
	assert_string_equal(
	        escaped("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x98"), "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x98");
}

static void replaces_invalid_utf8(void **state)
{
	(void)state;
	assert_string_equal(escaped("a\xff"), "a?");
	assert_string_equal(escaped("\xc3"), "?");                /* cut short */
	assert_string_equal(escaped("\xe2\x82"), "??");           /* cut short */
	assert_string_equal(escaped("\xc0\x80"), "??");           /* overlong */
	assert_string_equal(escaped("\xe0\x80\x80"), "???");      /* overlong */
	assert_string_equal(escaped("\xed\xa0\x80"), "???");      /* surrogate */
	assert_string_equal(escaped("\xf4\x90\x80\x80"), "????"); /* above U+10FFFF */
	assert_string_equal(escaped("\xf0\x8f\xbf\xbf"), "????"); /* overlong */
}

static void never_tears_an_escape(void **state)
{
	(void)state;
	char bytes[8];
	struct text text = text_of(bytes, sizeof bytes);

	text_add_escaped(&text, "abc\x01");
	assert_true(text.cut);
	assert_string_equal(bytes, "abc");
	text = text_of(bytes, sizeof bytes);
	text_add_escaped(&text, "abcdef\xc3\xbc");
	assert_string_equal(bytes, "abcdef");
}

static void printable_leaves_quotes(void **state)
{
	(void)state;
	char bytes[64];
	struct text text = text_of(bytes, sizeof bytes);

	text_add_printable(&text, "say \"a\\b\"\n");
	assert_string_equal(bytes, "say \"a\\b\"\\n");
}

static void copies_and_says_whether_it_fitted(void **state)
{
	(void)state;
	char bytes[4];

	assert_true(text_copy(bytes, sizeof bytes, "abc"));
	assert_string_equal(bytes, "abc");
	assert_false(text_copy(bytes, sizeof bytes, "abcd"));
	assert_string_equal(bytes, "abc");
	assert_false(text_copy(bytes, 1, "a"));
	assert_string_equal(bytes, "");
}

static void finds_the_likely_word(void **state)
{
	(void)state;
	static const char *const words[] = { "address", "upstream", "backlog", "on_full", "tcp", "timeout" };
	size_t n = ARRAY_LEN(words);
	char longest[200];

	assert_string_equal(text_nearest("adress", words, n), "address");
	assert_string_equal(text_nearest("addres", words, n), "address");
	assert_string_equal(text_nearest("upstraem", words, n), "upstream");
	assert_string_equal(text_nearest("Timeout", words, n), "timeout");
	assert_string_equal(text_nearest("tpc", words, n), "tcp");
	assert_null(text_nearest("x", words, n));
	assert_null(text_nearest("", words, n));
	assert_null(text_nearest("protocol", words, n));
	assert_null(text_nearest("tcp", words, 0));
	memset(longest, 'a', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_null(text_nearest(longest, words, n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_until_it_is_full),
		cmocka_unit_test(a_buffer_of_one_byte_holds_the_empty_text),
		cmocka_unit_test(escapes_what_json_and_terminals_cannot_take),
		cmocka_unit_test(replaces_invalid_utf8),
		cmocka_unit_test(never_tears_an_escape),
		cmocka_unit_test(printable_leaves_quotes),
		cmocka_unit_test(copies_and_says_whether_it_fitted),
		cmocka_unit_test(finds_the_likely_word),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
