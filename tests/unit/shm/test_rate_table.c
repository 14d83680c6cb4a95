/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <arpa/inet.h>

#include "base/addr.h"
#include "base/clock.h"
#include "fleet.h"
#include "segment.h"
#include "shm/rate_table.h"
#include "stepping.h"

static const uint64_t start_ns = 1000 * NS_PER_S;
static const uint64_t seed[2] = { UINT64_C(0x243f6a8885a308d3), UINT64_C(0x13198a2e03707344) };

static void make(struct rate_table *table, uint32_t cells)
{
	void *memory = segment_memory(rate_table_bytes(cells));
	rate_table_init(memory, seed);
	rate_table_open(table, memory, cells);
}

static void drop(struct rate_table *table)
{
	free(table->shared);
}

static struct cell_key key_number(uint64_t n)
{
	return (struct cell_key){ .low = UINT64_C(0xffff00000000) + n, .scope = 1 };
}

static uint32_t drain(const struct rate_table *table, const struct rate_limit *limit, struct cell_key key, uint64_t now_ns)
{
	uint32_t passed = 0;
	while (rate_table_take(table, limit, &key, now_ns))
		passed++;
	return passed;
}

/* --- keys -------------------------------------------------------------------------------------------------------------------- */

static void test_hash_is_siphash_1_3(void **state)
{
	(void)state;
	/* bytes 0, 1, 2 ... 19 with the keys 0 and 0, 1, 2 ... 15, as computed by another implementation */
	const struct cell_key key = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908), 0x13121110 };
	const uint64_t counting[2] = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) }, zero[2] = { 0 };
	assert_true(cell_hash(counting, &key) == UINT64_C(0xc0dc2f46a6cce040));
	assert_true(cell_hash(zero, &key) == UINT64_C(0x639e355ae68c0100));
}

static struct addr address(const char *text)
{
	struct addr addr = { 0 };
	if (inet_pton(AF_INET, text, &addr.in.sin_addr) == 1) {
		addr.in.sin_family = AF_INET;
		addr.in.sin_port = htons(1234);
		addr.length = sizeof addr.in;
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, &addr.in6.sin6_addr), 1);
		addr.in6.sin6_family = AF_INET6;
		addr.length = sizeof addr.in6;
	}
	return addr;
}

static bool same(const char *a, const char *b, unsigned prefix4, unsigned prefix6)
{
	struct addr first = address(a), second = address(b);
	struct cell_key x, y;
	assert_true(cell_key_from_addr(&first, prefix4, prefix6, 7, &x));
	assert_true(cell_key_from_addr(&second, prefix4, prefix6, 7, &y));
	assert_int_equal(x.scope, 7);
	return x.high == y.high && x.low == y.low;
}

static void test_keys_of_addresses(void **state)
{
	(void)state;
	assert_true(same("10.1.2.3", "10.1.2.3", 32, 64));
	assert_false(same("10.1.2.3", "10.1.2.2", 32, 64));
	assert_true(same("10.1.2.3", "10.1.2.255", 24, 64));
	assert_false(same("10.1.2.3", "10.1.3.3", 24, 64));
	assert_true(same("10.1.2.3", "200.1.3.3", 0, 64));
	assert_true(same("::ffff:10.1.2.3", "10.1.2.3", 32, 64)); /* the same client at a socket for both families */
	assert_false(same("::ffff:10.1.2.3", "::ffff:10.1.2.4", 32, 64));
	assert_true(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 32, 64));
	assert_false(same("2001:db8:1:2::1", "2001:db8:1:3::1", 32, 64));
	assert_true(same("2001:db8:1:2::1", "2001:db8:1:ffff::1", 32, 48));
	assert_true(same("2001:db8:1:2:3400::1", "2001:db8:1:2:34ff::1", 32, 72));
	assert_false(same("2001:db8:1:2:3400::1", "2001:db8:1:2:3500::1", 32, 72));
	assert_false(same("2001:db8::1", "2001:db8::2", 32, 128));
	assert_true(same("2001:db8::1", "fe80::2", 32, 0));
	assert_false(same("::1", "0.0.0.0", 32, 64));
	assert_false(same("::1", "0.0.0.0", 0, 0)); /* families stay apart */

	struct addr local = { .length = sizeof(sa_family_t), .un = { .sun_family = AF_UNIX } }, none = { 0 };
	struct cell_key key;
	assert_false(cell_key_from_addr(&local, 32, 64, 7, &key));
	assert_false(cell_key_from_addr(&none, 32, 64, 7, &key));
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(rate_table_bytes(0), 64 + 4 * 32);
	assert_int_equal(rate_table_bytes(4), 64 + 4 * 32);
	assert_int_equal(rate_table_bytes(5), 64 + 8 * 32);
	assert_int_equal(rate_table_bytes(65536), 64 + 65536 * 32);
	assert_true(rate_table_bytes(UINT32_MAX) == 64 + (UINT64_C(1) << 30) * 32);
}

