/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/clock.h"
#include "fleet.h"
#include "segment.h"
#include "shm/affinity.h"
#include "stepping.h"

static const uint64_t start_ns = 1000 * NS_PER_S, ttl_ns = 80 * NS_PER_S;
static const uint64_t seed[2] = { UINT64_C(0x243f6a8885a308d3), UINT64_C(0x13198a2e03707344) };

static void make(struct affinity *affinity, uint32_t entries)
{
	void *memory = segment_memory(affinity_bytes(entries));
	affinity_init(memory, seed);
	affinity_open(affinity, memory, entries);
}

static void drop(struct affinity *affinity)
{
	free(affinity->shared);
}

static struct cell_key key_number(uint64_t n)
{
	return (struct cell_key){ .low = UINT64_C(0xffff00000000) + n, .scope = 1 };
}

static void put(const struct affinity *affinity, uint64_t n, uint64_t server, uint64_t now_ns)
{
	affinity_put(affinity, (struct cell_key[]){ key_number(n) }, server, ttl_ns, now_ns);
}

/* The server of key n; 0 when there is none. */
static uint64_t get(const struct affinity *affinity, uint64_t n, uint64_t now_ns)
{
	uint64_t server = 0;
	struct cell_key key = key_number(n);
	assert_true(affinity_get(affinity, &key, ttl_ns, now_ns, &server) == (server != 0));
	return server;
}

/* --- one process ------------------------------------------------------------------------------------------------------------- */

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(affinity_bytes(0), 64 + 256);
	assert_int_equal(affinity_bytes(6), 64 + 256);
	assert_int_equal(affinity_bytes(7), 64 + 512);
	assert_true(affinity_bytes(UINT32_MAX) == 64 + (UINT64_C(1) << 28) * 256);
}

static void test_put_get_drop(void **state)
{
	(void)state;
	struct affinity affinity;
	uint64_t server = 42;
	make(&affinity, 6);
	assert_int_equal(get(&affinity, 1, start_ns), 0);
	put(&affinity, 1, 11, start_ns);
	put(&affinity, 2, UINT64_MAX, start_ns);
	assert_int_equal(get(&affinity, 1, start_ns), 11);
	assert_true(get(&affinity, 2, start_ns) == UINT64_MAX);
	assert_int_equal(get(&affinity, 3, start_ns), 0);
	put(&affinity, 1, 12, start_ns); /* in place */
	assert_int_equal(get(&affinity, 1, start_ns), 12);
	assert_true(get(&affinity, 2, start_ns) == UINT64_MAX);

	affinity_drop(&affinity, (struct cell_key[]){ key_number(1) });
	affinity_drop(&affinity, (struct cell_key[]){ key_number(3) });
	assert_int_equal(get(&affinity, 1, start_ns), 0);
	assert_true(get(&affinity, 2, start_ns) == UINT64_MAX);
	put(&affinity, 1, 13, start_ns);
	assert_int_equal(get(&affinity, 1, start_ns), 13);
	assert_int_equal(affinity_evictions(&affinity), 0);

	assert_false(affinity_get(&affinity, (struct cell_key[]){ { .low = 5 } }, ttl_ns, start_ns, &server));
	assert_int_equal(server, 42); /* left alone */
	drop(&affinity);
}

static void test_all_of_the_key_counts(void **state)
{
	(void)state;
	struct affinity affinity;
	make(&affinity, 6);
	const struct cell_key keys[] = { { 1, 2, 3 }, { 4, 2, 3 }, { 1, 4, 3 }, { 1, 2, 4 }, { 0, 0, 0 }, { 3, 2, 1 } };
	uint64_t server;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		assert_false(affinity_get(&affinity, &keys[i], ttl_ns, start_ns, &server));
		affinity_put(&affinity, &keys[i], 100 + i, ttl_ns, start_ns);
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		assert_true(affinity_get(&affinity, &keys[i], ttl_ns, start_ns, &server));
		assert_int_equal(server, 100 + i);
	}
	drop(&affinity);
}

static void test_over_when_not_asked_for(void **state)
{
	(void)state;
	struct affinity affinity;
	make(&affinity, 6);
	put(&affinity, 1, 11, start_ns);
	put(&affinity, 2, 22, start_ns);
	assert_int_equal(get(&affinity, 1, start_ns + ttl_ns - 1), 11);
	assert_int_equal(get(&affinity, 2, start_ns + ttl_ns), 0);
	assert_int_equal(get(&affinity, 1, start_ns + 2 * ttl_ns - 2), 11); /* it slides */
	assert_int_equal(get(&affinity, 1, start_ns + 3 * ttl_ns), 0);
	put(&affinity, 1, 12, start_ns + 3 * ttl_ns);
	assert_int_equal(get(&affinity, 1, start_ns + 3 * ttl_ns), 12);
	drop(&affinity);
}

