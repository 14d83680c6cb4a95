#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "policy/maglev.h"

enum { MANY = 1000 };

static struct maglev maglev;
static uint16_t before[MAGLEV_SLOTS];
static uint32_t weights[MANY];

static int set_up(void **state)
{
	(void)state;
	return maglev_init(&maglev, MAGLEV_SLOTS, MANY);
}

static int tear_down(void **state)
{
	(void)state;
	maglev_fini(&maglev);
	return 0;
}

/* Servers 0 to n - 1 whose weight is not 0. */
static void give(uint32_t n)
{
	maglev_begin(&maglev);
	for (uint32_t i = 0; i < n; i++) {
		char name[32];
		int length = snprintf(name, sizeof name, "10.1.%u.%u:6379", i / 256, i % 256);
		uint64_t hash = hash_xxh64(name, (size_t)length, 0);
		if (weights[i] > 0)
			maglev_add(&maglev, (uint16_t)i, weights[i], hash, hash_mix(hash));
	}
	maglev_end(&maglev);
}

static void make_all(void)
{
	uint32_t budget = UINT32_MAX;
	assert_false(maglev_make(&maglev, &budget));
	assert_false(maglev.making);
}

static void make(uint32_t n)
{
	give(n);
	make_all();
}

static void make_equal(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		weights[i] = 100;
	make(n);
}

static void count(uint32_t *counts, uint32_t n)
{
	memset(counts, 0, n * sizeof *counts);
	for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++) {
		assert_in_range(maglev.slots[slot], 0, n - 1);
		counts[maglev.slots[slot]]++;
	}
}

static void test_equal_shares(void **state)
{
	uint32_t counts[MANY];
	(void)state;
	for (uint32_t n = 2; n <= 100; n++) {
		make_equal(n);
		count(counts, n);
		for (uint32_t i = 0; i < n; i++)
			assert_in_range(counts[i], MAGLEV_SLOTS / n, MAGLEV_SLOTS / n + 1);
	}
	make_equal(MANY);
	count(counts, MANY);
	for (uint32_t i = 0; i < MANY; i++)
		assert_in_range(counts[i], MAGLEV_SLOTS / MANY, MAGLEV_SLOTS / MANY + 1);
}

/* Shares by weight: only the last round is not complete. */
static void test_shares_by_weight(void **state)
{
	uint32_t counts[MANY], total = 0;
	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		total += weights[i] = 1 + i * 37 % 100;
	make(100);
	count(counts, 100);
	for (uint32_t i = 0; i < 100; i++) {
		double share = (double)MAGLEV_SLOTS * weights[i] / total;
		assert_true(counts[i] > share - 2 && counts[i] < share + 2);
	}
}

/* The rule itself, written down plainly: in each round everyone gains his weight, and who has what he owes has a turn and owes the heaviest
 * weight more; each turn takes the next of the slots that he likes which is free. */
static void make_plainly(int *table, uint32_t size, uint32_t n)
{
	uint64_t owed[MANY] = { 0 }, heaviest = 0;
	uint32_t n_taken = 0;
	for (uint32_t slot = 0; slot < size; slot++)
		table[slot] = -1;
	for (uint32_t i = 0; i < n; i++)
		heaviest = weights[i] > heaviest ? weights[i] : heaviest;
	for (uint64_t round = 1; n_taken < size; round++) {
		for (uint32_t i = 0; i < n && n_taken < size; i++) {
			if (round * weights[i] < owed[i])
				continue;
			owed[i] += heaviest;
			uint64_t slot = hash_mix(i) % size, step = hash_mix(i + 1000) % (size - 1) + 1;
			while (table[slot] >= 0)
				slot = (slot + step) % size;
			table[slot] = (int)i;
			n_taken++;
		}
	}
}

static void test_as_the_plain_rule_has_it(void **state)
{
	enum { SIZE = 251 };
	static const uint32_t heaviest[] = { 1, 3, 10, 100, 65535 };
	uint64_t random = 1;
	(void)state;
	for (uint32_t n = 1; n <= 60; n++) {
		struct maglev small;
		uint32_t budget = UINT32_MAX;
		int table[SIZE];
		assert_int_equal(maglev_init(&small, SIZE, n), 0);
		for (uint32_t i = 0; i < n; i++)
			weights[i] = 1 + (uint32_t)(hash_next(&random) % heaviest[n % ARRAY_LEN(heaviest)]);
		make_plainly(table, SIZE, n);
		maglev_begin(&small);
		for (uint32_t i = 0; i < n; i++)
			maglev_add(&small, (uint16_t)i, weights[i], hash_mix(i), hash_mix(i + 1000));
		maglev_end(&small);
		assert_false(maglev_make(&small, &budget));
		for (uint32_t slot = 0; slot < SIZE; slot++)
			assert_int_equal(small.slots[slot], table[slot]);
		maglev_fini(&small);
	}
}