/* --- one process ------------------------------------------------------------------------------------------------------------- */

static void test_each_key_has_its_own(void **state)
{
	(void)state;
	struct rate_table table;
	make(&table, 4);
	struct rate_limit limit = rate_limit_make(10, 5, 1), none = { 0 };
	/* all of one bucket, and each differing from the first in one field only */
	const struct cell_key keys[] = { { 1, 2, 3 }, { 4, 2, 3 }, { 1, 4, 3 }, { 1, 2, 4 } };
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(drain(&table, &limit, keys[i], start_ns), 6);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(drain(&table, &limit, keys[i], start_ns + (i + 1) * 100 * NS_PER_MS), i + 1);
	assert_int_equal(rate_table_evictions(&table), 0);
	assert_true(rate_table_take(&table, &none, &keys[0], start_ns));
	drop(&table);
}

static void test_five_seconds_for_one_address(void **state)
{
	(void)state;
	struct rate_table table;
	make(&table, 64);
	struct rate_limit limit = rate_limit_make(1000, 100, 1);
	struct cell_key key = key_number(1);
	uint32_t passed = 0;
	for (uint64_t t = 0; t < 5 * NS_PER_S; t += 33333)
		passed += rate_table_take(&table, &limit, &key, start_ns + t);
	assert_int_equal(passed, 5100);
	drop(&table);
}

static void test_a_reload_changes_the_limit(void **state)
{
	(void)state;
	struct rate_table table;
	make(&table, 4);
	struct rate_limit deep = rate_limit_make(1, 100, 1), shallow = rate_limit_make(1000, 10, 1);
	assert_int_equal(drain(&table, &deep, key_number(1), start_ns), 101);
	assert_int_equal(drain(&table, &shallow, key_number(1), start_ns), 0);
	assert_int_equal(drain(&table, &shallow, key_number(1), start_ns + 5 * NS_PER_MS), 5);
	drop(&table);
}

static void test_the_expired_give_way_first(void **state)
{
	(void)state;
	struct rate_table table;
	make(&table, 4);
	struct rate_limit limit = rate_limit_make(10, 9, 1);
	for (uint64_t i = 0; i < 4; i++)
		for (uint64_t n = 0; n <= i; n++) /* 100, 200, 300, 400 ms to go */
			assert_true(rate_table_take(&table, &limit, (struct cell_key[]){ key_number(i) }, start_ns));
	assert_int_equal(drain(&table, &limit, key_number(4), start_ns + 100 * NS_PER_MS), 10);
	assert_int_equal(rate_table_evictions(&table), 0); /* number 0 was over */
	assert_int_equal(drain(&table, &limit, key_number(5), start_ns + 100 * NS_PER_MS), 10);
	assert_int_equal(rate_table_evictions(&table), 1); /* number 1 was the nearest to it */
	for (uint64_t i = 2; i < 4; i++)
		assert_int_equal(drain(&table, &limit, key_number(i), start_ns + 100 * NS_PER_MS), 10 - i);
	assert_int_equal(rate_table_evictions(&table), 1);
	drop(&table);
}

static void test_many_keys(void **state)
{
	(void)state;
	enum { KEYS = 100000, DEPTH = 4, ASKS = 7 };
	struct rate_table table;
	make(&table, 4 * KEYS);
	struct rate_limit limit = rate_limit_make(1, DEPTH - 1, 1);
	uint64_t passed = 0;
	for (int ask = 0; ask < ASKS; ask++)
		for (uint64_t i = 0; i < KEYS; i++)
			passed += rate_table_take(&table, &limit, (struct cell_key[]){ key_number(i) }, start_ns);
	uint64_t evictions = rate_table_evictions(&table);
	assert_in_range(evictions, 1, KEYS / 50); /* some buckets are full; what they let through too much is known */
	assert_in_range(passed, KEYS * DEPTH, KEYS * DEPTH + evictions * DEPTH);
	assert_int_equal(rate_table_unbooked(&table), 0);
	drop(&table);
}

