/* consistent_hash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "policy/balance.h"

enum { MANY = 1000, KEYS = 20000, RETRIES = 8, WHOLE = UINT32_MAX };

static struct balance balance, other;
static struct balance_entry entries[MANY], other_entries[MANY];
static uint64_t random_state;
static int chosen_before[KEYS];

static uint32_t random_below(uint32_t limit)
{
	return (uint32_t)(hash_next(&random_state) >> 33) % limit;
}

static uint64_t name_hash(uint32_t number)
{
	char name[32];
	int length = snprintf(name, sizeof name, "server%u", (unsigned)number);
	return hash_xxh64(name, (size_t)length, 0);
}

static void start(struct balance *which, struct balance_entry *of, uint32_t n, uint32_t first)
{
	balance_fini(which);
	assert_int_equal(balance_init(which, BALANCE_BY_CONSISTENT_HASH, of, n, first, first, NULL, NULL), 0);
}

static void set_up(uint32_t n)
{
	memset(entries, 0, sizeof entries);
	for (uint32_t i = 0; i < n; i++)
		entries[i] = (struct balance_entry){ .name_hash = name_hash(i), .weight = 100 };
	start(&balance, entries, n, 0);
}

static int set_up_test(void **state)
{
	(void)state;
	random_state = 1;
	balance = other = (struct balance){ 0 };
	return 0;
}

static int tear_down_test(void **state)
{
	(void)state;
	balance_fini(&balance);
	balance_fini(&other);
	return 0;
}

static uint64_t key_of(uint32_t number)
{
	return hash_xxh64(&number, sizeof number, 0);
}

static int choose(uint32_t key)
{
	return balance_choose(&balance, key_of(key), NULL, 0);
}

static int choose_after(uint32_t key, uint16_t tried)
{
	return balance_choose(&balance, key_of(key), &tried, 1);
}

static void update(void)
{
	balance_update(&balance);
	while (balance_work(&balance, WHOLE))
		;
}

static void remember(void)
{
	for (uint32_t key = 0; key < KEYS; key++)
		chosen_before[key] = choose(key);
}

static uint32_t moved(void)
{
	uint32_t n = 0;
	for (uint32_t key = 0; key < KEYS; key++)
		n += choose(key) != chosen_before[key];
	return n;
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

/* The keys 0 to 65536 are one for each slot. */
static void test_shares_are_equal(void **state)
{
	static const uint32_t sizes[] = { 2, 3, 10, 77, 100, 1000 };
	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		uint32_t counts[MANY] = { 0 };
		set_up(sizes[s]);
		for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
			counts[balance_choose(&balance, slot, NULL, 0)]++;
		for (uint32_t i = 0; i < sizes[s]; i++)
			assert_in_range(counts[i], MAGLEV_SLOTS / sizes[s], MAGLEV_SLOTS / sizes[s] + 1);
	}
}

static void test_shares_by_weight(void **state)
{
	uint32_t counts[4] = { 0 };
	(void)state;
	set_up(4);
	for (uint32_t i = 0; i < 4; i++)
		entries[i].weight = 10 * (i + 1);
	update();
	for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
		counts[balance_choose(&balance, slot, NULL, 0)]++;
	for (uint32_t i = 0; i < 4; i++)
		assert_in_range(counts[i], MAGLEV_SLOTS * (i + 1) / 10 - 3, MAGLEV_SLOTS * (i + 1) / 10 + 3);
}

/* Another worker, another generation, another order in the file: `other` has entry i at place[i]. */
static void shuffle(uint32_t *place, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		place[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t with = random_below(i + 1), swapped = place[i];
		place[i] = place[with];
		place[with] = swapped;
	}
	for (uint32_t i = 0; i < n; i++)
		other_entries[place[i]] = entries[i];
	start(&other, other_entries, n, 33);
}

