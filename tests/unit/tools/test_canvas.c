#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/live_parts.h"
#include "tools/trend.h"

static struct canvas canvas_of(unsigned rows, unsigned columns, bool ascii)
{
	struct canvas canvas = { .ascii = ascii };
	assert_int_equal(canvas_resize(&canvas, rows, columns), 0);
	return canvas;
}

static void assert_row(const struct canvas *canvas, unsigned row, const char *wanted)
{
	char text[1024];
	assert_string_equal(canvas_row_text(canvas, row, text, sizeof text), wanted);
}

static void test_nothing_leaves_its_place(void **state)
{
	struct canvas canvas = canvas_of(2, 10, false);
	assert_int_equal(canvas_put(&canvas, 0, 0, 4, STYLE_PLAIN, "abc"), 3);
	assert_int_equal(canvas_put(&canvas, 0, 4, 4, STYLE_BAD, "abcdefgh"), 4);
	assert_row(&canvas, 0, "abc abc\xe2\x80\xa6");
	assert_int_equal(canvas_at(&canvas, 0, 4)->style, STYLE_BAD);
	assert_int_equal(canvas_at(&canvas, 0, 0)->style, STYLE_PLAIN);
	assert_int_equal(canvas_put(&canvas, 1, 7, 100, STYLE_PLAIN, "12345"), 3);
	assert_row(&canvas, 1, "       12\xe2\x80\xa6");
	assert_int_equal(canvas_put(&canvas, 1, 10, 5, STYLE_PLAIN, "x"), 0);
	assert_int_equal(canvas_put(&canvas, 1, UINT32_MAX, 5, STYLE_PLAIN, "x"), 0);
	canvas_put(&canvas, 2, 0, 5, STYLE_PLAIN, "below");
	canvas_put_character(&canvas, 77, 77, STYLE_PLAIN, 'x');
	canvas_dye(&canvas, 9, STYLE_BAR);
	canvas_put_right(&canvas, 1, 0, 6, STYLE_PLAIN, "ab");
	assert_row(&canvas, 1, "    ab 12\xe2\x80\xa6");
	canvas_free(&canvas);
	canvas = canvas_of(0, 0, false);
	canvas_put(&canvas, 0, 0, 5, STYLE_PLAIN, "none");
	canvas_free(&canvas);
	(void)state;
}

static void test_size_is_bounded(void **state)
{
	struct canvas canvas = canvas_of(UINT32_MAX, UINT32_MAX, false);
	assert_int_equal(canvas.rows, CANVAS_MAX_ROWS);
	assert_int_equal(canvas.columns, CANVAS_MAX_COLUMNS);
	canvas_free(&canvas);
	(void)state;
}

/* Control bytes, broken UTF-8, what joins the letter before it, what takes two places, what turns the direction. */
static void test_hostile_text(void **state)
{
	struct canvas canvas = canvas_of(1, 40, false);
	canvas_put(&canvas, 0, 0, 40, STYLE_PLAIN, "a\033[2Jb\n\x7f\xff\xc3\xe4\xbd\xa0\xcc\x81\xe2\x80\xae\xf0\x9f\x98\x80z\xe2\x82");
	assert_row(&canvas, 0, "a?[2Jb????????z?");
	canvas_clear(&canvas);
	canvas_put(&canvas, 0, 0, 40, STYLE_PLAIN, "\xc3\xa4\xce\xb1\xd0\xb6");
	assert_row(&canvas, 0, "\xc3\xa4\xce\xb1\xd0\xb6");
	canvas_free(&canvas);
	(void)state;
}

static void test_ascii(void **state)
{
	struct canvas canvas = canvas_of(1, 10, true);
	canvas_put(&canvas, 0, 0, 5, STYLE_PLAIN, "a\xc2\xb7\xc3\xa4 longer");
	assert_row(&canvas, 0, "a-? ~");
	canvas_free(&canvas);
	(void)state;
}

static void test_trend(void **state)
{
	struct canvas canvas = canvas_of(2, 12, true);
	struct trend trend = { 0 };
	trend_draw(&trend, &canvas, 0, 0, 12, 1);
	assert_row(&canvas, 0, "");
	const double values[] = { 0, 1, 50, TREND_GAP, 100 };
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		trend_add(&trend, values[i]);
	trend_draw(&trend, &canvas, 0, 2, 10, 1);
	/* Nothing is the lowest, a little is more than nothing, a gap is empty, the newest stands at the right. */
	assert_row(&canvas, 0, "       _.- *");
	assert_int_equal(trend_most(&trend, 10), 100);
	assert_int_equal(trend_most(&trend, 1), 100);
	for (unsigned i = 0; i < 2 * TREND_VALUES; i++)
		trend_add(&trend, 8);
	assert_int_equal(trend_most(&trend, TREND_VALUES * 2), 8);
	canvas_clear(&canvas);
	trend_add(&trend, 4);
	trend_draw(&trend, &canvas, 0, 0, 2, 2);
	assert_row(&canvas, 0, "*");
	assert_row(&canvas, 1, "##");
	canvas_free(&canvas);
	(void)state;
}

static void test_numbers(void **state)
{
	static const struct {
		double number;
		const char *text;
	} rows[] = { { 0, "0" }, { 0.04, "0.0" }, { 0.5, "0.5" }, { 9.94, "9.9" }, { 9.96, "10" }, { 9999, "9999" }, { 9999.9, "10.0k" },
		{ 12345, "12.3k" }, { 99960, "100k" }, { 999600, "1.0M" }, { 4.5e9, "4.5G" } };
	char text[32];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(live_number(rows[i].number, text, sizeof text), rows[i].text);
	assert_string_equal(live_bits(0, text, sizeof text), "0 bps");
	assert_string_equal(live_bits(2.45e9, text, sizeof text), "2.5 Gbps");
	assert_string_equal(live_bits(999.9e3, text, sizeof text), "1.0 Mbps");
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_leaves_its_place),
		cmocka_unit_test(test_size_is_bounded),
		cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_ascii),
		cmocka_unit_test(test_trend),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
