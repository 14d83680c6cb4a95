#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

enum { MANY = 10000, RETRIES = 8 };

#include "balance_ground.h"

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(random_state >> 33) % limit;
}

static void start(enum balance_algorithm algorithm, uint32_t n, uint32_t first)
{
	balance_fini(&balance);
	assert_int_equal(balance_init(&balance, algorithm, entries, n, first, 1, load_of, loads), 0);
}

static void set_up(enum balance_algorithm algorithm, const uint32_t *weights, uint32_t n)
{
	memset(entries, 0, sizeof entries);
	memset(loads, 0, sizeof loads);
	for (uint32_t i = 0; i < n; i++)
		entries[i].weight = weights[i];
	start(algorithm, n, 0);
}

static void set_up_equal(enum balance_algorithm algorithm, uint32_t n, uint32_t load)
{
	memset(entries, 0, sizeof entries);
	for (uint32_t i = 0; i < n; i++) {
		entries[i].weight = 100;
		loads[i] = load;
	}
	start(algorithm, n, 0);
}

static void assert_sequence(const char *expected)
{
	for (size_t i = 0; expected[i]; i++)
		assert_int_equal('a' + choose(), expected[i]);
}

/* --- round robin --------------------------------------------------------------------------------------------------------- */

static void test_equal_weights_rotate(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 100, 100, 100, 100 }, 4);
	assert_sequence("abcdabcda");
	start(BALANCE_BY_ROUND_ROBIN, 4, 6);
	assert_sequence("cdab");
}

/* nginx, commit 52327e0627f4: peers a=5 b=1 c=1 */
static void test_weights_are_interleaved(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 5, 1, 1 }, 3);
	assert_sequence("aabacaaaabacaa");
}

static void test_weights_hold_over_many(void **state)
{
	(void)state;
	int counts[3] = { 0 };
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 100, 100, 50 }, 3);
	for (int i = 0; i < 250; i++)
		counts[choose()]++;
	assert_int_equal(counts[0], 100);
	assert_int_equal(counts[1], 100);
	assert_int_equal(counts[2], 50);
}

/* The rule itself, written down plainly: who stands highest has the turn and pays what all together gained. */
static int choose_plainly(int64_t *standing, uint32_t n, uint32_t first, bool backup)
{
	int best = -1;
	int64_t total = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = (first + i) % n;
		const struct balance_entry *entry = &entries[index];
		if (entry->weight == 0 || entry->disabled || entry->backup != backup)
			continue;
		standing[index] += entry->weight;
		total += entry->weight;
		if (best < 0 || standing[index] > standing[best])
			best = (int)index;
	}
	if (best >= 0)
		standing[best] -= total;
	return best;
}

static void check_against_plain(uint32_t n, uint32_t heaviest, uint32_t turns, int64_t before)
{
	int64_t standing[64] = { 0 };
	bool any_primary = false;
	memset(entries, 0, sizeof entries);
	for (uint32_t i = 0; i < n; i++) {
		entries[i] = (struct balance_entry){
			.weight = random_below(heaviest + 1), .backup = random_below(4) == 0, .disabled = random_below(8) == 0
		};
		any_primary |= entries[i].weight && !entries[i].backup && !entries[i].disabled;
	}
	uint32_t first = random_below(n);
	start(BALANCE_BY_ROUND_ROBIN, n, first);
	/* as if so many turns had been before, in which all paid what they gained */
	struct turns *played = &balance.first[!any_primary];
	for (uint32_t i = 0; i < played->n; i++)
		played->takers[i].paid += before * played->takers[i].weight;
	played->now += before;
	for (uint32_t i = 0; i < played->leaves; i++)
		if (played->pairings[i].until != INT64_MAX)
			played->pairings[i].until += before;
	for (uint32_t i = 0; i < turns; i++)
		assert_int_equal(choose(), choose_plainly(standing, n, first, !any_primary));
}

