#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "policy/balance.h"

static struct balance balance;
static struct balance_entry entries[16];
static uint32_t loads[16];

static uint32_t load_of(const void *arg, uint32_t entry)
{
	(void)arg;
	return loads[entry];
}

static void set_up(enum balance_algorithm algorithm, const uint32_t *weights, uint32_t n)
{
	memset(entries, 0, sizeof entries);
	memset(loads, 0, sizeof loads);
	for (uint32_t i = 0; i < n; i++)
		entries[i].weight = weights[i];
	balance_init(&balance, algorithm, entries, n, 0);
	balance.load = load_of;
}

static void assert_sequence(const char *expected)
{
	for (size_t i = 0; expected[i]; i++)
		assert_int_equal('a' + balance_choose(&balance, NULL, 0), expected[i]);
}

/* nginx, commit 52327e0627f4: peers a=5 b=1 c=1 */
static void test_smooth_round_robin(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 5, 1, 1 }, 3);
	assert_sequence("aabacaaaabacaa");
}

static void test_equal_weights_rotate(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 100, 100, 100, 100 }, 4);
	assert_sequence("abcdabcda");
	balance_init(&balance, BALANCE_BY_ROUND_ROBIN, entries, 4, 6);
	assert_sequence("cdab");
}

static void test_weights_hold_over_many(void **state)
{
	(void)state;
	int counts[3] = { 0 };
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 100, 100, 50 }, 3);
	for (int i = 0; i < 250; i++)
		counts[balance_choose(&balance, NULL, 0)]++;
	assert_int_equal(counts[0], 100);
	assert_int_equal(counts[1], 100);
	assert_int_equal(counts[2], 50);
}

static void test_disabled_and_weightless_get_nothing(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 1, 0, 1, 1 }, 4);
	entries[3].disabled = true;
	assert_sequence("acac");
	entries[0].disabled = entries[2].disabled = true;
	assert_int_equal(balance_choose(&balance, NULL, 0), -1);
}

static void test_backups_only_when_no_primary_is_left(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 1, 1, 1 }, 3);
	entries[2].backup = true;
	assert_sequence("abab");
	assert_int_equal(balance_choose(&balance, (const uint16_t[]){ 0 }, 1), 1);
	assert_int_equal(balance_choose(&balance, (const uint16_t[]){ 0, 1 }, 2), 2);
	entries[0].disabled = entries[1].disabled = true;
	assert_sequence("ccc");
}

static void test_a_tried_one_comes_again_only_when_alone(void **state)
{
	(void)state;
	for (int algorithm = BALANCE_BY_ROUND_ROBIN; algorithm <= BALANCE_BY_LEAST_CONNECTIONS; algorithm++) {
		set_up((enum balance_algorithm)algorithm, (const uint32_t[]){ 9, 1 }, 2);
		for (int i = 0; i < 10; i++)
			assert_int_equal(balance_choose(&balance, (const uint16_t[]){ 0 }, 1), 1);
		entries[1].disabled = true;
		assert_int_equal(balance_choose(&balance, (const uint16_t[]){ 0 }, 1), 0);
	}
}

static void test_least_connections(void **state)
{
	(void)state;
	set_up(BALANCE_BY_LEAST_CONNECTIONS, (const uint32_t[]){ 100, 100, 100 }, 3);
	loads[0] = 5, loads[1] = 4, loads[2] = 6;
	assert_int_equal(balance_choose(&balance, NULL, 0), 1);
	loads[1] = 7;
	assert_int_equal(balance_choose(&balance, NULL, 0), 0);
}

static void test_least_connections_by_weight(void **state)
{
	(void)state;
	int counts[2] = { 0 };
	set_up(BALANCE_BY_LEAST_CONNECTIONS, (const uint32_t[]){ 30, 10 }, 2);
	for (int i = 0; i < 400; i++) {
		int chosen = balance_choose(&balance, NULL, 0);
		counts[chosen]++;
		loads[chosen]++;
	}
	assert_in_range(counts[0], 299, 301);
}

/* Ties go around: nine idle equal servers and 900 connections that end at once. */
static void test_ties_are_spread(void **state)
{
	(void)state;
	int counts[9] = { 0 };
	set_up(BALANCE_BY_LEAST_CONNECTIONS, (const uint32_t[]){ 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 9);
	for (int i = 0; i < 900; i++)
		counts[balance_choose(&balance, NULL, 0)]++;
	for (int i = 0; i < 9; i++)
		assert_int_equal(counts[i], 100);
}

static void test_none_at_all(void **state)
{
	(void)state;
	balance_init(&balance, BALANCE_BY_ROUND_ROBIN, entries, 0, 7);
	assert_int_equal(balance_choose(&balance, NULL, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smooth_round_robin),
		cmocka_unit_test(test_equal_weights_rotate),
		cmocka_unit_test(test_weights_hold_over_many),
		cmocka_unit_test(test_disabled_and_weightless_get_nothing),
		cmocka_unit_test(test_backups_only_when_no_primary_is_left),
		cmocka_unit_test(test_a_tried_one_comes_again_only_when_alone),
		cmocka_unit_test(test_least_connections),
		cmocka_unit_test(test_least_connections_by_weight),
		cmocka_unit_test(test_ties_are_spread),
		cmocka_unit_test(test_none_at_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