static uint32_t slots_of_others_moved(uint32_t changed)
{
	uint32_t moved = 0;
	for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
		moved += before[slot] != maglev.slots[slot] && before[slot] != changed && maglev.slots[slot] != changed;
	return moved;
}

/* One of ten goes: at most 12 % of all move, and the shares of the others are equal again. */
static void test_one_goes(void **state)
{
	(void)state;
	for (uint32_t gone = 0; gone < 10; gone++) {
		uint32_t counts[10], moved = 0;
		make_equal(10);
		memcpy(before, maglev.slots, sizeof before);
		weights[gone] = 0;
		make(10);
		count(counts, 10);
		for (uint32_t i = 0; i < 10; i++)
			assert_in_range(counts[i], i == gone ? 0 : MAGLEV_SLOTS / 9, i == gone ? 0 : MAGLEV_SLOTS / 9 + 1);
		for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
			moved += before[slot] != maglev.slots[slot];
		assert_in_range(moved, MAGLEV_SLOTS / 10, MAGLEV_SLOTS * 12 / 100);
		assert_in_range(slots_of_others_moved(gone), 0, MAGLEV_SLOTS / 100);
	}
}

/* A server gets another weight: slots move to it or from it, and of the others' hardly any. */
static void test_one_changes_its_weight(void **state)
{
	static const uint32_t others[] = { 1, 50, 99, 101, 200, 1000, 65535 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		make_equal(10);
		memcpy(before, maglev.slots, sizeof before);
		weights[4] = others[i];
		make(10);
		assert_in_range(slots_of_others_moved(4), 0, MAGLEV_SLOTS / 200);
	}
}

/* In pieces of any size, and the table in use is the old one until the new one is complete. */
static void test_in_pieces(void **state)
{
	static uint16_t wanted[MAGLEV_SLOTS];
	static const uint32_t pieces[] = { 1, 1000, 65536 };
	(void)state;
	make_equal(50);
	memcpy(wanted, maglev.slots, sizeof wanted);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		make_equal(3);
		memcpy(before, maglev.slots, sizeof before);
		for (uint32_t server = 0; server < 50; server++)
			weights[server] = 100;
		give(50);
		uint64_t looked_at = 0, rounds = 0;
		for (uint32_t budget = pieces[i]; maglev_make(&maglev, &budget); budget = pieces[i], rounds++) {
			assert_int_equal(budget, 0);
			looked_at += pieces[i];
			if (rounds % 10000 == 0)
				assert_memory_equal(maglev.slots, before, sizeof before);
		}
		assert_memory_equal(maglev.slots, wanted, sizeof wanted);
		assert_in_range(looked_at, MAGLEV_SLOTS, 20 * MAGLEV_SLOTS);
	}
}

static void test_same_servers_are_no_work(void **state)
{
	(void)state;
	make_equal(20);
	give(20);
	assert_false(maglev.making);
	weights[19] = 99;
	give(20);
	assert_true(maglev.making);
	make_all();
	assert_false(maglev_is_empty(&maglev));
	make_equal(0);
	assert_true(maglev_is_empty(&maglev));
	give(20);
	assert_true(maglev.making);
}

/* Begun again and again with other numbers of servers: each time the same as a table that was made from scratch. */
static void test_nothing_is_left_over(void **state)
{
	static const uint32_t sizes[] = { 5, 1000, 1, 0, 30, 29, 30 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		make_equal(sizes[i]);
		uint32_t in_use = maglev.in_use;
		memcpy(before, maglev.slots, sizeof before);
		maglev_fini(&maglev);
		assert_int_equal(maglev_init(&maglev, MAGLEV_SLOTS, MANY), 0);
		make_equal(sizes[i]);
		assert_int_equal(maglev.in_use, in_use);
		if (in_use > 0)
			assert_memory_equal(maglev.slots, before, sizeof before);
	}
}

/* More servers than slots: whoever comes first gets one. */
static void test_more_servers_than_slots(void **state)
{
	struct maglev small;
	uint32_t budget = UINT32_MAX, counts[20] = { 0 };
	(void)state;
	assert_int_equal(maglev_init(&small, 13, 20), 0);
	maglev_begin(&small);
	for (uint16_t i = 0; i < 20; i++)
		maglev_add(&small, i, 1, hash_mix(i), hash_mix(i + 100));
	maglev_end(&small);
	assert_false(maglev_make(&small, &budget));
	for (uint32_t slot = 0; slot < 13; slot++)
		counts[small.slots[slot]]++;
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(counts[i], i < 13);
	maglev_fini(&small);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_equal_shares),
		TEST(test_shares_by_weight),
		TEST(test_as_the_plain_rule_has_it),
		TEST(test_one_goes),
		TEST(test_one_changes_its_weight),
		TEST(test_in_pieces),
		TEST(test_same_servers_are_no_work),
		TEST(test_nothing_is_left_over),
		TEST(test_more_servers_than_slots),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
