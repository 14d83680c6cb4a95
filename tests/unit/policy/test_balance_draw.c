/* random and p2c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"

enum { MANY = 1000, RETRIES = 8 };

#include "balance_ground.h"

static const enum balance_algorithm both[] = { BALANCE_BY_RANDOM, BALANCE_BY_P2C };

static uint32_t random_below(uint32_t limit)
{
	return (uint32_t)(hash_next(&random_state) >> 33) % limit;
}

static void start(enum balance_algorithm algorithm, uint32_t n, uint64_t seed)
{
	balance_fini(&balance);
	assert_int_equal(balance_init(&balance, algorithm, entries, n, 0, seed, load_of, loads), 0);
}

static void set_up(enum balance_algorithm algorithm, const uint32_t *weights, uint32_t n)
{
	memset(entries, 0, sizeof entries);
	memset(loads, 0, sizeof loads);
	for (uint32_t i = 0; i < n; i++)
		entries[i].weight = weights ? weights[i] : 100;
	start(algorithm, n, 1);
}

static void assert_near(uint32_t count, double expected, double part)
{
	assert_in_range(count, (uintmax_t)(expected * (1 - part)), (uintmax_t)(expected * (1 + part)));
}

/* --- both ---------------------------------------------------------------------------------------------------------------- */

static void test_seed_decides(void **state)
{
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		int chosen[2][100], others = 0;
		set_up(both[a], NULL, MANY);
		for (int i = 0; i < 100; i++)
			chosen[0][i] = choose();
		start(both[a], MANY, 2);
		for (int i = 0; i < 100; i++)
			others += choose() != chosen[0][i];
		assert_true(others > 90);
		start(both[a], MANY, 1);
		for (int i = 0; i < 100; i++)
			assert_int_equal(choose(), chosen[0][i]);
	}
}

/* Connections that stay, up to 100000 of them. */
static void test_weights_hold(void **state)
{
	static const uint32_t weights[] = { 1, 2, 3, 4, 10, 10, 20, 50 };
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		set_up(both[a], weights, 8);
		for (int i = 0; i < 100000; i++) {
			int chosen = choose();
			loads[chosen]++;
			balance_changed(&balance, (uint32_t)chosen);
		}
		for (uint32_t i = 0; i < 8; i++)
			assert_near(loads[i], 1000.0 * weights[i], 0.05);
	}
}

/* Connections that come and go, 1000 at a time. */
static void test_weights_hold_while_connections_end(void **state)
{
	static const uint32_t weights[] = { 10, 20, 30, 40 };
	static int held[1000];
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		uint32_t counts[4] = { 0 };
		set_up(both[a], weights, 4);
		for (int i = 0; i < 101000; i++) {
			uint32_t slot = i < 1000 ? (uint32_t)i : random_below(1000);
			if (i >= 1000)
				loads[held[slot]]--;
			held[slot] = choose();
			loads[held[slot]]++;
			counts[held[slot]] += i >= 1000;
		}
		for (uint32_t i = 0; i < 4; i++)
			assert_near(counts[i], 1000.0 * weights[i], 0.05);
	}
}

/* What a broken server leaves over goes to the others by their weights. */
static void test_what_a_broken_one_leaves_is_spread(void **state)
{
	static const uint32_t weights[] = { 30, 10, 20, 40 };
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		set_up(both[a], weights, 4);
		for (int i = 0; i < 70000; i++) {
			int chosen = choose_after(0);
			loads[chosen]++;
		}
		assert_int_equal(loads[0], 0);
		for (uint32_t i = 1; i < 4; i++)
			assert_near(loads[i], 1000.0 * weights[i], 0.05);
	}
}

static void test_update_counts(void **state)
{
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		uint32_t counts[3] = { 0 };
		set_up(both[a], (const uint32_t[]){ 1, 0, 1 }, 3);
		entries[2].disabled = true;
		balance_update(&balance);
		for (int i = 0; i < 100; i++)
			assert_int_equal(choose(), 0);
		entries[0].weight = 0;
		balance_update(&balance);
		assert_int_equal(choose(), -1);
		assert_int_equal(choose_after(0), -1);
		entries[1].weight = entries[0].weight = 65535;
		entries[2].disabled = false;
		balance_update(&balance);
		for (int i = 0; i < 1000; i++)
			counts[choose()]++;
		assert_true(counts[0] > 400 && counts[1] > 400 && counts[2] < 5);
		entries[0].backup = entries[1].backup = true;
		balance_update(&balance);
		assert_int_equal(choose(), 2);
		assert_in_range(choose_after(2), 0, 1);
		assert_false(balance_work(&balance, 1));
	}
}