/* A million addresses pass by once each within a second while one client keeps over its limit and another one under it. */
static void flood(uint32_t cells, uint32_t *over, uint32_t *under, uint64_t *evictions)
{
	enum { ADDRESSES = 1000000 };
	struct rate_table table;
	make(&table, cells);
	struct rate_limit limit = rate_limit_make(100, 20, 1);
	uint32_t flooded = 0;
	*over = *under = 0;
	for (uint64_t i = 0; i < ADDRESSES; i++) {
		uint64_t now_ns = start_ns + i * (NS_PER_S / ADDRESSES);
		flooded += rate_table_take(&table, &limit, (struct cell_key[]){ key_number(i + 2) }, now_ns);
		if (i % 1000 == 0)
			*over += rate_table_take(&table, &limit, (struct cell_key[]){ key_number(0) }, now_ns);
		if (i % 20000 == 0)
			*under += rate_table_take(&table, &limit, (struct cell_key[]){ key_number(1) }, now_ns);
	}
	assert_int_equal(flooded, ADDRESSES); /* nobody was taken for another */
	assert_int_equal(rate_table_unbooked(&table), 0);
	*evictions = rate_table_evictions(&table);
	drop(&table);
}

static void test_flood_of_addresses(void **state)
{
	(void)state;
	uint32_t over, under;
	uint64_t evictions;
	flood(65536, &over, &under, &evictions); /* room for all that are alive at a time, which are 10000 */
	assert_int_equal(over, 120);
	assert_int_equal(under, 50);
	assert_true(evictions < 10000);

	flood(4096, &over, &under, &evictions); /* less than half of it: who is over its limit is kept in mind best */
	assert_true(evictions > 500000);
	assert_int_equal(under, 50);
	assert_in_range(over, 120, 120 + 21);

	flood(64, &over, &under, &evictions); /* nothing can be kept in mind for a millisecond, but nobody is refused for that */
	assert_true(evictions > 900000);
	assert_int_equal(under, 50);
}

/* --- many processes ---------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4, KEYS = 512, BURST = 20 };

static struct board {
	_Atomic uint32_t passed[KEYS];
	_Atomic uint32_t at_key[WORKERS];
	_Atomic uint64_t clock_ns;
	struct fleet fleet;
} * board;

static struct rate_table few;

static void make_shared(struct rate_table *table, uint32_t cells)
{
	void *memory = fleet_map(rate_table_bytes(cells));
	rate_table_init(memory, seed);
	rate_table_open(table, memory, cells);
}

/* All at once, key by key. */
_Noreturn static void meet_new_keys(const struct rate_table *table, uint32_t seat)
{
	struct rate_limit limit = rate_limit_make(1, BURST, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t key = 0; key < KEYS; key++) {
		atomic_store(&board->at_key[seat], key + 1);
		for (uint32_t other = 0; other < WORKERS; other++)
			while (atomic_load(&board->at_key[other]) <= key)
				sched_yield();
		atomic_fetch_add(&board->passed[key], drain(table, &limit, key_number(key), start_ns));
	}
	_exit(0);
}

