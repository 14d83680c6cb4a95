#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "policy/draw.h"

enum { MANY = 1000, MAX_WITHOUT = 9 };

static uint64_t random_state;
static struct draw lots;
static uint32_t weights[MANY];

static uint32_t random_below(uint32_t limit)
{
	return (uint32_t)(hash_next(&random_state) >> 33) % limit;
}

static void fill(uint32_t n)
{
	draw_begin(&lots);
	for (uint32_t i = 0; i < n; i++)
		draw_add(&lots, weights[i]);
	draw_end(&lots);
}

static int set_up(void **state)
{
	(void)state;
	random_state = 1;
	return draw_init(&lots, MANY);
}

static int tear_down(void **state)
{
	(void)state;
	draw_fini(&lots);
	return 0;
}

/* Each number there can be, once: everyone is drawn exactly as often as he weighs, and who is left out not at all. */
static void check_every_number(uint32_t n, const uint32_t *without, uint32_t n_without)
{
	static uint32_t counts[MANY];
	bool is_out[MANY] = { false };
	uint32_t left = 0;
	for (uint32_t i = 0; i < n_without; i++)
		is_out[without[i]] = true;
	for (uint32_t i = 0; i < n; i++)
		left += is_out[i] ? 0 : weights[i];
	memset(counts, 0, sizeof counts);
	for (uint32_t number = 0; number < left; number++) {
		uint64_t width = UINT64_MAX / left;
		uint32_t drawn = draw_pick(&lots, number * width + width / 2, without, n_without);
		assert_in_range(drawn, 0, n - 1);
		counts[drawn]++;
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(counts[i], is_out[i] ? 0 : weights[i]);
	if (left == 0)
		assert_int_equal(draw_pick(&lots, 5, without, n_without), DRAW_NOBODY);
}

static void test_chances_are_exact(void **state)
{
	static const uint32_t heaviest[] = { 1, 2, 100, 3000 };
	(void)state;
	for (uint32_t round = 0; round < 400; round++) {
		uint32_t n = 1 + random_below(round % 10 ? 12 : 200), without[MAX_WITHOUT], n_without = 0;
		for (uint32_t i = 0; i < n; i++)
			weights[i] = 1 + random_below(heaviest[random_below(4)]);
		fill(n);
		for (uint32_t i = 0; i < n && n_without < MAX_WITHOUT; i++)
			if (random_below(3) == 0)
				without[n_without++] = i;
		check_every_number(n, without, n_without);
		check_every_number(n, NULL, 0);
	}
}

static void test_nobody(void **state)
{
	(void)state;
	fill(0);
	assert_int_equal(draw_pick(&lots, 0, NULL, 0), DRAW_NOBODY);
	weights[0] = 7;
	fill(1);
	assert_int_equal(draw_pick(&lots, UINT64_MAX, NULL, 0), 0);
	assert_int_equal(draw_pick(&lots, UINT64_MAX, (const uint32_t[]){ 0 }, 1), DRAW_NOBODY);
}

/* The light ones are found behind heavy ones that are left out, and the ends of the line are where they should be. */
static void test_heavy_and_light(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		weights[i] = i == 0 || i == 500 || i == MANY - 1 ? 65535 : 1;
	fill(MANY);
	check_every_number(MANY, NULL, 0);
	check_every_number(MANY, (const uint32_t[]){ 0, 500, MANY - 1 }, 3);
	check_every_number(MANY, (const uint32_t[]){ 0, 1, 2, 499, 500, 501, MANY - 1 }, 7);
	assert_int_equal(draw_pick(&lots, 0, NULL, 0), 0);
	assert_int_equal(draw_pick(&lots, UINT64_MAX, NULL, 0), MANY - 1);
	assert_int_equal(draw_pick(&lots, 0, (const uint32_t[]){ 0 }, 1), 1);
	assert_int_equal(draw_pick(&lots, UINT64_MAX, (const uint32_t[]){ MANY - 1 }, 1), MANY - 2);
}

/* As many as there may be, as heavy as they may be: the sum just fits. */
static void test_heaviest_of_all(void **state)
{
	struct draw many;
	(void)state;
	assert_int_equal(draw_init(&many, 65536), 0);
	draw_begin(&many);
	for (uint32_t i = 0; i < 65536; i++)
		draw_add(&many, 65535);
	draw_end(&many);
	for (uint64_t i = 0; i < 65536; i++)
		assert_int_equal(draw_pick(&many, i << 48 | UINT64_C(1) << 47, NULL, 0), i);
	draw_fini(&many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chances_are_exact, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_heavy_and_light, set_up, tear_down),
		cmocka_unit_test(test_heaviest_of_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
