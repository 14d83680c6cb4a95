/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <stdio.h>

#include "segment.h"
#include "shm/limit.h"

static uint32_t claim_listener(struct shm *shm, const char *name)
{
	uint32_t row = UINT32_MAX;
	assert_int_equal(shm_claim_listener(shm, name, &row), 0);
	return row;
}

static uint32_t claim_server(struct shm *shm, const char *upstream, const char *name)
{
	uint32_t row = UINT32_MAX;
	assert_int_equal(shm_claim_server(shm, upstream, name, &row), 0);
	return row;
}

static void test_a_name_keeps_its_row(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 2, 3, 4);
	assert_int_equal(claim_listener(&shm, "a"), 0);
	assert_int_equal(shm.listeners[0].in_use, 1);
	assert_int_equal(shm.header->n_listeners, 1);
	assert_int_equal(claim_listener(&shm, "b"), 1);
	assert_int_equal(claim_listener(&shm, "a"), 0);
	assert_int_equal(shm.header->n_listeners, 2);
	assert_string_equal(shm.listeners[1].name, "b");

	assert_int_equal(claim_server(&shm, "up", "a"), 0);
	assert_int_equal(claim_server(&shm, "other", "a"), 1); /* a name means its upstream's server */
	assert_int_equal(claim_server(&shm, "u", "pa"), 2);
	assert_int_equal(claim_server(&shm, "up", "a"), 0);
	assert_int_equal(shm.header->n_servers, 3);
	assert_string_equal(shm.servers[1].upstream, "other");
	assert_string_equal(shm.servers[1].name, "a");
	segment_drop(&shm);
}

static void test_retired_row_comes_back_with_its_counters(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 2, 3, 3);
	claim_listener(&shm, "a");
	counter_add(&shm_listener_row(&shm, 1, 0)->connections, 5);
	shm.listeners[0].in_use = 0;
	assert_int_equal(claim_listener(&shm, "b"), 1); /* a row that was never used goes first */
	assert_int_equal(claim_listener(&shm, "a"), 0);
	assert_int_equal(shm.listeners[0].in_use, 1);
	assert_int_equal(counter_get(&shm_listener_row(&shm, 1, 0)->connections), 5);
	segment_drop(&shm);
}

static void test_retired_listener_is_made_anew(void **state)
{
	(void)state;
	struct shm shm;
	uint32_t row = 77;
	segment_make(&shm, 3, 2, 1);
	shm.seats[0].state = SEAT_RUNNING;
	shm.seats[2].started_ns = 1; /* someone was there once */
	claim_listener(&shm, "a");
	claim_listener(&shm, "b");
	assert_int_equal(shm_claim_listener(&shm, "c", &row), -ENOSPC);
	assert_int_equal(row, 77);
	counter_add(&shm_listener_row(&shm, 0, 1)->connections, 5);
	counter_add(&shm_listener_row(&shm, 2, 1)->closes[N_REASONS - 1], 5);
	histogram_record(&shm_listener_row(&shm, 2, 1)->duration, 5);
	counter_add(&shm_listener_row(&shm, 2, 0)->connections, 6);
	shm_limit(&shm, limit_listener(1))->max = 9;
	strcpy(shm.listeners[1].address, "127.0.0.1:1");
	shm.listeners[1].in_use = 0;

	assert_int_equal(claim_listener(&shm, "c"), 1);
	assert_string_equal(shm.listeners[1].name, "c");
	assert_string_equal(shm.listeners[1].address, "");
	assert_int_equal(shm.header->n_listeners, 2);
	assert_int_equal(shm_limit(&shm, limit_listener(1))->max, 0);
	static const struct listener_row zeros;
	for (uint32_t seat = 0; seat < 3; seat++)
		assert_memory_equal(shm_listener_row(&shm, seat, 1), &zeros, sizeof zeros);
	assert_int_equal(counter_get(&shm_listener_row(&shm, 2, 0)->connections), 6);
	assert_int_equal(claim_listener(&shm, "c"), 1);
	assert_int_equal(claim_listener(&shm, "a"), 0);
	assert_int_equal(shm_claim_listener(&shm, "b", &row), -ENOSPC); /* its row is gone */
	segment_drop(&shm);
}

static void test_row_that_a_draining_worker_needs_is_left(void **state)
{
	(void)state;
	struct shm shm;
	uint32_t row;
	segment_make(&shm, 1, 1, 2);
	shm.seats[0].state = SEAT_DRAINING;
	claim_server(&shm, "up", "a");
	claim_server(&shm, "up", "b");
	assert_true(limit_reserve(&shm, 0, limit_server(&shm, 0)));
	shm.servers[0].in_use = shm.servers[1].in_use = 0;
	assert_int_equal(claim_server(&shm, "up", "c"), 1);
	assert_int_equal(shm_claim_server(&shm, "up", "d", &row), -ENOSPC);
	limit_release(&shm, 0, limit_server(&shm, 0));
	assert_int_equal(claim_server(&shm, "up", "d"), 0);
	segment_drop(&shm);
}

