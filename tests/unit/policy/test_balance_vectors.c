/* Other balancers' tables and sequences. Not part of the sources: AEGIS_TEST_VECTORS names the folder with
 *   maglev/maglev_ring_reference.json       tables of Envoy's Maglev, hashes
 *   balance/reference_sequences.json        sequences of nginx and HAProxy, figures of katran, the example of the Maglev paper
 * Where they are not there, this is skipped. What does not apply:
 *   ring_hash_xxh64           a ring of points, which is another algorithm than a Maglev table
 *   katran_maglev, V1         weights as pieces of the table in a row, which favours the first servers; and weights that sum past the table
 *   katran_maglev, V2         only to within the last round: there the heaviest takes several slots in a row, here (as in Envoy) one
 *   glb_rendezvous            rendezvous hashing with SipHash, another algorithm
 *   envoy_outlier_defaults    not about choosing
 *
 * The balance is given one hash of each name, from which it has the second one and the order too: its own tables are as good as these,
 * and others. So these are compared at maglev.h, where hashes and order are the caller's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "base/hash.h"
#include "policy/balance.h"
#include "policy/maglev.h"
#include "sha256.h"

enum { FILE_BYTES = 64 << 10, MAX_KEYS = 400, KEY_SIZE = 32 };

static char maglev_text[FILE_BYTES], sequences_text[FILE_BYTES];

struct keys {
	char text[MAX_KEYS][KEY_SIZE];
	uint32_t n;
};

/* --- reading ------------------------------------------------------------------------------------------------------------- */

/* The file without white space outside of strings. */
static bool read_file(char *text, const char *name)
{
	FILE *file = vectors_open(name);
	if (!file)
		return false;
	bool in_string = false;
	size_t n = 0;
	for (int c; (c = getc(file)) != EOF && n + 1 < FILE_BYTES;) {
		in_string ^= c == '"';
		if (in_string || !isspace(c))
			text[n++] = (char)c;
	}
	text[n] = '\0';
	fclose(file);
	return true;
}

/* What follows on "key": after at, which must be there. */
static const char *value_of(const char *at, const char *key)
{
	char quoted[80];
	snprintf(quoted, sizeof quoted, "\"%s\":", key);
	const char *found = strstr(at, quoted);
	if (!found)
		fail_msg("no %s", key);
	return found + strlen(quoted);
}

static uint32_t number_of(const char *at, const char *key)
{
	return (uint32_t)strtoul(value_of(at, key), NULL, 10);
}

/* [1,2,3] */
static uint32_t read_numbers(const char *at, uint32_t *numbers, uint32_t max)
{
	uint32_t n = 0;
	assert_true(*at == '[');
	while (*at++ != ']') {
		char *end;
		assert_true(n < max);
		numbers[n++] = (uint32_t)strtoul(at, &end, 10);
		at = end;
	}
	return n;
}

/* ["a","b"] */
static void read_keys(const char *at, struct keys *keys)
{
	keys->n = 0;
	assert_true(*at == '[');
	while (*at++ != ']') {
		assert_true(keys->n < MAX_KEYS && *at == '"');
		size_t length = strcspn(at + 1, "\"");
		snprintf(keys->text[keys->n++], KEY_SIZE, "%.*s", (int)length, at + 1);
		at += length + 2;
	}
}

/* --- maglev -------------------------------------------------------------------------------------------------------------- */