static void check_any_set(enum balance_algorithm algorithm)
{
	uint32_t n = 1 + random_below(RETRIES + 2), n_tried = 0;
	uint16_t tried[RETRIES];
	bool was_tried[RETRIES + 2] = { false }, primary_left = false, any_left = false, any = false;
	for (uint32_t i = 0; i < n; i++) {
		entries[i] = (struct balance_entry){
			.weight = random_below(2) * random_below(65536), .backup = random_below(3) == 0, .disabled = random_below(4) == 0
		};
		loads[i] = random_below(3);
	}
	start(algorithm, n, random_below(1000));
	while (n_tried < RETRIES && random_below(4)) {
		tried[n_tried] = (uint16_t)random_below(n);
		was_tried[tried[n_tried++]] = true;
	}
	for (uint32_t i = 0; i < n; i++) {
		bool usable = entries[i].weight && !entries[i].disabled;
		any |= usable;
		any_left |= usable && !was_tried[i];
		primary_left |= usable && !was_tried[i] && !entries[i].backup;
	}
	for (int i = 0; i < 5; i++) {
		int chosen = balance_choose(&balance, 0, tried, n_tried);
		if (!any) {
			assert_int_equal(chosen, -1);
			continue;
		}
		assert_in_range(chosen, 0, n - 1);
		assert_true(entries[chosen].weight && !entries[chosen].disabled);
		if (any_left)
			assert_true(!was_tried[chosen] && entries[chosen].backup == !primary_left);
	}
}

static void test_any_set_may_be_tried(void **state)
{
	(void)state;
	memset(entries, 0, sizeof entries);
	for (int round = 0; round < 20000; round++)
		check_any_set(both[round % 2]);
}

static void test_none_at_all(void **state)
{
	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(both); a++) {
		start(both[a], 0, 1);
		assert_int_equal(choose(), -1);
	}
}

/* --- power of two choices ------------------------------------------------------------------------------------------------ */

/* Two servers are always the two that are drawn: then the choice is exact. */
static void test_the_better_of_two(void **state)
{
	(void)state;
	set_up(BALANCE_BY_P2C, (const uint32_t[]){ 30, 10 }, 2);
	for (int i = 0; i < 2000; i++) {
		loads[0] = random_below(30), loads[1] = random_below(10);
		uint32_t ranks[2] = { loads[0] + 1, 3 * (loads[1] + 1) };
		int chosen = choose();
		assert_in_range(chosen, 0, 1);
		assert_true(ranks[chosen] <= ranks[1 - chosen]);
	}
}

/* The worst of all is never chosen, the best one in about 2 of n cases, and no more than two are looked at. */
static void test_two_are_looked_at(void **state)
{
	uint32_t counts[10] = { 0 };
	(void)state;
	set_up(BALANCE_BY_P2C, NULL, 10);
	for (uint32_t i = 0; i < 10; i++)
		loads[i] = i;
	looks = 0;
	for (int i = 0; i < 10000; i++)
		counts[choose()]++;
	assert_int_equal(looks, 20000);
	assert_int_equal(counts[9], 0);
	for (uint32_t i = 0; i < 9; i++) /* it is one of the two, and the other one is worse */
		assert_near(counts[i], 10000.0 * 2 * (9 - i) / 90, 0.15);
}

static void test_ties_are_spread(void **state)
{
	(void)state;
	for (int stays = 0; stays < 2; stays++) {
		uint32_t counts[9] = { 0 };
		set_up(BALANCE_BY_P2C, NULL, 9);
		for (int i = 0; i < 900; i++) {
			int chosen = choose();
			counts[chosen]++;
			loads[chosen] += (uint32_t)stays; /* or the connection ends at once */
		}
		for (uint32_t i = 0; i < 9; i++)
			assert_in_range(counts[i], 90, 110);
	}
}

/* A server that was away, or always tried before, or the best one for a while: with equal loads it has its share again, and hardly more
 * or less than that. */
static void test_missed_turns_are_lost(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		uint32_t counts[9] = { 0 };
		set_up(BALANCE_BY_P2C, NULL, 9);
		entries[4].disabled = how == 0;
		balance_update(&balance);
		for (uint32_t i = 0; i < 9; i++)
			loads[i] = how == 2 && i != 4;
		for (int i = 0; i < 10000; i++) {
			int chosen = how == 1 ? choose_after(4) : choose();
			assert_true(how == 2 || chosen != 4);
		}
		memset(loads, 0, sizeof loads);
		if (how == 0) {
			entries[4].disabled = false;
			balance_update(&balance);
		}
		for (int i = 0; i < 900; i++)
			counts[choose()]++;
		for (uint32_t i = 0; i < 9; i++)
			assert_in_range(counts[i], 90, 110);
	}
}

/* 1000 servers, 100 connections each: with one draw some would have 130 and more. */
static void test_load_is_even(void **state)
{
	(void)state;
	set_up(BALANCE_BY_P2C, NULL, MANY);
	for (uint32_t i = 0; i < 100 * MANY; i++)
		loads[choose()]++;
	for (uint32_t i = 0; i < MANY; i++)
		assert_in_range(loads[i], 90, 105);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up_test, tear_down_test)
	const struct CMUnitTest tests[] = {
		TEST(test_seed_decides),
		TEST(test_weights_hold),
		TEST(test_weights_hold_while_connections_end),
		TEST(test_what_a_broken_one_leaves_is_spread),
		TEST(test_update_counts),
		TEST(test_any_set_may_be_tried),
		TEST(test_none_at_all),
		TEST(test_the_better_of_two),
		TEST(test_two_are_looked_at),
		TEST(test_ties_are_spread),
		TEST(test_missed_turns_are_lost),
		TEST(test_load_is_even),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