static void test_as_the_plain_rule_has_it(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 64; n++) {
		check_against_plain(n, 1, 3 * n, 0);
		check_against_plain(n, 3, 500, 0);
		check_against_plain(n, 100, 3000, 0);
		check_against_plain(n, 65535, 3000, 0);
	}
}

/* Time begins anew after 2^45 turns, unnoticed. */
static void test_turns_go_on_for_ever(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 64; n++)
		check_against_plain(n, 65535, 1000, ((int64_t)1 << 45) - 500);
	assert_in_range(balance.first[0].now, 1, 1000);
}

static void test_many_servers(void **state)
{
	(void)state;
	static uint32_t counts[MANY];
	memset(counts, 0, sizeof counts);
	memset(entries, 0, sizeof entries);
	uint32_t total = 0;
	for (uint32_t i = 0; i < MANY; i++)
		total += entries[i].weight = 1 + i % 13;
	start(BALANCE_BY_ROUND_ROBIN, MANY, 5000);
	for (uint32_t i = 0; i < total; i++)
		counts[choose()]++;
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(counts[i], entries[i].weight);
}

/* The first server of three refuses every connection: first attempts go on by weight, and the others take over by their weights. */
static void test_what_a_broken_one_leaves_is_spread(void **state)
{
	(void)state;
	int first[3] = { 0 }, again[3] = { 0 };
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 4, 2, 1 }, 3);
	for (int i = 0; i < 7 * 60; i++) {
		int chosen = choose();
		first[chosen]++;
		if (chosen == 0) /* twice in the list, as when there was no other one for a while */
			again[balance_choose(&balance, 0, (const uint16_t[]){ 0, 0 }, 2)]++;
	}
	assert_int_equal(first[0], 240);
	assert_int_equal(first[1], 120);
	assert_int_equal(again[0], 0);
	assert_int_equal(again[1], 160);
	assert_int_equal(again[2], 80);
}

static void test_equal_ones_share_what_a_broken_one_leaves(void **state)
{
	(void)state;
	for (uint32_t n = 2; n <= 5; n++) {
		int first[5] = { 0 }, again[5] = { 0 };
		set_up_equal(BALANCE_BY_ROUND_ROBIN, n, 0);
		for (uint32_t i = 0; i < n * 60; i++) {
			int chosen = choose();
			first[chosen]++;
			if (chosen == 0)
				again[choose_after(0)]++;
		}
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(first[i], 60);
		for (uint32_t i = 1; i < n; i++)
			assert_in_range(again[i], 60 / (n - 1) - 1, 60 / (n - 1) + 1);
	}
}

/* A server that could not have its turns for long does not get them all at once when it can. */
static void test_missed_turns_are_lost(void **state)
{
	(void)state;
	int counts[3] = { 0 };
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 3, 2, 1 }, 3);
	for (int i = 0; i < 1000; i++)
		assert_int_not_equal(choose_after(0), 0);
	for (int i = 0; i < 400; i++)
		counts[choose_after(2)]++;
	assert_in_range(counts[0], 239, 241);
	assert_int_equal(counts[2], 0);
}

static void test_update_goes_on_where_it_was(void **state)
{
	(void)state;
	set_up(BALANCE_BY_ROUND_ROBIN, (const uint32_t[]){ 7, 7, 7, 7 }, 4);
	assert_sequence("ab");
	balance_update(&balance);
	assert_sequence("cd");
	entries[0].disabled = true;
	balance_update(&balance);
	assert_sequence("bcdb");
	entries[0].disabled = false;
	entries[1].weight = entries[2].weight = 0;
	balance_update(&balance);
	assert_sequence("dada");
	entries[1].weight = 21;
	balance_update(&balance);
	int counts[4] = { 0 };
	for (int i = 0; i < 35; i++)
		counts[choose()]++;
	assert_int_equal(counts[0], 7);
	assert_int_equal(counts[1], 21);
	assert_int_equal(counts[3], 7);
}

/* --- both ---------------------------------------------------------------------------------------------------------------- */