static void test_renewed_once_in_an_eighth(void **state)
{
	(void)state;
	struct affinity affinity;
	make(&affinity, 6);
	put(&affinity, 1, 11, start_ns);
	struct affinity_shared *before = segment_memory(affinity_bytes(6));
	memcpy(before, affinity.shared, affinity_bytes(6));
	assert_int_equal(get(&affinity, 1, start_ns + ttl_ns / 8 - 1), 11);
	put(&affinity, 1, 11, start_ns + ttl_ns / 8 - 1);
	assert_memory_equal(before, affinity.shared, affinity_bytes(6));
	assert_int_equal(get(&affinity, 1, start_ns + ttl_ns / 8), 11);
	assert_memory_not_equal(before, affinity.shared, affinity_bytes(6));
	memcpy(before, affinity.shared, affinity_bytes(6));
	assert_int_equal(get(&affinity, 1, start_ns), 11); /* a clock that is behind changes nothing */
	assert_memory_equal(before, affinity.shared, affinity_bytes(6));
	put(&affinity, 1, 11, start_ns + ttl_ns / 2); /* as a look-up does */
	assert_int_equal(get(&affinity, 1, start_ns + ttl_ns / 2 + ttl_ns - 1), 11);
	free(before);
	drop(&affinity);
}

static void test_a_reload_changes_the_ttl(void **state)
{
	(void)state;
	struct affinity affinity;
	uint64_t server, short_ns = NS_PER_S;
	struct cell_key key = key_number(1);
	make(&affinity, 6);
	put(&affinity, 1, 11, start_ns);
	assert_true(affinity_get(&affinity, &key, short_ns, start_ns, &server));
	assert_false(affinity_get(&affinity, &key, short_ns, start_ns + short_ns, &server));
	put(&affinity, 1, 12, start_ns);
	assert_false(affinity_get(&affinity, &key, 0, start_ns, &server)); /* switched off */
	affinity_put(&affinity, &key, 13, 0, start_ns);
	assert_int_equal(get(&affinity, 1, start_ns), 12);
	drop(&affinity);
}

static void test_who_gives_way(void **state)
{
	(void)state;
	struct affinity affinity;
	make(&affinity, 6);
	for (uint64_t i = 0; i < 6; i++)
		put(&affinity, i, 100 + i, start_ns + i);
	put(&affinity, 6, 106, start_ns + ttl_ns); /* number 0 is over by then */
	assert_int_equal(affinity_evictions(&affinity), 0);
	assert_int_equal(get(&affinity, 0, start_ns + ttl_ns), 0);
	assert_int_equal(get(&affinity, 1, start_ns + ttl_ns), 101);
	put(&affinity, 7, 107, start_ns + ttl_ns); /* number 2 was not used for longest */
	assert_int_equal(affinity_evictions(&affinity), 1);
	assert_int_equal(get(&affinity, 2, start_ns + ttl_ns), 0);
	for (uint64_t i = 3; i < 8; i++)
		assert_int_equal(get(&affinity, i, start_ns + ttl_ns), 100 + i);
	drop(&affinity);
}

static void test_many_keys(void **state)
{
	(void)state;
	enum { KEYS = 100000 };
	struct affinity affinity;
	uint64_t found = 0;
	make(&affinity, 2 * KEYS);
	for (uint64_t i = 0; i < KEYS; i++)
		put(&affinity, i, 1 + i, start_ns + i);
	for (uint64_t i = 0; i < KEYS; i++) {
		uint64_t server = get(&affinity, i, start_ns + KEYS);
		assert_true(server == 0 || server == 1 + i);
		found += server != 0;
	}
	assert_int_equal(found + affinity_evictions(&affinity), KEYS);
	assert_in_range(found, KEYS - KEYS / 50, KEYS);
	drop(&affinity);
}

/* --- many processes ---------------------------------------------------------------------------------------------------------- */

static struct board {
	struct fleet fleet;
	_Atomic uint64_t clock_ns;
	_Atomic uint64_t found;
	_Atomic uint64_t wrong;
} * board;
static struct affinity shared;

static void make_shared(uint32_t entries)
{
	void *memory = fleet_map(affinity_bytes(entries));
	affinity_init(memory, seed);
	affinity_open(&shared, memory, entries);
}