static void test_long_names_are_told_apart(void **state)
{
	(void)state;
	struct shm shm;
	char first[301], second[301];
	memset(first, 'x', sizeof first - 1);
	first[sizeof first - 1] = '\0';
	memcpy(second, first, sizeof second);
	second[sizeof second - 2] = 'y';
	segment_make(&shm, 1, 4, 4);
	assert_int_equal(claim_listener(&shm, first), 0);
	assert_int_equal(claim_listener(&shm, second), 1);
	assert_int_equal(claim_listener(&shm, first), 0);
	assert_int_equal(strlen(shm.listeners[1].name), SHM_NAME_SIZE - 1);
	assert_int_equal(claim_server(&shm, first, first), 0);
	assert_int_equal(claim_server(&shm, first, second), 1);
	assert_int_equal(claim_server(&shm, second, first), 2);
	assert_int_equal(claim_server(&shm, first, first), 0);
	first[SHM_NAME_SIZE - 1] = '\0'; /* just fits */
	assert_int_equal(claim_listener(&shm, first), 2);
	assert_string_equal(shm.listeners[2].name, first);
	segment_drop(&shm);
}

enum { MANY = 10000 };

static void claim_many(struct shm *shm, const char *format, bool *seen)
{
	memset(seen, 0, MANY * sizeof *seen);
	for (int i = 0; i < MANY; i++) {
		char name[64];
		snprintf(name, sizeof name, "%s-%d", format, i);
		uint32_t row = claim_server(shm, "up", name);
		assert_true(row < MANY);
		assert_false(seen[row]);
		seen[row] = true;
		assert_string_equal(shm->servers[row].name, name);
	}
}

/* Reloads that replace every name, again and again, with no room to spare. */
static void test_many_servers(void **state)
{
	(void)state;
	static bool seen[MANY];
	struct shm shm;
	segment_make(&shm, 1, 1, MANY);
	static const char *const names[] = { "10.0.0.1", "server", "server", "x", "10.0.0.1" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		claim_many(&shm, names[i], seen);
		uint32_t row;
		assert_int_equal(shm_claim_server(&shm, "up", "one too many", &row), -ENOSPC);
		for (int j = 0; j < MANY; j++)
			shm.servers[j].in_use = 0;
	}
	segment_drop(&shm);
}

/* Rows that are made anew leave the others where they are. */
static void test_replace_every_other(void **state)
{
	(void)state;
	enum { COUNT = 1000 };
	struct shm shm;
	char name[64];
	segment_make(&shm, 1, 1, COUNT);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < COUNT; i++) {
			snprintf(name, sizeof name, "server %d of %d", i, i % 2 ? round : 0);
			uint32_t row = claim_server(&shm, "up", name);
			if (i % 2 == 0)
				assert_int_equal(row, i);
			else
				assert_int_equal(row % 2, 1);
		}
		for (int i = 1; i < COUNT; i += 2)
			shm.servers[i].in_use = 0;
	}
	assert_int_equal(shm.header->n_servers, COUNT);
	segment_drop(&shm);
}

/* What a master that was killed in the middle of a claim leaves, and an index that someone has damaged: no crash, no loop, and two
 * names never share a row. */
static void test_damaged_index(void **state)
{
	(void)state;
	uint64_t random = 88172645463325252U;
	for (int round = 0; round < 200; round++) {
		struct shm shm;
		segment_make(&shm, 1, 1, 8);
		for (int i = 0; i < 8; i++)
			claim_server(&shm, "up", (char[]){ (char)('a' + i), '\0' });
		for (int i = 0; i < 8; i++)
			shm.servers[i].in_use = 0;
		for (int i = 0; i < 6; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			shm.server_index[random % shm_index_length(8)] =
			        round % 2 ? (uint32_t)(random >> 32) : (uint32_t)(random >> 32) % 10;
		}
		bool seen[8] = { false };
		for (int i = 0; i < 8; i++) {
			uint32_t row;
			if (shm_claim_server(&shm, "other", (char[]){ (char)('a' + i), '\0' }, &row) != 0)
				continue;
			assert_true(row < 8);
			assert_false(seen[row]);
			seen[row] = true;
		}
		segment_drop(&shm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_keeps_its_row),
		cmocka_unit_test(test_retired_row_comes_back_with_its_counters),
		cmocka_unit_test(test_retired_listener_is_made_anew),
		cmocka_unit_test(test_row_that_a_draining_worker_needs_is_left),
		cmocka_unit_test(test_long_names_are_told_apart),
		cmocka_unit_test(test_many_servers),
		cmocka_unit_test(test_replace_every_other),
		cmocka_unit_test(test_damaged_index),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