static void test_disabled_and_weightless_get_nothing(void **state)
{
	(void)state;
	for (int algorithm = BALANCE_BY_ROUND_ROBIN; algorithm <= BALANCE_BY_LEAST_CONNECTIONS; algorithm++) {
		set_up((enum balance_algorithm)algorithm, (const uint32_t[]){ 1, 0, 1, 1 }, 4);
		entries[3].disabled = true;
		balance_update(&balance);
		assert_sequence("acac");
		balance_changed(&balance, 1);
		balance_changed(&balance, 3);
		assert_int_equal(choose_after(0), 2);
		entries[0].disabled = entries[2].disabled = true;
		balance_update(&balance);
		assert_int_equal(choose(), -1);
		assert_int_equal(choose_after(0), -1);
		entries[1].weight = 1;
		balance_update(&balance);
		assert_sequence("bb");
	}
}

static void test_backups_only_when_no_primary_is_left(void **state)
{
	(void)state;
	for (int algorithm = BALANCE_BY_ROUND_ROBIN; algorithm <= BALANCE_BY_LEAST_CONNECTIONS; algorithm++) {
		set_up((enum balance_algorithm)algorithm, (const uint32_t[]){ 1, 1, 1, 9 }, 4);
		entries[2].backup = entries[3].backup = true;
		entries[3].disabled = true;
		loads[0] = loads[1] = 1000;
		start((enum balance_algorithm)algorithm, 4, 0);
		assert_sequence("abab");
		assert_int_equal(choose_after(0), 1);
		assert_int_equal(balance_choose(&balance, 0, (const uint16_t[]){ 0, 1 }, 2), 2);
		assert_int_equal(balance_choose(&balance, 0, (const uint16_t[]){ 1, 0 }, 2), 2);
		assert_int_equal(choose_after(1), 0);
		entries[0].disabled = entries[1].disabled = true;
		balance_update(&balance);
		assert_sequence("ccc");
	}
}

static void test_a_tried_one_comes_again_only_when_alone(void **state)
{
	(void)state;
	for (int algorithm = BALANCE_BY_ROUND_ROBIN; algorithm <= BALANCE_BY_LEAST_CONNECTIONS; algorithm++) {
		set_up((enum balance_algorithm)algorithm, (const uint32_t[]){ 65535, 1 }, 2);
		for (int i = 0; i < 10; i++)
			assert_int_equal(choose_after(0), 1);
		entries[1].disabled = true;
		balance_update(&balance);
		assert_int_equal(choose_after(0), 0);
	}
}

/* Whatever was tried, of whatever weights: something else is found, as long as there is something else. */
static void test_any_set_may_be_tried(void **state)
{
	(void)state;
	for (int round = 0; round < 20000; round++) {
		enum balance_algorithm algorithm = round % 2 ? BALANCE_BY_ROUND_ROBIN : BALANCE_BY_LEAST_CONNECTIONS;
		uint32_t n = 1 + random_below(RETRIES + 2), n_tried = 0;
		uint16_t tried[RETRIES];
		bool was_tried[RETRIES + 2] = { false }, primary_left = false, any_left = false;
		memset(entries, 0, sizeof entries[0] * n);
		for (uint32_t i = 0; i < n; i++) {
			entries[i] = (struct balance_entry){ .weight = random_below(4), .backup = random_below(3) == 0 };
			loads[i] = random_below(3);
		}
		start(algorithm, n, random_below(n));
		for (uint32_t steps = random_below(20); steps > 0; steps--)
			(void)(choose() + 1);
		while (n_tried < RETRIES && random_below(4)) {
			tried[n_tried] = (uint16_t)random_below(n);
			was_tried[tried[n_tried++]] = true;
		}
		for (uint32_t i = 0; i < n; i++) {
			any_left |= entries[i].weight && !was_tried[i];
			primary_left |= entries[i].weight && !was_tried[i] && !entries[i].backup;
		}
		int chosen = balance_choose(&balance, 0, tried, n_tried);
		if (any_left) {
			assert_in_range(chosen, 0, n - 1);
			assert_true(entries[chosen].weight && !was_tried[chosen]);
			assert_int_equal(entries[chosen].backup, !primary_left);
		}
	}
}