/* The same server by name, with the same one tried. */
static void assert_same(const uint32_t *place, uint32_t key, uint16_t tried)
{
	uint16_t tried_there = (uint16_t)place[tried];
	assert_int_equal(balance_choose(&other, key_of(key), NULL, 0), place[choose(key)]);
	assert_int_equal(balance_choose(&other, key_of(key), &tried_there, 1), place[choose_after(key, tried)]);
}

static void test_only_names_and_weights_count(void **state)
{
	uint32_t place[50];
	(void)state;
	set_up(50);
	for (uint32_t i = 0; i < 50; i++) {
		entries[i].weight = 1 + i % 7;
		entries[i].backup = i % 5 == 4;
	}
	update();
	shuffle(place, 50);
	for (uint32_t key = 0; key < KEYS; key++) {
		uint16_t down = (uint16_t)random_below(50);
		assert_same(place, key, down);
		if (key % 1000 == 0) {
			entries[down].disabled = other_entries[place[down]].disabled = key % 4000 == 0;
			balance_update(&balance);
			balance_update(&other);
		}
	}
}

/* Where the lot decides too: the others have about a slot each. */
static void test_only_names_and_weights_count_in_the_last_resort(void **state)
{
	uint32_t place[50];
	(void)state;
	set_up(50);
	for (uint32_t i = 0; i < 50; i++)
		entries[i].weight = i == 7 ? 65535 : 1;
	entries[7].disabled = true;
	update();
	shuffle(place, 50);
	for (uint32_t key = 0; key < KEYS; key++)
		assert_same(place, key, (uint16_t)random_below(50));
}

static void test_one_of_ten_goes(void **state)
{
	(void)state;
	set_up(10);
	remember();
	for (uint32_t gone = 0; gone < 10; gone++) {
		entries[gone].weight = 0;
		update();
		assert_in_range(moved(), KEYS * 8 / 100, KEYS * 12 / 100);
		entries[gone].weight = 100;
		update();
		assert_int_equal(moved(), 0);
	}
}

static void test_one_changes_its_weight(void **state)
{
	(void)state;
	set_up(10);
	remember();
	entries[3].weight = 50; /* has a share of 1 in 19 instead of 1 in 10 */
	update();
	assert_in_range(moved(), KEYS * 40 / 1000, KEYS * 60 / 1000);
	for (uint32_t key = 0, others = 0; key < KEYS; key++) {
		others += choose(key) != chosen_before[key] && chosen_before[key] != 3;
		assert_true(others < KEYS / 200);
	}
}

/* --- who cannot be used -------------------------------------------------------------------------------------------------- */

/* Only the clients of a disabled server go elsewhere, to all others by weight, and come back. There is no table to be made. */
static void test_a_disabled_one_moves_only_its_own(void **state)
{
	uint32_t counts[10] = { 0 }, total = 0;
	(void)state;
	set_up(10);
	for (uint32_t i = 5; i < 10; i++)
		entries[i].weight = 200;
	update();
	remember();
	entries[7].disabled = true;
	balance_update(&balance);
	for (uint32_t key = 0; key < KEYS; key++) {
		int chosen = choose(key);
		if (chosen_before[key] != 7) {
			assert_int_equal(chosen, chosen_before[key]);
			continue;
		}
		counts[chosen]++;
		total++;
	}
	assert_int_equal(counts[7], 0);
	for (uint32_t i = 0; i < 10; i++)
		if (i != 7)
			assert_in_range(counts[i], total / 13 * entries[i].weight / 125, total / 13 * entries[i].weight * 125 / 10000);
	assert_false(balance_work(&balance, 1));
	entries[7].disabled = false;
	balance_update(&balance);
	assert_int_equal(moved(), 0);
}

