/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "base/word.h"

static void test_any_name_is_one_word(void **state)
{
	static const char *const names[] = { "app", "", "-", "a b", "50%", "\t\n\x01\x7f", "\xc3\xbc", "%41", "unix:/run/x y/z" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *text;
		size_t length;
		FILE *out = open_memstream(&text, &length);
		assert_non_null(out);
		word_write(out, names[i]);
		fputs(" next", out);
		assert_int_equal(fclose(out), 0);
		assert_int_equal(text[0], ' ');
		assert_null(strpbrk(text, "\n\t\x01"));
		char *line = text + 1;
		assert_string_equal(word_next_text(&line), names[i]);
		assert_string_equal(word_next(&line), "next");
		assert_null(word_next(&line));
		assert_null(word_next(&line));
		free(text);
	}
}

static void test_damaged_words(void **state)
{
	static const char *const words[] = { "%", "%4", "%zz", "a%00b", "%4g", "", " ", " a" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		char copy[16], *line = copy;
		strcpy(copy, words[i]);
		assert_null(word_next_text(&line));
	}
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t number;
	} rows[] = { { "0", true, 0 }, { "100", true, 100 }, { "101", false, 0 }, { "-1", false, 0 }, { "+1", false, 0 },
		{ "1x", false, 0 }, { "", false, 0 }, { " 1", false, 0 }, { "99999999999999999999999999", false, 0 },
		{ "0x10", false, 0 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char copy[64], *line = copy;
		uint64_t number = 7;
		strcpy(copy, rows[i].text);
		assert_int_equal(word_next_number(&line, 100, &number), rows[i].ok);
		assert_int_equal(number, rows[i].ok ? rows[i].number : 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_name_is_one_word),
		cmocka_unit_test(test_damaged_words),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
