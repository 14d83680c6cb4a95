#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/table.h"

static const struct {
	const char *name;
	int number;
} things[] = { { "pear", 7 }, { "apple", 7 }, { "a long one indeed", 20 }, { "fig", 1 } };

static void show_name(const void *source, size_t row, struct table_cell *out)
{
	(void)source;
	snprintf(out->text, sizeof out->text, "%s", things[row].name);
}

static void show_number(const void *source, size_t row, struct table_cell *out)
{
	(void)source;
	snprintf(out->text, sizeof out->text, "%d", things[row].number);
	out->number = things[row].number;
}

static const struct column columns[] = {
	{ "NAME", show_name, .most = 10, .to_left = true, .by_text = true },
	{ "NUMBER", show_number, .width = 6, .rank = 1 },
	{ "AGAIN", show_number, .width = 8, .rank = 2 },
	{ "WORDS", show_name, .most = 30, .rank = 3, .to_left = true },
};

struct fixture {
	size_t rows[ARRAY_LEN(things)];
	struct table table;
	struct table_look look;
	struct canvas canvas;
};

static struct fixture fixture_of(unsigned columns_wide)
{
	struct fixture fixture = { .rows = { 0, 1, 2, 3 }, .look = { .sorted = -1 } };
	fixture.table = (struct table){ .columns = columns, .n_columns = ARRAY_LEN(columns), .n_rows = ARRAY_LEN(things) };
	assert_int_equal(canvas_resize(&fixture.canvas, 6, columns_wide), 0);
	return fixture;
}

static void draw(struct fixture *fixture, unsigned lines)
{
	fixture->table.rows = fixture->rows;
	canvas_clear(&fixture->canvas);
	table_draw(&fixture->table, &fixture->look, &fixture->canvas, 0, lines);
}

static void assert_row(const struct fixture *fixture, unsigned row, const char *wanted)
{
	char text[256];
	assert_string_equal(canvas_row_text(&fixture->canvas, row, text, sizeof text), wanted);
}

static void assert_order(struct fixture *fixture, int sorted, bool backwards, const char *wanted)
{
	char order[8] = "";
	const struct table_look look = { .sorted = sorted, .backwards = backwards };
	for (size_t i = 0; i < ARRAY_LEN(things); i++)
		fixture->rows[i] = i;
	fixture->table.rows = fixture->rows;
	table_sort(&fixture->table, &look);
	for (size_t i = 0; i < ARRAY_LEN(things); i++)
		order[i] = (char)('0' + fixture->rows[i]);
	assert_string_equal(order, wanted);
}

static void test_order(void **state)
{
	struct fixture fixture = fixture_of(10);
	assert_order(&fixture, -1, false, "0123");
	assert_order(&fixture, 0, false, "2130");
	assert_order(&fixture, 0, true, "0312");
	/* The largest first; equal ones as they came. */
	assert_order(&fixture, 1, false, "2013");
	assert_order(&fixture, 1, true, "3012");
	assert_order(&fixture, 99, false, "0123");
	canvas_free(&fixture.canvas);
	(void)state;
}

static void test_width(void **state)
{
	struct fixture fixture = fixture_of(60);
	draw(&fixture, 6);
	assert_row(&fixture, 0, "NAME        NUMBER     AGAIN  WORDS");
	assert_row(&fixture, 1, "pear             7         7  pear");
	assert_row(&fixture, 3, "a long on\xe2\x80\xa6      20        20  a long one indeed");
	canvas_free(&fixture.canvas);
	/* Words are cut as long as they tell something, the highest rank goes first, rank 0 stays. */
	fixture = fixture_of(42);
	draw(&fixture, 6);
	assert_row(&fixture, 3, "a long on\xe2\x80\xa6      20        20  a long one \xe2\x80\xa6");
	canvas_free(&fixture.canvas);
	fixture = fixture_of(30);
	draw(&fixture, 6);
	assert_row(&fixture, 3, "a long on\xe2\x80\xa6      20        20");
	canvas_free(&fixture.canvas);
	fixture = fixture_of(20);
	draw(&fixture, 6);
	assert_row(&fixture, 3, "a long on\xe2\x80\xa6      20");
	canvas_free(&fixture.canvas);
	fixture = fixture_of(4);
	draw(&fixture, 6);
	assert_row(&fixture, 3, "a l\xe2\x80\xa6");
	canvas_free(&fixture.canvas);
	(void)state;
}

static void test_shift(void **state)
{
	struct fixture fixture = fixture_of(28);
	fixture.look.shift = 2;
	draw(&fixture, 6);
	assert_row(&fixture, 0, "NAME        WORDS");
	assert_row(&fixture, 3, "a long on\xe2\x80\xa6  a long one inde\xe2\x80\xa6");
	canvas_free(&fixture.canvas);
	(void)state;
}

static bool is_unwanted(const void *source)
{
	return source == NULL;
}

static void test_what_is_not_wanted_takes_no_room(void **state)
{
	(void)state;
	static const struct column some[] = {
		{ "NAME", show_name, .most = 10, .to_left = true },
		{ "NUMBER", show_number, .width = 6, .rank = 1, .is_wanted = is_unwanted },
		{ "AGAIN", show_number, .width = 8, .rank = 2 },
	};
	struct fixture fixture = fixture_of(40);
	fixture.table.columns = some;
	fixture.table.n_columns = ARRAY_LEN(some);
	draw(&fixture, 3);
	assert_row(&fixture, 0, "NAME        NUMBER     AGAIN");
	fixture.table.source = &fixture;
	draw(&fixture, 3);
	assert_row(&fixture, 0, "NAME           AGAIN");
	assert_row(&fixture, 1, "pear               7");
	canvas_free(&fixture.canvas);
}

static void test_scrolling_stays_within(void **state)
{
	struct fixture fixture = fixture_of(20);
	fixture.look.first = SIZE_MAX / 2;
	draw(&fixture, 3);
	assert_int_equal(fixture.look.first, 2);
	assert_row(&fixture, 2, "fig              1");
	assert_row(&fixture, 3, "");
	draw(&fixture, 0);
	draw(&fixture, 1);
	assert_row(&fixture, 0, "NAME        NUMBER");
	assert_row(&fixture, 1, "");
	draw(&fixture, 100);
	assert_int_equal(fixture.look.first, 0);
	fixture.table.n_rows = 0;
	draw(&fixture, 6);
	assert_row(&fixture, 1, "");
	canvas_free(&fixture.canvas);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_shift),
		cmocka_unit_test(test_what_is_not_wanted_takes_no_room),
		cmocka_unit_test(test_scrolling_stays_within),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