/* The second choice is the same whether the first one was tried or is disabled, and stays it when a third server goes. */
static void test_a_client_keeps_its_second_choice(void **state)
{
	static int second[KEYS];
	(void)state;
	set_up(20);
	remember();
	for (uint32_t key = 0; key < KEYS; key++) {
		second[key] = choose_after(key, (uint16_t)chosen_before[key]);
		assert_int_not_equal(second[key], chosen_before[key]);
	}
	for (int down = 0; down < 20; down++) {
		entries[down].disabled = true;
		balance_update(&balance);
		for (uint32_t key = 0; key < KEYS; key++) {
			int first = chosen_before[key];
			assert_int_equal(choose(key), first == down ? second[key] : first);
			if (first != down && second[key] != down)
				assert_int_equal(choose_after(key, (uint16_t)first), second[key]);
		}
		entries[down].disabled = false;
		balance_update(&balance);
	}
}

/* Few are left, or one, or one that is too light for a slot: it is found, and each key has its own. */
static void test_hardly_any_is_left(void **state)
{
	static const uint32_t left[] = { 1, 2, 10, 100 };
	(void)state;
	for (size_t l = 0; l < ARRAY_LEN(left); l++) {
		uint32_t counts[MANY] = { 0 };
		set_up(MANY);
		for (uint32_t i = 0; i < MANY; i++)
			entries[i].disabled = i % (MANY / left[l]) != 0;
		balance_update(&balance);
		for (uint32_t key = 0; key < KEYS; key++) {
			int chosen = choose(key);
			assert_in_range(chosen, 0, MANY - 1);
			assert_int_equal(choose(key), chosen);
			counts[chosen]++;
		}
		for (uint32_t i = 0; i < MANY; i++)
			if (entries[i].disabled)
				assert_int_equal(counts[i], 0);
			else
				assert_in_range(counts[i], KEYS / left[l] / 2, KEYS / left[l] * 2);
	}
}

static void test_heavy_ones_are_down(void **state)
{
	uint32_t counts[3] = { 0 };
	(void)state;
	set_up(3);
	entries[0].weight = 65535;
	entries[1].weight = entries[2].weight = 1;
	update();
	entries[0].disabled = true;
	balance_update(&balance);
	for (uint32_t key = 0; key < KEYS; key++)
		counts[choose(key)]++;
	assert_int_equal(counts[0], 0);
	assert_in_range(counts[1], KEYS * 4 / 10, KEYS * 6 / 10);
}

static void test_backups(void **state)
{
	(void)state;
	set_up(10);
	for (uint32_t i = 6; i < 10; i++)
		entries[i].backup = true;
	update();
	for (uint32_t key = 0; key < KEYS; key++)
		assert_in_range(choose(key), 0, 5);
	assert_in_range(balance_choose(&balance, 5, (const uint16_t[]){ 0, 1, 2, 3, 4, 5 }, 6), 6, 9);
	for (uint32_t i = 0; i < 6; i++)
		entries[i].disabled = true;
	balance_update(&balance);
	remember();
	entries[8].disabled = true;
	balance_update(&balance);
	for (uint32_t key = 0; key < KEYS; key++) {
		assert_in_range(choose(key), 6, 9);
		if (chosen_before[key] != 8)
			assert_int_equal(choose(key), chosen_before[key]);
	}
	entries[8].disabled = false;
	entries[9].backup = false; /* a primary now, at once and without a slot */
	balance_update(&balance);
	assert_int_equal(choose(1), 9);
	assert_int_equal(choose(2), 9);
}