/* More keys than cells, and servers that tell for which key they were put. */
static void use_cells(uint32_t me, uint64_t random)
{
	(void)me;
	uint64_t server, now_ns = atomic_fetch_add(&board->clock_ns, NS_PER_US);
	struct cell_key key = { .high = random % 3, .low = random / 3 % 4, .scope = (uint32_t)(random / 12 % 3) };
	uint64_t mark = (key.high << 8 | key.low << 4 | key.scope) << 32;
	if (random >> 40 & 1) {
		affinity_put(&shared, &key, mark | (random & 0xffffffff), ttl_ns, now_ns);
	} else if ((random >> 41) % 64 == 0) {
		affinity_drop(&shared, &key);
	} else if (affinity_get(&shared, &key, ttl_ns, now_ns, &server)) {
		atomic_fetch_add(&board->found, 1);
		if (server >> 32 != mark >> 32)
			atomic_fetch_add(&board->wrong, 1);
	}
}

static void test_killed_workers(void **state)
{
	(void)state;
	make_shared(AFFINITY_WAYS);
	board = fleet_map(sizeof *board);
	board->clock_ns = start_ns;
	fleet_suffer(&board->fleet, 300, 1000, use_cells);
	assert_true(board->found > 1000 && affinity_evictions(&shared) > 1000);
	assert_int_equal(board->wrong, 0);

	uint64_t later_ns = board->clock_ns + NS_PER_S;
	for (uint64_t i = 0; i < AFFINITY_WAYS; i++) /* every cell can be had */
		put(&shared, i, 100 + i, later_ns);
	for (uint64_t i = 0; i < AFFINITY_WAYS; i++)
		assert_int_equal(get(&shared, i, later_ns), 100 + i);
	munmap(board, sizeof *board);
	munmap(shared.shared, affinity_bytes(AFFINITY_WAYS));
}

/* --- between any two instructions -------------------------------------------------------------------------------------------- */

/* One bucket, full of living ones, and someone who is just putting NEWCOMER in the place of the first; or, where key 0 moves, another
 * server for key 0 in its own place. */
enum { NEWCOMER = 10 };

static struct affinity one_bucket;

static void make_full_bucket(void)
{
	memset(one_bucket.shared, 0, affinity_bytes(AFFINITY_WAYS));
	affinity_init(one_bucket.shared, seed);
	for (uint64_t i = 0; i < AFFINITY_WAYS; i++)
		put(&one_bucket, i, 100 + i, start_ns + i);
}

static void put_newcomer(void *argument)
{
	(void)argument;
	put(&one_bucket, NEWCOMER, 100 + NEWCOMER, start_ns + 100);
}

static void move_key_0(void *argument)
{
	(void)argument;
	put(&one_bucket, 0, 999, start_ns + 100);
}

/* What is left for this key is one of two servers, or nothing. */
static void expect_one_of(const struct affinity *affinity, struct cell_key key, uint64_t now_ns, uint64_t a, uint64_t b)
{
	uint64_t server;
	if (affinity_get(affinity, &key, ttl_ns, now_ns, &server))
		assert_true(server == a || server == b);
}

static void expect_no_harm_by_a_dead_one(const void *snapshot)
{
	struct affinity affinity = one_bucket;
	affinity.shared = segment_memory(affinity_bytes(AFFINITY_WAYS));
	memcpy(affinity.shared, snapshot, affinity_bytes(AFFINITY_WAYS));
	expect_one_of(&affinity, key_number(0), start_ns + 100, 100, 999);
	expect_one_of(&affinity, key_number(NEWCOMER), start_ns + 100, 100 + NEWCOMER, 100 + NEWCOMER);
	for (uint64_t i = 1; i < AFFINITY_WAYS; i++)
		assert_int_equal(get(&affinity, i, start_ns + 100), 100 + i);
	uint64_t later_ns = start_ns + CELL_CLAIM_NS + 100;
	for (uint64_t i = 20; i < 20 + AFFINITY_WAYS; i++)
		put(&affinity, i, 100 + i, later_ns);
	for (uint64_t i = 20; i < 20 + AFFINITY_WAYS; i++)
		assert_int_equal(get(&affinity, i, later_ns), 100 + i);
	free(affinity.shared);
}

static void kill_at_each_change(void (*function)(void *))
{
	size_t size = affinity_bytes(AFFINITY_WAYS);
	unsigned changes = 0;
	void *before = segment_memory(size);
	make_full_bucket();
	pid_t pid = stepping_start(function, NULL);
	do {
		if (memcmp(before, one_bucket.shared, size) != 0) { /* the same memory has the same future */
			memcpy(before, one_bucket.shared, size);
			expect_no_harm_by_a_dead_one(before);
			changes++;
		}
	} while (stepping_step(pid));
	assert_true(changes >= 7); /* as found; claim, version, words, stamp */
	free(before);
}