static void test_all_meet_a_new_key(void **state)
{
	(void)state;
	enum { CELLS = 8192 };
	struct rate_table table;
	make_shared(&table, CELLS);
	board = fleet_map(sizeof *board);
	pid_t pids[WORKERS];
	for (uint32_t seat = 0; seat < WORKERS; seat++) {
		pids[seat] = fork();
		if (pids[seat] == 0)
			meet_new_keys(&table, seat);
		assert_true(pids[seat] > 0);
	}
	for (uint32_t seat = 0; seat < WORKERS; seat++) {
		int status;
		assert_int_equal(waitpid(pids[seat], &status, 0), pids[seat]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(rate_table_evictions(&table), 0);
	assert_int_equal(rate_table_unbooked(&table), 0);
	for (uint32_t key = 0; key < KEYS; key++)
		assert_in_range(board->passed[key], BURST + 1, BURST + 1 + WORKERS - 1);
	munmap(board, sizeof *board);
	munmap(table.shared, rate_table_bytes(CELLS));
}

/* Ever new keys in few cells, so that most takes replace one. */
static void replace_cells(uint32_t me, uint64_t random)
{
	struct rate_limit limit = rate_limit_make(10, 3, 1);
	struct cell_key key = key_number(random % 64);
	(void)me;
	if (rate_table_take(&few, &limit, &key, atomic_fetch_add(&board->clock_ns, NS_PER_US)))
		atomic_fetch_add(&board->passed[0], 1);
}

/* Every cell can be had, and each key is held to its limit. */
static void expect_whole(const struct rate_table *table, uint64_t now_ns)
{
	struct rate_limit limit = rate_limit_make(1, 3, 1);
	uint32_t in_bucket[2] = { 0 };
	uint64_t unbooked = rate_table_unbooked(table);
	struct cell_key keys[2 * RATE_TABLE_WAYS];
	assert_int_equal(table->bucket_mask, 1);
	for (uint64_t n = 1000, found = 0; found < ARRAY_LEN(keys); n++) {
		struct cell_key key = key_number(n);
		if (in_bucket[cell_hash(seed, &key) & 1]++ < RATE_TABLE_WAYS)
			keys[found++] = key;
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(drain(table, &limit, keys[i], now_ns), 4);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(drain(table, &limit, keys[i], now_ns), 0);
	assert_int_equal(rate_table_unbooked(table), unbooked);
}

static void test_killed_workers(void **state)
{
	(void)state;
	enum { CELLS = 8 };
	make_shared(&few, CELLS);
	board = fleet_map(sizeof *board);
	board->clock_ns = start_ns;
	fleet_suffer(&board->fleet, 300, 1000, replace_cells);
	assert_true(rate_table_evictions(&few) > 0);
	assert_true(board->passed[0] > 0);
	expect_whole(&few, board->clock_ns + NS_PER_S);
	munmap(board, sizeof *board);
	munmap(few.shared, rate_table_bytes(CELLS));
}

/* --- between any two instructions -------------------------------------------------------------------------------------------- */

/* One bucket, its four keys alive with 1, 2, 3 and 3 units taken of 3, and someone who is just putting a fifth one in the place of the
 * first. */
enum { DEPTH = 3, NEWCOMER = 4, LATER = 5 };

static struct rate_limit slow;
static struct rate_table one_bucket;

static void make_full_bucket(void)
{
	slow = rate_limit_make(1, DEPTH - 1, 1);
	memset(one_bucket.shared, 0, rate_table_bytes(4));
	rate_table_init(one_bucket.shared, seed);
	for (uint64_t i = 0; i < 4; i++)
		for (uint64_t n = 0; n <= i && n < DEPTH; n++)
			assert_true(rate_table_take(&one_bucket, &slow, (struct cell_key[]){ key_number(i) }, start_ns));
	assert_int_equal(rate_table_evictions(&one_bucket), 0);
}

static void take_for_newcomer(void *argument)
{
	struct cell_key key = key_number(NEWCOMER);
	(void)argument;
	if (!rate_table_take(&one_bucket, &slow, &key, start_ns + 1))
		_exit(1);
}

static void expect_no_harm_by_a_dead_one(const void *snapshot)
{
	struct rate_table table = one_bucket;
	table.shared = segment_memory(rate_table_bytes(4));
	memcpy(table.shared, snapshot, rate_table_bytes(4));
	assert_int_equal(drain(&table, &slow, key_number(2), start_ns + 2), 0);
	assert_int_equal(drain(&table, &slow, key_number(3), start_ns + 2), 0);
	assert_int_equal(drain(&table, &slow, key_number(1), start_ns + 2), 1);
	assert_in_range(drain(&table, &slow, key_number(NEWCOMER), start_ns + 2), DEPTH - 1, DEPTH);
	uint64_t later_ns = start_ns + CELL_CLAIM_NS + 2;
	for (uint64_t i = 10; i < 14; i++) { /* all four cells can be had again, those of the living included */
		assert_true(rate_table_take(&table, &slow, (struct cell_key[]){ key_number(i) }, later_ns));
		assert_int_equal(drain(&table, &slow, key_number(i), later_ns + 4 * NS_PER_S), DEPTH);
	}
	for (uint64_t i = 10; i < 14; i++)
		assert_int_equal(drain(&table, &slow, key_number(i), later_ns + 4 * NS_PER_S), 0);
	assert_int_equal(rate_table_unbooked(&table), 0);
	free(table.shared);
}

static void test_killed_at_any_instruction(void **state)
{
	(void)state;
	if (!stepping_possible())
		skip();
	size_t size = rate_table_bytes(4);
	unsigned changes = 0;
	one_bucket.shared = fleet_map(size);
	void *before = segment_memory(size);
	make_full_bucket();
	pid_t pid = stepping_start(take_for_newcomer, NULL);
	do {
		if (memcmp(before, one_bucket.shared, size) != 0) { /* the same memory has the same future */
			memcpy(before, one_bucket.shared, size);
			expect_no_harm_by_a_dead_one(before);
			changes++;
		}
	} while (stepping_step(pid));
	assert_true(changes >= 6); /* as found; claim, version, three words, stamp; the count */
	free(before);
	munmap(one_bucket.shared, size);
}

static bool holds(struct cell_key key, uint64_t now_ns)
{
	struct cell_look look = { 0 };
	for (unsigned i = 0; i < RATE_TABLE_WAYS; i++)
		cell_see(&look, &one_bucket.shared->buckets[0].cells[i], NULL, &key, rate_time(now_ns));
	return look.match.cell != NULL;
}

/* It stands still for longer than CELL_CLAIM_NS, another one puts a key of its own, and then it goes on. */
static void expect_no_harm_by_a_sleeper(pid_t pid)
{
	uint64_t later_ns = start_ns + CELL_CLAIM_NS + 2;
	const struct cell_key a = key_number(NEWCOMER), b = { .high = 77, .low = 88, .scope = 99 };
	assert_int_equal(drain(&one_bucket, &slow, b, later_ns), DEPTH);
	assert_true(stepping_finish(pid));
	for (unsigned mixture = 1; mixture < 7; mixture++)
		assert_false(holds(
		        (struct cell_key){ mixture & 1 ? a.high : b.high, mixture & 2 ? a.low : b.low, mixture & 4 ? a.scope : b.scope },
		        later_ns));
	assert_int_equal(drain(&one_bucket, &slow, key_number(2), later_ns), 0);
	assert_int_equal(drain(&one_bucket, &slow, key_number(3), later_ns), 0);
	uint32_t again = drain(&one_bucket, &slow, b, later_ns);
	assert_true(again == 0 || again == DEPTH); /* at worst its cell was spoilt and is forgotten; never another one's stamp */
	assert_true(drain(&one_bucket, &slow, a, later_ns) <= DEPTH);
	assert_int_equal(rate_table_unbooked(&one_bucket), 0);
}

/* It stands still only for a moment while another one puts a key of its own: neither loses anything. */
static void expect_both(pid_t pid)
{
	const struct cell_key a = key_number(NEWCOMER), b = key_number(LATER);
	bool published = holds(a, start_ns + 2);
	assert_int_equal(drain(&one_bucket, &slow, b, start_ns + 2), DEPTH);
	assert_true(stepping_finish(pid));
	if (!published) /* otherwise it was the one to give way */
		assert_int_equal(drain(&one_bucket, &slow, a, start_ns + 2), DEPTH - 1);
	assert_int_equal(drain(&one_bucket, &slow, b, start_ns + 2), 0);
	assert_int_equal(drain(&one_bucket, &slow, key_number(2), start_ns + 2), 0);
	assert_int_equal(drain(&one_bucket, &slow, key_number(3), start_ns + 2), 0);
}

/* It stands still for a moment while another one puts the same key: one unit too many at most. */
static void expect_one_of_the_two(pid_t pid)
{
	const struct cell_key key = key_number(NEWCOMER);
	uint32_t passed = 1 + drain(&one_bucket, &slow, key, start_ns + 2);
	assert_in_range(passed, DEPTH, DEPTH + 1);
	(void)stepping_finish(pid); /* its unit is counted above, whether it passes or not */
	assert_int_equal(drain(&one_bucket, &slow, key, start_ns + 2), 0);
	assert_int_equal(rate_table_unbooked(&one_bucket), 0);
}

static void test_still_at_any_instruction(void **state)
{
	(void)state;
	if (!stepping_possible())
		skip();
	size_t size = rate_table_bytes(4);
	one_bucket.shared = fleet_map(size);
	stepping_stop_everywhere(make_full_bucket, take_for_newcomer, one_bucket.shared, size, expect_no_harm_by_a_sleeper);
	stepping_stop_everywhere(make_full_bucket, take_for_newcomer, one_bucket.shared, size, expect_both);
	stepping_stop_everywhere(make_full_bucket, take_for_newcomer, one_bucket.shared, size, expect_one_of_the_two);
	munmap(one_bucket.shared, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash_is_siphash_1_3),
		cmocka_unit_test(test_keys_of_addresses),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_each_key_has_its_own),
		cmocka_unit_test(test_five_seconds_for_one_address),
		cmocka_unit_test(test_a_reload_changes_the_limit),
		cmocka_unit_test(test_the_expired_give_way_first),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_flood_of_addresses),
		cmocka_unit_test(test_all_meet_a_new_key),
		cmocka_unit_test(test_killed_workers),
		cmocka_unit_test(test_killed_at_any_instruction),
		cmocka_unit_test(test_still_at_any_instruction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
