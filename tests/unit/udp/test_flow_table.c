/* The table of sessions, against a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "base/hash.h"
#include "udp/flow_table.h"

enum { CAPACITY = 300, STEPS = 200000 };

static struct sockaddr_in6 peer_of(const char *address, uint16_t port)
{
	struct sockaddr_in6 peer = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in peer4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	if (inet_pton(AF_INET6, address, &peer.sin6_addr) == 1)
		return peer;
	assert_int_equal(inet_pton(AF_INET, address, &peer4.sin_addr), 1);
	memset(&peer, 0xee, sizeof peer); /* what is behind an IPv4 address is left over from somebody else */
	memcpy(&peer, &peer4, sizeof peer4);
	return peer;
}

static struct flow_key key_of(uint16_t listener, const char *address, uint16_t port, const char *asked)
{
	const struct sockaddr_in6 peer = peer_of(address, port);
	struct local_address local = { .interface = 0 };
	struct flow_key key;
	if (asked)
		assert_int_equal(inet_pton(AF_INET6, asked, &local.address), 1);
	flow_key_make(&key, listener, &peer, asked ? &local : NULL);
	return key;
}

static void test_what_tells_sessions_apart(void **state)
{
	(void)state;
	const struct flow_key one = key_of(3, "192.0.2.1", 5000, "::ffff:127.0.0.1"),
	                      again = key_of(3, "192.0.2.1", 5000, "::ffff:127.0.0.1");
	const struct flow_key others[] = {
		key_of(4, "192.0.2.1", 5000, "::ffff:127.0.0.1"),
		key_of(3, "192.0.2.2", 5000, "::ffff:127.0.0.1"),
		key_of(3, "192.0.2.1", 5001, "::ffff:127.0.0.1"),
		key_of(3, "192.0.2.1", 5000, "::ffff:127.0.0.2"),
		key_of(3, "192.0.2.1", 5000, NULL),
		key_of(3, "2001:db8::1", 5000, "::1"),
	};
	struct local_address local;
	assert_true(flow_key_equal(&one, &again));
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_false(flow_key_equal(&one, &others[i]));
	assert_true(flow_key_local(&one, &local));
	assert_int_equal(local.address.s6_addr[15], 1);
	assert_false(flow_key_local(&others[4], &local));
	/* An IPv4 client is the same one on a socket for both families. */
	const struct flow_key mapped = key_of(3, "::ffff:192.0.2.1", 5000, "::ffff:127.0.0.1");
	assert_true(flow_key_equal(&one, &mapped));
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static void mix(uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d)
{
	*a += *b, *b = rotate(*b, 13) ^ *a, *a = rotate(*a, 32);
	*c += *d, *d = rotate(*d, 16) ^ *c;
	*a += *d, *d = rotate(*d, 21) ^ *a;
	*c += *b, *b = rotate(*b, 17) ^ *c, *c = rotate(*c, 32);
}

/* As the paper has it, byte by byte, with so many rounds. */
static uint64_t siphash(const unsigned char *key, const unsigned char *bytes, size_t size, int per_word, int at_end)
{
	uint64_t k[2], a, b, c, d, word = 0;
	memcpy(k, key, sizeof k);
	a = k[0] ^ 0x736f6d6570736575, b = k[1] ^ 0x646f72616e646f6d, c = k[0] ^ 0x6c7967656e657261, d = k[1] ^ 0x7465646279746573;
	for (size_t i = 0; i <= size / 8; i++) {
		word = i == size / 8 ? (uint64_t)(size & 0xff) << 56 : 0;
		for (size_t j = 0; j < 8 && i * 8 + j < size; j++)
			word |= (uint64_t)bytes[i * 8 + j] << (8 * j);
		d ^= word;
		for (int round = 0; round < per_word; round++)
			mix(&a, &b, &c, &d);
		a ^= word;
	}
	c ^= 0xff;
	for (int round = 0; round < at_end; round++)
		mix(&a, &b, &c, &d);
	return a ^ b ^ c ^ d;
}

static void test_hash_is_siphash(void **state)
{
	(void)state;
	unsigned char key[16], bytes[15];
	for (unsigned i = 0; i < sizeof key; i++)
		key[i] = (unsigned char)i;
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)i;
	assert_true(siphash(key, bytes, sizeof bytes, 2, 4) == 0xa129ca6149be45e5); /* of the paper, appendix A */
	uint64_t chance = 7, seed[2];
	memcpy(seed, key, sizeof seed);
	for (int i = 0; i < 100; i++) {
		struct flow_key random;
		uint64_t words[sizeof random / sizeof(uint64_t)];
		for (size_t j = 0; j < ARRAY_LEN(words); j++)
			words[j] = hash_next(&chance);
		memcpy(&random, words, sizeof random);
		assert_true(flow_hash(seed, &random) == siphash(key, (const unsigned char *)words, sizeof words, 1, 3));
	}
}

/* Few different hashes, so that many flows want the same places, and the last places run over into the first ones. */
static uint64_t hash_of(uint32_t flow)
{
	return (flow % 5 == 0 ? UINT64_MAX - flow % 3 : hash_mix(flow) % 64) | (uint64_t)flow << 32;
}

static bool is_in(const struct flow_table *table, uint32_t flow)
{
	uint32_t at = flow_table_start(table, hash_of(flow));
	int64_t found;
	while ((found = flow_table_next(table, hash_of(flow), &at)) >= 0)
		if (found == flow)
			return true;
	return false;
}

static void test_adds_and_removes(void **state)
{
	(void)state;
	struct flow_table table;
	static bool there[CAPACITY];
	uint64_t chance = 1;
	uint32_t n = 0;
	assert_int_equal(flow_table_init(&table, CAPACITY), 0);
	for (int step = 0; step < STEPS; step++) {
		uint32_t flow = (uint32_t)(hash_next(&chance) % CAPACITY);
		if (there[flow])
			flow_table_remove(&table, hash_of(flow), flow);
		else
			flow_table_add(&table, hash_of(flow), flow);
		there[flow] = !there[flow];
		n += there[flow] ? 1 : UINT32_MAX;
		assert_int_equal(table.n, n);
		for (uint32_t other = 0; step % 97 == 0 && other < CAPACITY; other++)
			assert_int_equal(is_in(&table, other), there[other]);
	}
	for (uint32_t flow = 0; flow < CAPACITY; flow++)
		if (there[flow])
			flow_table_remove(&table, hash_of(flow), flow);
	for (uint32_t i = 0; i <= table.mask; i++)
		assert_int_equal(table.places[i].flow, 0);
	flow_table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_tells_sessions_apart),
		cmocka_unit_test(test_hash_is_siphash),
		cmocka_unit_test(test_adds_and_removes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