static void test_none_at_all(void **state)
{
	(void)state;
	for (int algorithm = BALANCE_BY_ROUND_ROBIN; algorithm <= BALANCE_BY_LEAST_CONNECTIONS; algorithm++) {
		start((enum balance_algorithm)algorithm, 0, 7);
		assert_int_equal(choose(), -1);
		assert_int_equal(choose_after(0), -1);
	}
}

/* --- least connections --------------------------------------------------------------------------------------------------- */

static void test_least_connections(void **state)
{
	(void)state;
	set_up(BALANCE_BY_LEAST_CONNECTIONS, (const uint32_t[]){ 100, 100, 100 }, 3);
	loads[0] = 5, loads[1] = 4, loads[2] = 6;
	assert_int_equal(choose(), 1);
	loads[1] = 7;
	assert_int_equal(choose(), 0);
}

static void test_least_connections_by_weight(void **state)
{
	(void)state;
	int counts[2] = { 0 };
	set_up(BALANCE_BY_LEAST_CONNECTIONS, (const uint32_t[]){ 30, 10 }, 2);
	for (int i = 0; i < 400; i++) {
		int chosen = choose();
		counts[chosen]++;
		loads[chosen]++;
	}
	assert_in_range(counts[0], 299, 301);
}

/* Ties go around: idle equal servers and connections that end at once. */
static void test_ties_are_spread(void **state)
{
	(void)state;
	static const uint32_t sizes[] = { 1, 7, 8, 9, 300 };
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		int counts[300] = { 0 };
		set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, sizes[s], 0);
		start(BALANCE_BY_LEAST_CONNECTIONS, sizes[s], 3);
		assert_int_equal(choose(), 3 % sizes[s]);
		counts[3 % sizes[s]]++;
		for (uint32_t i = 1; i < 100 * sizes[s]; i++) {
			int chosen = choose();
			counts[chosen]++;
			loads[chosen]++;
			balance_changed(&balance, (uint32_t)chosen);
			loads[chosen]--;
			balance_changed(&balance, (uint32_t)chosen);
		}
		for (uint32_t i = 0; i < sizes[s]; i++)
			assert_int_equal(counts[i], 100);
	}
}

/* Up to BALANCE_LOOKS servers the choice is exact, whatever other workers do in between. */
static void test_few_are_exact(void **state)
{
	(void)state;
	uint32_t weights[BALANCE_LOOKS];
	for (uint32_t i = 0; i < BALANCE_LOOKS; i++)
		weights[i] = 1 + i % 3;
	set_up(BALANCE_BY_LEAST_CONNECTIONS, weights, BALANCE_LOOKS);
	for (int round = 0; round < 5000; round++) {
		for (uint32_t i = 0; i < BALANCE_LOOKS; i++)
			loads[i] = random_below(20);
		int chosen = choose();
		assert_in_range(chosen, 0, BALANCE_LOOKS - 1);
		for (uint32_t i = 0; i < BALANCE_LOOKS; i++)
			assert_true((loads[chosen] + 1) * weights[i] <= (loads[i] + 1) * weights[chosen]);
	}
}

/* What another worker gave back is seen after n / BALANCE_LOOKS choices at the latest, wherever it is. */
static void test_what_others_give_back_is_seen_in_time(void **state)
{
	(void)state;
	const uint32_t n = 1000, bound = (n + BALANCE_LOOKS - 1) / BALANCE_LOOKS;
	for (uint32_t freed = 0; freed < n; freed += 37) {
		set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, n, 10);
		for (uint32_t i = random_below(300); i > 0; i--)
			assert_int_not_equal(choose(), -1);
		loads[freed] = 9;
		uint32_t choices = 1;
		while (choose() != (int)freed)
			assert_true(choices++ < bound);
	}
}