static void check_any_set(void)
{
	uint32_t n = balance.n, n_tried = 0;
	uint16_t tried[RETRIES];
	bool was_tried[RETRIES + 2] = { false }, primary_left = false, any_left = false, any = false;
	for (uint32_t i = 0; i < n; i++) {
		entries[i].weight = random_below(2) * random_below(65536);
		entries[i].backup = random_below(3) == 0;
		entries[i].disabled = random_below(4) == 0;
	}
	balance_update(&balance);
	for (uint32_t pieces = random_below(5); pieces > 0 && balance_work(&balance, random_below(1000000)); pieces--)
		;
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
	for (int i = 0; i < 20; i++) {
		int chosen = balance_choose(&balance, hash_next(&random_state), tried, n_tried);
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

/* Whatever is usable and was tried, with a table of whatever was before. */
static void test_any_set_may_be_tried(void **state)
{
	(void)state;
	for (int round = 0; round < 1000; round++) {
		if (round % 50 == 0)
			set_up(1 + random_below(RETRIES + 2));
		check_any_set();
	}
}

static void test_none_at_all(void **state)
{
	(void)state;
	set_up(0);
	assert_int_equal(choose(1), -1);
	set_up(2);
	entries[0].weight = entries[1].weight = 0;
	update();
	assert_int_equal(choose(1), -1);
	entries[1].weight = 1;
	balance_update(&balance);
	assert_int_equal(choose(1), 1);
	assert_int_equal(choose_after(1, 1), 1);
}

/* --- work ---------------------------------------------------------------------------------------------------------------- */

/* Nobody moves until the new table is complete, but who must not be chosen is not chosen from the update on. */
static void test_the_old_table_counts_while_the_new_one_is_made(void **state)
{
	uint32_t pieces = 0;
	(void)state;
	set_up(10);
	remember();
	entries[3].weight = 0;
	entries[4].weight = 900;
	balance_update(&balance);
	while (balance_work(&balance, 10000)) {
		pieces++;
		for (uint32_t key = 0; key < KEYS; key += 11)
			if (chosen_before[key] != 3)
				assert_int_equal(choose(key), chosen_before[key]);
			else
				assert_int_not_equal(choose(key), 3);
	}
	assert_in_range(pieces, 10, 200);
	assert_in_range(moved(), KEYS * 4 / 10, KEYS * 6 / 10);
	assert_false(balance_work(&balance, 1));
	remember();
	start(&other, entries, 10, 0);
	for (uint32_t key = 0; key < KEYS; key++)
		assert_int_equal(balance_choose(&other, key_of(key), NULL, 0), chosen_before[key]);
}

/* As in slow start: weights change faster than tables are made. Tables come nevertheless, and in the end the one of the last weights. */
static void test_changes_that_keep_coming(void **state)
{
	uint32_t counts[2] = { 0 };
	(void)state;
	set_up(2);
	entries[1].weight = 1;
	update();
	for (uint32_t weight = 2; weight <= 1000; weight++) {
		entries[1].weight = weight;
		balance_update(&balance);
		assert_true(balance_work(&balance, 10000));
	}
	for (uint32_t key = 0; key < KEYS; key++)
		counts[choose(key)]++;
	assert_true(counts[1] > KEYS * 8 / 10);
	while (balance_work(&balance, 10000))
		;
	counts[0] = counts[1] = 0;
	for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
		counts[balance_choose(&balance, slot, NULL, 0)]++;
	assert_in_range(counts[1], MAGLEV_SLOTS * 10 / 11 - 2, MAGLEV_SLOTS * 10 / 11 + 2);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up_test, tear_down_test)
	const struct CMUnitTest tests[] = {
		TEST(test_shares_are_equal),
		TEST(test_shares_by_weight),
		TEST(test_only_names_and_weights_count),
		TEST(test_only_names_and_weights_count_in_the_last_resort),
		TEST(test_one_of_ten_goes),
		TEST(test_one_changes_its_weight),
		TEST(test_a_disabled_one_moves_only_its_own),
		TEST(test_a_client_keeps_its_second_choice),
		TEST(test_hardly_any_is_left),
		TEST(test_heavy_ones_are_down),
		TEST(test_backups),
		TEST(test_any_set_may_be_tried),
		TEST(test_none_at_all),
		TEST(test_the_old_table_counts_while_the_new_one_is_made),
		TEST(test_changes_that_keep_coming),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