static void test_killed_at_any_instruction(void **state)
{
	(void)state;
	if (!stepping_possible())
		skip();
	one_bucket.shared = fleet_map(affinity_bytes(AFFINITY_WAYS));
	kill_at_each_change(put_newcomer);
	kill_at_each_change(move_key_0);
	munmap(one_bucket.shared, affinity_bytes(AFFINITY_WAYS));
}

/* The words of two keys in any mixture are no key. */
static void expect_no_mixture(struct cell_key a, struct cell_key b, uint64_t now_ns)
{
	for (unsigned mixture = 1; mixture < 7; mixture++) {
		uint64_t server;
		struct cell_key key = { mixture & 1 ? a.high : b.high, mixture & 2 ? a.low : b.low, mixture & 4 ? a.scope : b.scope };
		assert_false(affinity_get(&one_bucket, &key, ttl_ns, now_ns, &server));
	}
}

/* It stands still for longer than CELL_CLAIM_NS, another one puts a key of its own, and then it goes on. */
static void expect_no_harm_by_a_sleeper(pid_t pid)
{
	const struct cell_key other = { .high = 77, .low = 88, .scope = 99 };
	uint64_t later_ns = start_ns + CELL_CLAIM_NS + 100, server;
	affinity_put(&one_bucket, &other, 4711, ttl_ns, later_ns);
	assert_true(affinity_get(&one_bucket, &other, ttl_ns, later_ns, &server) && server == 4711);
	assert_true(stepping_finish(pid));
	if (affinity_get(&one_bucket, &other, ttl_ns, later_ns, &server)) { /* at worst it was spoilt and is forgotten */
		assert_int_equal(server, 4711);
		assert_true(affinity_get(&one_bucket, &other, ttl_ns, later_ns + ttl_ns - 1, &server));
	}
	expect_one_of(&one_bucket, key_number(NEWCOMER), later_ns, 100 + NEWCOMER, 100 + NEWCOMER);
	expect_one_of(&one_bucket, key_number(0), later_ns, 100, 999);
	expect_no_mixture(key_number(NEWCOMER), other, later_ns);
	expect_no_mixture(key_number(0), other, later_ns);
	for (uint64_t i = 3; i < AFFINITY_WAYS; i++) /* 1 and 2 may have given way */
		assert_int_equal(get(&one_bucket, i, later_ns), 100 + i);
}

/* It stands still only for a moment while another one puts a key of its own: neither loses anything. */
static void expect_both(pid_t pid)
{
	put(&one_bucket, 20, 120, start_ns + 100);
	assert_true(stepping_finish(pid));
	assert_int_equal(get(&one_bucket, 20, start_ns + 100), 120);
	assert_int_equal(get(&one_bucket, NEWCOMER, start_ns + 100), 100 + NEWCOMER);
	assert_int_equal(get(&one_bucket, 0, start_ns + 100), 0);
	assert_int_equal(get(&one_bucket, 1, start_ns + 100), 0);
	for (uint64_t i = 2; i < AFFINITY_WAYS; i++)
		assert_int_equal(get(&one_bucket, i, start_ns + 100), 100 + i);
	assert_int_equal(affinity_evictions(&one_bucket), 2);
}

static void test_still_at_any_instruction(void **state)
{
	(void)state;
	if (!stepping_possible())
		skip();
	size_t size = affinity_bytes(AFFINITY_WAYS);
	one_bucket.shared = fleet_map(size);
	stepping_stop_everywhere(make_full_bucket, put_newcomer, one_bucket.shared, size, expect_no_harm_by_a_sleeper);
	stepping_stop_everywhere(make_full_bucket, move_key_0, one_bucket.shared, size, expect_no_harm_by_a_sleeper);
	stepping_stop_everywhere(make_full_bucket, put_newcomer, one_bucket.shared, size, expect_both);
	munmap(one_bucket.shared, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_put_get_drop),
		cmocka_unit_test(test_all_of_the_key_counts),
		cmocka_unit_test(test_over_when_not_asked_for),
		cmocka_unit_test(test_renewed_once_in_an_eighth),
		cmocka_unit_test(test_a_reload_changes_the_ttl),
		cmocka_unit_test(test_who_gives_way),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_killed_workers),
		cmocka_unit_test(test_killed_at_any_instruction),
		cmocka_unit_test(test_still_at_any_instruction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