/* What another worker took is seen before the server is chosen. */
static void test_what_others_took_is_seen_at_once(void **state)
{
	(void)state;
	set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, 1000, 10);
	loads[500] = loads[600] = 3;
	balance_changed(&balance, 500);
	balance_changed(&balance, 600);
	loads[500] = 50;
	assert_int_equal(choose(), 600);
	assert_int_equal(choose(), 600);
}

static void test_own_changes_count_at_once(void **state)
{
	(void)state;
	set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, MANY, 10);
	for (int i = 0; i < 1000; i++) {
		uint32_t given_back = random_below(MANY);
		loads[given_back]--;
		balance_changed(&balance, given_back);
		int chosen = choose();
		assert_int_equal(chosen, given_back);
		loads[chosen]++;
		balance_changed(&balance, (uint32_t)chosen);
	}
}

/* The same with all that can happen at once: own connections, and those of others that come and go unseen. The least loaded server is
 * not found each time, but what is chosen is never far from it, and the connections end up evenly spread. */
static void test_spread_over_many(void **state)
{
	(void)state;
	static int held[MANY];
	const uint32_t n = 500;
	set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, n, 0);
	for (uint32_t i = 0; i < MANY; i++) {
		held[i] = choose();
		loads[held[i]]++;
		balance_changed(&balance, (uint32_t)held[i]);
	}
	for (uint32_t round = 0; round < 20 * MANY; round++) {
		uint32_t slot = random_below(MANY);
		loads[held[slot]]--;
		if (round % 2)
			balance_changed(&balance, (uint32_t)held[slot]);
		held[slot] = choose();
		loads[held[slot]]++;
		if (round % 2)
			balance_changed(&balance, (uint32_t)held[slot]);
	}
	for (uint32_t i = 0; i < n; i++)
		assert_in_range(loads[i], MANY / n - 4, MANY / n + 4);
}

/* A choice looks at a bounded number of servers, however many there are, even when all loads turn out to be other ones. */
static void test_looks_are_bounded(void **state)
{
	(void)state;
	static const uint32_t sizes[] = { 1, 10, 100, 1000, MANY };
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		set_up_equal(BALANCE_BY_LEAST_CONNECTIONS, sizes[s], 0);
		for (int round = 0; round < 200; round++) {
			for (uint32_t i = 0; i < sizes[s]; i++)
				loads[i] += random_below(1000);
			uint16_t tried[RETRIES];
			for (uint32_t i = 0; i < RETRIES; i++)
				tried[i] = (uint16_t)random_below(sizes[s]);
			looks = 0;
			assert_int_not_equal(balance_choose(&balance, 0, tried, (uint32_t)round % (RETRIES + 1)), -1);
			assert_in_range(looks, 1, 3 * BALANCE_LOOKS);
		}
	}
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up_test, tear_down_test)
	const struct CMUnitTest tests[] = {
		TEST(test_equal_weights_rotate),
		TEST(test_weights_are_interleaved),
		TEST(test_weights_hold_over_many),
		TEST(test_as_the_plain_rule_has_it),
		TEST(test_turns_go_on_for_ever),
		TEST(test_many_servers),
		TEST(test_what_a_broken_one_leaves_is_spread),
		TEST(test_equal_ones_share_what_a_broken_one_leaves),
		TEST(test_missed_turns_are_lost),
		TEST(test_update_goes_on_where_it_was),
		TEST(test_disabled_and_weightless_get_nothing),
		TEST(test_backups_only_when_no_primary_is_left),
		TEST(test_a_tried_one_comes_again_only_when_alone),
		TEST(test_any_set_may_be_tried),
		TEST(test_none_at_all),
		TEST(test_least_connections),
		TEST(test_least_connections_by_weight),
		TEST(test_ties_are_spread),
		TEST(test_few_are_exact),
		TEST(test_what_others_give_back_is_seen_in_time),
		TEST(test_what_others_took_is_seen_at_once),
		TEST(test_own_changes_count_at_once),
		TEST(test_spread_over_many),
		TEST(test_looks_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