static int compare_keys(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

/* As the reference has it: the keys in the order of their bytes, XXH64 with the seeds 0 and 1. */
static void make_table(struct maglev *maglev, uint32_t size, struct keys *keys, const uint32_t *weights)
{
	char *sorted[MAX_KEYS];
	uint32_t budget = UINT32_MAX;
	for (uint32_t i = 0; i < keys->n; i++)
		sorted[i] = keys->text[i];
	qsort(sorted, keys->n, sizeof *sorted, compare_keys);
	assert_int_equal(maglev_init(maglev, size, keys->n), 0);
	maglev_begin(maglev);
	for (uint32_t i = 0; i < keys->n; i++) {
		size_t length = strlen(sorted[i]), id = (size_t)(sorted[i] - keys->text[0]) / KEY_SIZE;
		maglev_add(maglev, (uint16_t)id, weights ? weights[id] : 1, hash_xxh64(sorted[i], length, 0),
		        hash_xxh64(sorted[i], length, 1));
	}
	maglev_end(maglev);
	assert_false(maglev_make(maglev, &budget));
}

static void count(const struct maglev *maglev, uint32_t n, uint32_t *min, uint32_t *max)
{
	uint32_t counts[MAX_KEYS] = { 0 };
	for (uint32_t slot = 0; slot < maglev->size; slot++)
		counts[maglev->slots[slot]]++;
	*min = UINT32_MAX;
	*max = 0;
	for (uint32_t i = 0; i < n; i++) {
		*min = counts[i] < *min ? counts[i] : *min;
		*max = counts[i] > *max ? counts[i] : *max;
	}
}

static void test_hashes(void **state)
{
	const char *at = value_of(maglev_text, "xxh64_vectors") + 1;
	uint32_t n = 0;
	(void)state;
	for (; *at == '['; n++) { /* ["text",seed,"hash"], */
		char *end;
		size_t length = strcspn(at + 2, "\"");
		uint64_t seed = strtoull(at + 2 + length + 2, &end, 10), hash = strtoull(end + 2, &end, 10);
		assert_true(hash_xxh64(at + 2, length, seed) == hash);
		at = end + 2;
		at += *at == ',';
	}
	assert_true(n >= 12);
}

static void test_small_tables(void **state)
{
	const char *at = value_of(maglev_text, "literal"), *end = strstr(at, "\"ring_hash_xxh64\"");
	uint32_t n = 0;
	(void)state;
	for (; (at = strstr(at, "{\"M\":")) && at < end; at++, n++) {
		static struct keys keys;
		struct maglev maglev;
		uint32_t weights[MAX_KEYS], table[64], size = number_of(at, "M");
		read_keys(value_of(at, "keys"), &keys);
		assert_int_equal(read_numbers(value_of(at, "weights"), weights, MAX_KEYS), keys.n);
		assert_int_equal(read_numbers(value_of(at, "table"), table, 64), size);
		make_table(&maglev, size, &keys, weights);
		for (uint32_t slot = 0; slot < size; slot++)
			assert_int_equal(maglev.slots[slot], table[slot]);
		maglev_fini(&maglev);
	}
	assert_true(n >= 5);
}

static void assert_sha256(const struct maglev *maglev, const char *wanted)
{
	static char text[MAGLEV_SLOTS * 6];
	char digits[65];
	size_t length = 0;
	for (uint32_t slot = 0; slot < maglev->size; slot++)
		length += (size_t)sprintf(text + length, "%s%u", slot ? "," : "", (unsigned)maglev->slots[slot]);
	sha256(digits, text, length);
	assert_memory_equal(digits, wanted, 64);
}

static uint32_t moved_without_last(const struct maglev *maglev, struct keys *keys)
{
	struct maglev less;
	uint32_t moved = 0, last = --keys->n;
	make_table(&less, MAGLEV_SLOTS, keys, NULL);
	for (uint32_t slot = 0; slot < MAGLEV_SLOTS; slot++)
		moved += maglev->slots[slot] != last && maglev->slots[slot] != less.slots[slot];
	maglev_fini(&less);
	return moved;
}

static void test_large_tables(void **state)
{
	const char *at = value_of(maglev_text, "M65537");
	uint32_t n = 0;
	(void)state;
	for (; (at = strstr(at, "\"N\":")); at++, n++) {
		static struct keys keys;
		struct maglev maglev;
		uint32_t first[16], min, max;
		keys.n = number_of(at, "N");
		for (uint32_t i = 0; i < keys.n; i++)
			snprintf(keys.text[i], KEY_SIZE, "10.0.0.%u:8080", (unsigned)i);
		make_table(&maglev, MAGLEV_SLOTS, &keys, NULL);
		assert_int_equal(read_numbers(value_of(at, "first16"), first, 16), 16);
		for (uint32_t slot = 0; slot < 16; slot++)
			assert_int_equal(maglev.slots[slot], first[slot]);
		assert_sha256(&maglev, value_of(at, "sha256_of_table_as_comma_separated_indices") + 1);
		count(&maglev, keys.n, &min, &max);
		assert_int_equal(min, number_of(at, "min_entries"));
		assert_int_equal(max, number_of(at, "max_entries"));
		if (keys.n > 2)
			assert_int_equal(moved_without_last(&maglev, &keys), number_of(at, "other_entries_moved"));
		maglev_fini(&maglev);
	}
	assert_true(n >= 6);
}

static void test_katran(void **state)
{
	const char *at = value_of(sequences_text, "katran_maglev"), *first = strstr(at, "\"reals\":400"),
	           *second = strstr(at, "\"algo\":\"V2");
	static struct keys keys;
	struct maglev maglev;
	uint32_t min, max;
	(void)state;
	assert_true(first && second);
	keys.n = number_of(at, "reals");
	for (uint32_t i = 0; i < keys.n; i++)
		snprintf(keys.text[i], KEY_SIZE, "192.0.2.%u:%u", (unsigned)(i % 200), (unsigned)(80 + i / 200));
	make_table(&maglev, number_of(at, "ring"), &keys, NULL);
	count(&maglev, keys.n, &min, &max);
	assert_int_equal(max - min, number_of(first, "max_minus_min"));
	maglev_fini(&maglev);
	keys.n = 3;
	make_table(&maglev, number_of(at, "ring"), &keys, (const uint32_t[]){ 2, 1, 1 });
	count(&maglev, keys.n, &min, &max);
	assert_in_range(max - min, number_of(second, "max_minus_min") - 3, number_of(second, "max_minus_min") + 3);
	maglev_fini(&maglev);
}

/* The example of the paper gives the orders in which the servers like slots, without hashes. */
static void test_paper(void **state)
{
	const char *at = value_of(value_of(sequences_text, "maglev_paper"), "worked_example");
	uint32_t size = number_of(at, "M"), order[16], budget = UINT32_MAX;
	(void)state;
	for (uint32_t gone = 1; gone <= 3; gone += 2) { /* server 1, and then none of them */
		static struct keys table;
		struct maglev maglev;
		assert_int_equal(maglev_init(&maglev, size, 3), 0);
		maglev_begin(&maglev);
		for (uint16_t i = 0; i < 3; i++) {
			const char name[] = { 'B', (char)('0' + i), '\0' };
			assert_int_equal(read_numbers(value_of(at, name), order, 16), size);
			if (i != gone)
				maglev_add(&maglev, i, 1, order[0], (order[1] + size - order[0]) % size - 1);
		}
		maglev_end(&maglev);
		assert_false(maglev_make(&maglev, &budget));
		read_keys(value_of(at, gone == 1 ? "after_removing_B1" : "table"), &table);
		assert_int_equal(table.n, size);
		for (uint32_t slot = 0; slot < size; slot++)
			assert_int_equal(maglev.slots[slot], table.text[slot][1] - '0');
		maglev_fini(&maglev);
	}
}

/* --- round robin --------------------------------------------------------------------------------------------------------- */

static void check_round_robin(const char *sequence, struct balance_entry *entries, uint32_t n, char first)
{
	static struct keys wanted;
	struct balance balance;
	read_keys(sequence, &wanted);
	assert_true(wanted.n >= 5);
	assert_int_equal(balance_init(&balance, BALANCE_BY_ROUND_ROBIN, entries, n, 0, 0, NULL, NULL), 0);
	for (uint32_t i = 0; i < wanted.n; i++) {
		const char *name = wanted.text[i];
		assert_int_equal(balance_choose(&balance, 0, NULL, 0), name[strlen(name) - 1] - first);
	}
	balance_fini(&balance);
}

static void test_round_robin(void **state)
{
	const char *smooth = value_of(sequences_text, "smooth_wrr"), *plain = value_of(sequences_text, "plain_rr_4");
	struct balance_entry entries[4];
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		entries[i] =
		        (struct balance_entry){ .weight = number_of(value_of(smooth, "weights"), (const char *[]){ "a", "b", "c" }[i]) };
	check_round_robin(value_of(smooth, "sequence"), entries, 3, 'a');
	for (uint32_t i = 0; i < 4; i++)
		entries[i] = (struct balance_entry){ .weight = 1 };
	check_round_robin(value_of(plain, "sequence"), entries, 4, '1');
}

/* --- servers that are full ----------------------------------------------------------------------------------------------- */

enum { MAX_SERVERS = 4 };

struct filling {
	struct balance_entry entries[MAX_SERVERS];
	char names[MAX_SERVERS][8];
	uint32_t limits[MAX_SERVERS], loads[MAX_SERVERS], n;
};

/* [["p1",1],["p2 backup",0]]: name and limit, 0 = none */
static void read_servers(const char *at, struct filling *filling)
{
	memset(filling, 0, sizeof *filling);
	for (at++; *at == '['; at += *at == ',') {
		assert_true(filling->n < MAX_SERVERS);
		size_t length = strcspn(at + 2, " \"");
		snprintf(filling->names[filling->n], sizeof filling->names[0], "%.*s", (int)length, at + 2);
		filling->entries[filling->n] =
		        (struct balance_entry){ .name_hash = hash_xxh64(at + 2, length, 0), .weight = 1, .backup = at[2 + length] == ' ' };
		at = strchr(at, ',') + 1;
		filling->limits[filling->n++] = (uint32_t)strtoul(at, NULL, 10);
		at = strchr(at, ']') + 1;
	}
}

static uint32_t load_of(const void *arg, uint32_t entry)
{
	return ((const struct filling *)arg)->loads[entry];
}

/* Open one: a server that turns out to be full counts as tried. The server, or -1. */
static int open_one(struct balance *balance, struct filling *filling, uint64_t key)
{
	uint16_t tried[MAX_SERVERS];
	for (uint32_t n_tried = 0; n_tried < filling->n; n_tried++) {
		int chosen = balance_choose(balance, key, tried, n_tried);
		assert_in_range(chosen, 0, filling->n - 1);
		if (filling->limits[chosen] == 0 || filling->loads[chosen] < filling->limits[chosen]) {
			filling->loads[chosen]++;
			return chosen;
		}
		tried[n_tried] = (uint16_t)chosen;
	}
	return -1;
}

static void check_filling(const char *at, enum balance_algorithm algorithm)
{
	struct filling filling;
	struct balance balance;
	const char *end = strchr(at, '}'), *sequence = strstr(at, "\"open_sequence\":");
	static struct keys peers;
	read_servers(value_of(at, "servers"), &filling);
	assert_int_equal(balance_init(&balance, algorithm, filling.entries, filling.n, 0, 1, load_of, &filling), 0);
	if (sequence && sequence < end) {
		read_keys(value_of(at, "peers"), &peers);
		for (uint32_t i = 0; i < peers.n; i++) {
			int chosen = open_one(&balance, &filling, 7);
			assert_string_equal(peers.text[i], chosen < 0 ? "" : filling.names[chosen]);
		}
	} else {
		for (uint32_t i = number_of(at, "open_parallel"); i > 0; i--)
			(void)open_one(&balance, &filling, 7);
		for (uint32_t i = 0; i < filling.n; i++)
			assert_int_equal(filling.loads[i], number_of(value_of(at, "accepted"), filling.names[i]));
	}
	balance_fini(&balance);
}

/* Whatever the algorithm: all of them fill up what there is, and so one table of results does for all. */
static void test_full_servers(void **state)
{
	const char *at = value_of(sequences_text, "max_conns"), *end = strstr(at, "\"katran_maglev\"");
	uint32_t n = 0;
	(void)state;
	for (; (at = strstr(at, "\"servers\":")) && at < end; at++, n++)
		for (int algorithm = 0; algorithm < BALANCE_ALGORITHMS; algorithm++)
			check_filling(at, (enum balance_algorithm)algorithm);
	assert_true(n >= 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_small_tables),
		cmocka_unit_test(test_large_tables),
		cmocka_unit_test(test_katran),
		cmocka_unit_test(test_paper),
		cmocka_unit_test(test_round_robin),
		cmocka_unit_test(test_full_servers),
	};
	if (!read_file(maglev_text, "maglev/maglev_ring_reference.json") || !read_file(sequences_text, "balance/reference_sequences.json"))
		return VECTORS_SKIPPED;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
