/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "../base/parsed.h"
#include "policy/access.h"

enum { MANY = 100000 };

struct lists {
	struct cidr *allow, *deny;
	uint32_t n_allow, n_deny;
};

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(random_state >> 33) % limit;
}

static struct access *made(const struct lists *lists)
{
	struct access *access = NULL;

	assert_int_equal(access_new(lists->allow, lists->n_allow, lists->deny, lists->n_deny, &access), 0);
	return access;
}

static struct sockaddr_storage address(const char *s)
{
	struct sockaddr_storage peer = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&peer;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&peer;

	peer.ss_family = strchr(s, ':') != NULL ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(peer.ss_family, s, peer.ss_family == AF_INET ? (void *)&in->sin_addr : (void *)&in6->sin6_addr), 1);
	return peer;
}

static struct sockaddr_storage address_of(const struct cidr *cidr)
{
	struct sockaddr_storage peer = { .ss_family = cidr->family };
	struct sockaddr_in *in = (struct sockaddr_in *)&peer;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&peer;

	if (cidr->family == AF_INET)
		memcpy(&in->sin_addr, cidr->bytes, 4);
	else
		memcpy(&in6->sin6_addr, cidr->bytes, 16);
	return peer;
}

static struct access_verdict check(const struct access *access, const struct sockaddr_storage *peer)
{
	return access_check(access, (const struct sockaddr *)peer);
}

/* --- the model: every rule is looked at --------------------------------------------------------------------------------- */

static void look_through(
        const struct cidr *ranges, uint32_t n, enum access_list list, const struct cidr *peer, int *best, struct access_verdict *verdict)
{
	for (uint32_t i = 0; i < n; i++) {
		if (!cidr_contains(&ranges[i], peer) || ranges[i].bits <= *best)
			continue;
		*best = ranges[i].bits;
		*verdict = (struct access_verdict){ .allowed = list == ACCESS_ALLOW, .list = (uint8_t)list, .rule = i };
	}
}

static struct access_verdict model(const struct lists *lists, const struct cidr *peer)
{
	struct access_verdict verdict = { .allowed = lists->n_allow == 0 };
	int best = -1;

	look_through(lists->deny, lists->n_deny, ACCESS_DENY, peer, &best, &verdict);
	look_through(lists->allow, lists->n_allow, ACCESS_ALLOW, peer, &best, &verdict);
	return verdict;
}

static void compare(const struct access *access, const struct lists *lists, const struct cidr *peer)
{
	struct sockaddr_storage storage = address_of(peer);
	struct access_verdict is = check(access, &storage), should = model(lists, peer);
	char text[CIDR_TEXT_SIZE];

	if (is.allowed != should.allowed || is.list != should.list || is.rule != should.rule)
		fail_msg("%s: allowed %d by list %d rule %u, should be %d by list %d rule %u", cidr_format(peer, text, sizeof text),
		        is.allowed, is.list, is.rule, should.allowed, should.list, should.rule);
}

/* --- random ranges ------------------------------------------------------------------------------------------------------- */

static void cut(struct cidr *cidr, uint8_t bits)
{
	cidr->bits = bits;
	for (uint32_t bit = bits; bit < 128; bit++)
		cidr->bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

static struct cidr random_address(bool sparse)
{
	struct cidr cidr = { .family = random_below(2) != 0 ? AF_INET : AF_INET6 };
	uint8_t bits = cidr.family == AF_INET ? 32 : 128;

	for (uint32_t i = 0; i < 16; i++)
		cidr.bytes[i] = (uint8_t)(sparse ? (random_below(12) == 0 ? 1U : 0U) << random_below(8) : random_below(256));
	cut(&cidr, bits);
	return cidr;
}

/* Some in the neighbourhood of one that is there already: inside, around, and the same. */
static struct cidr random_range(const struct cidr *ranges, uint32_t n)
{
	struct cidr cidr = random_address(random_below(2) == 0);
	uint32_t longest = cidr.bits;

	if (random_below(200) == 0)
		return (struct cidr){ .family = AF_UNSPEC };
	if (n > 0 && random_below(2) == 0) {
		struct cidr near = ranges[random_below(n)];
		if (near.family == AF_UNSPEC || random_below(8) == 0)
			return near;
		longest = near.family == AF_INET ? 32 : 128;
		for (uint32_t bit = near.bits; bit < longest; bit++)
			if (random_below(2) == 0)
				near.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		cidr = near;
	}
	if (random_below(4) > 0)
		cut(&cidr, (uint8_t)random_below(longest + 1));
	else
		cidr.bits = (uint8_t)longest;
	return cidr;
}

static struct cidr *random_list(uint32_t n)
{
	struct cidr *ranges = calloc(n ? n : 1, sizeof *ranges);

	assert_non_null(ranges);
	for (uint32_t i = 0; i < n; i++)
		ranges[i] = random_range(ranges, i);
	return ranges;
}

/* The first and the last address of a range, the ones beside it, and one inside. */
static struct cidr address_near(const struct cidr *range)
{
	struct cidr peer = *range;
	uint32_t kind = random_below(5);

	if (range->family == AF_UNSPEC)
		return random_address(false);
	peer.bits = range->family == AF_INET ? 32 : 128;
	for (uint32_t bit = range->bits; bit < peer.bits; bit++)
		if (kind == 1 || kind == 3 || (kind == 4 && random_below(2) == 0))
			peer.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	if ((kind == 2 || kind == 3) && range->bits > 0)
		peer.bytes[(range->bits - 1) / 8] ^= (uint8_t)(0x80 >> (range->bits - 1) % 8);
	return peer;
}

static struct cidr some_address(const struct lists *lists)
{
	uint32_t at = random_below(lists->n_allow + lists->n_deny + 1);

	if (at < lists->n_allow)
		return address_near(&lists->allow[at]);
	at -= lists->n_allow;
	return at < lists->n_deny ? address_near(&lists->deny[at]) : random_address(random_below(2) == 0);
}

/* An address of ::ffff:0:0/96 is IPv4, which the model need not know. */
static bool is_mapped(const struct cidr *peer)
{
	struct in6_addr ip;

	memcpy(&ip, peer->bytes, sizeof ip);
	return peer->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&ip);
}

static void compare_random(uint32_t n_allow, uint32_t n_deny, int looks)
{
	struct lists lists = { random_list(n_allow), random_list(n_deny), n_allow, n_deny };
	struct access *access;

	/* the other list has some of the same ranges */
	for (uint32_t i = 0; i < n_allow && i < n_deny; i += 3)
		lists.deny[random_below(n_deny)] = lists.allow[i];
	access = made(&lists);
	while (looks-- > 0) {
		struct cidr peer = some_address(&lists);
		if (!is_mapped(&peer))
			compare(access, &lists, &peer);
	}
	access_free(access);
	free(lists.allow);
	free(lists.deny);
}

static void test_as_the_model(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++)
		compare_random(random_below(12), random_below(12), 40);
	for (int i = 0; i < 50; i++)
		compare_random(random_below(400), random_below(400), 400);
}

static void test_as_the_model_with_many(void **state)
{
	(void)state;
	compare_random(MANY / 2, MANY / 2, 300);
}

/* All that differs comes late in the address, or early; with few rules and with many. */
static void test_shared_beginnings(void **state)
{
	(void)state;
	struct cidr allow[600], base = random_address(false);
	struct lists lists = { .allow = allow };

	base.family = AF_INET6;
	cut(&base, 128);
	for (uint32_t shared = 0; shared < 128; shared++) {
		lists.n_allow = shared % 3 == 0 ? ARRAY_LEN(allow) : 1 + random_below(20);
		for (uint32_t i = 0; i < lists.n_allow; i++) {
			allow[i] = base;
			for (uint32_t bit = shared; bit < 128; bit++)
				if (random_below(2) == 0)
					allow[i].bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
			cut(&allow[i], (uint8_t)(128 - random_below(129 - shared) * random_below(2)));
		}
		struct access *access = made(&lists);
		for (int i = 0; i < 300; i++) {
			struct cidr peer = some_address(&lists);
			if (!is_mapped(&peer))
				compare(access, &lists, &peer);
		}
		access_free(access);
	}
}

/* --- an exhaustive small space ------------------------------------------------------------------------------------------- */

enum { SMALL_BITS = 3, SMALL_RANGES = (2 << SMALL_BITS) - 1 };

/* All ranges within SMALL_BITS bits, after so many bits that are zero. */
static struct cidr small_range(uint32_t number, uint8_t family, uint32_t offset)
{
	struct cidr cidr = { .family = family };
	uint32_t depth = 31 - (uint32_t)__builtin_clz(number + 1), value = number + 1 - (1U << depth);

	cidr.bits = (uint8_t)(offset + depth);
	for (uint32_t i = 0; i < depth; i++)
		if (value >> (depth - 1 - i) & 1)
			cidr.bytes[(offset + i) / 8] |= (uint8_t)(0x80 >> (offset + i) % 8);
	return cidr;
}

/* Each range is in neither list, in one, or in both. */
static void try_assignment(uint32_t assignment, uint8_t family, uint32_t offset)
{
	struct cidr allow[SMALL_RANGES], deny[SMALL_RANGES];
	struct lists lists = { .allow = allow, .deny = deny };
	struct access *access;

	for (uint32_t i = 0; i < SMALL_RANGES; i++, assignment /= 4) {
		if (assignment % 4 & 1)
			allow[lists.n_allow++] = small_range(i, family, offset);
		if (assignment % 4 & 2)
			deny[lists.n_deny++] = small_range(i, family, offset);
	}
	access = made(&lists);
	for (uint32_t leaf = 0; leaf < 1U << SMALL_BITS; leaf++) {
		struct cidr peer = small_range((1U << SMALL_BITS) - 1 + leaf, family, offset);
		peer.bits = family == AF_INET ? 32 : 128;
		compare(access, &lists, &peer);
	}
	access_free(access);
}

/* The 7 ranges within 2 bits in all combinations of lists, and the 15 within 3 bits in some 43,000 of 4^15. */
static void test_every_small_set(void **state)
{
	(void)state;
	for (uint32_t assignment = 0; assignment < 1 << 14; assignment++) {
		try_assignment(assignment, AF_INET, 29);
		try_assignment(assignment, AF_INET6, 63);
		try_assignment(assignment, AF_INET6, 125);
	}
	for (uint32_t assignment = 0; assignment < 1 << 30; assignment += 25013)
		try_assignment(assignment, AF_INET6, 0);
}

/* --- what is written in the header --------------------------------------------------------------------------------------- */

static void expect(const struct access *access, const char *peer, bool allowed, enum access_list list, uint32_t rule)
{
	struct sockaddr_storage storage = address(peer);
	struct access_verdict verdict = check(access, &storage);

	if (verdict.allowed != allowed || verdict.list != list || verdict.rule != rule)
		fail_msg("%s: allowed %d by list %d rule %u", peer, verdict.allowed, verdict.list, verdict.rule);
}

static void test_longest_wins_and_of_equals_deny(void **state)
{
	(void)state;
	struct cidr allow[] = { parsed("10.0.0.0/8"), parsed("10.1.2.0/24"), parsed("2001:db8::/32"), parsed("10.7.0.0/16"),
		parsed("10.0.0.0/8") };
	struct cidr deny[] = { parsed("10.1.0.0/16"), parsed("10.7.0.0/16"), parsed("10.1.2.3"), parsed("10.1.2.3") };
	struct lists lists = { allow, deny, ARRAY_LEN(allow), ARRAY_LEN(deny) };
	struct access *access = made(&lists);

	expect(access, "10.9.9.9", true, ACCESS_ALLOW, 0);
	expect(access, "10.1.9.9", false, ACCESS_DENY, 0);
	expect(access, "10.1.2.9", true, ACCESS_ALLOW, 1);
	expect(access, "10.1.2.3", false, ACCESS_DENY, 2);
	expect(access, "10.7.0.1", false, ACCESS_DENY, 1);
	expect(access, "11.0.0.0", false, ACCESS_NO_RULE, 0);
	expect(access, "9.255.255.255", false, ACCESS_NO_RULE, 0);
	expect(access, "::ffff:10.1.2.9", true, ACCESS_ALLOW, 1);
	expect(access, "::ffff:11.1.2.9", false, ACCESS_NO_RULE, 0);
	expect(access, "2001:db8::9", true, ACCESS_ALLOW, 2);
	expect(access, "::10.9.9.9", false, ACCESS_NO_RULE, 0);
	access_free(access);
}

static void test_where_no_rule_matches(void **state)
{
	(void)state;
	struct cidr ranges[] = { parsed("10.0.0.0/8"), parsed("all"), parsed("::/0"), parsed("0.0.0.0/0") };
	struct access *access = made(&(struct lists){ 0 });

	expect(access, "10.0.0.1", true, ACCESS_NO_RULE, 0);
	expect(access, "::1", true, ACCESS_NO_RULE, 0);
	access_free(access);
	access = made(&(struct lists){ .deny = ranges, .n_deny = 1 });
	expect(access, "10.0.0.1", false, ACCESS_DENY, 0);
	expect(access, "11.0.0.1", true, ACCESS_NO_RULE, 0);
	expect(access, "::1", true, ACCESS_NO_RULE, 0);
	access_free(access);
	access = made(&(struct lists){ .allow = ranges, .n_allow = 1 });
	expect(access, "11.0.0.1", false, ACCESS_NO_RULE, 0);
	expect(access, "::1", false, ACCESS_NO_RULE, 0);
	access_free(access);
	access = made(&(struct lists){ .allow = ranges, .n_allow = 1, .deny = ranges + 1, .n_deny = 1 });
	expect(access, "10.0.0.1", true, ACCESS_ALLOW, 0);
	expect(access, "11.0.0.1", false, ACCESS_DENY, 0);
	expect(access, "::1", false, ACCESS_DENY, 0);
	access_free(access);
	/* ::/0 is not for IPv4, mapped or not */
	access = made(&(struct lists){ .allow = ranges + 2, .n_allow = 2, .deny = ranges + 2, .n_deny = 1 });
	expect(access, "::1", false, ACCESS_DENY, 0);
	expect(access, "10.0.0.1", true, ACCESS_ALLOW, 1);
	expect(access, "::ffff:10.0.0.1", true, ACCESS_ALLOW, 1);
	access_free(access);
}

static void test_peers_without_an_ip_address(void **state)
{
	(void)state;
	struct cidr all = parsed("all");
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct access *access = made(&(struct lists){ .deny = &all, .n_deny = 1 });

	assert_true(access_check(access, (const struct sockaddr *)&un).allowed);
	access_free(access);
	access = made(&(struct lists){ .allow = &all, .n_allow = 1 });
	assert_true(access_check(access, (const struct sockaddr *)&un).allowed);
	assert_false(access_check(access, &none).allowed);
	access_free(access);
	access_free(NULL);
}

/* 129 ranges one in the other: the deepest chain that there is. */
static void test_nested_to_the_end(void **state)
{
	(void)state;
	struct cidr deny[129], peer = { .family = AF_INET6, .bits = 128 };
	struct lists lists = { .deny = deny, .n_deny = ARRAY_LEN(deny) };

	memset(peer.bytes, 0x5a, sizeof peer.bytes);
	for (uint32_t i = 0; i < ARRAY_LEN(deny); i++) {
		deny[i] = peer;
		cut(&deny[i], (uint8_t)(128 - i));
	}
	struct access *access = made(&lists);
	for (uint32_t bit = 0; bit < 128; bit++) {
		struct cidr other = peer;
		other.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
		struct sockaddr_storage storage = address_of(&other);
		assert_int_equal(check(access, &storage).rule, 128 - bit);
		compare(access, &lists, &other);
	}
	compare(access, &lists, &peer);
	access_free(access);
}

/* 129 leaves, each of which leaves the path of the next at a bit of its own: the deepest trie that there is. */
static void test_deepest_trie(void **state)
{
	(void)state;
	for (uint32_t turned = 0; turned < 2; turned++) {
		struct cidr allow[129];
		struct lists lists = { .allow = allow, .n_allow = ARRAY_LEN(allow) };
		for (uint32_t i = 0; i < ARRAY_LEN(allow); i++) {
			allow[i] = (struct cidr){ .family = AF_INET6, .bits = 128 };
			memset(allow[i].bytes, turned ? 0xff : 0, sizeof allow[i].bytes);
			if (i < 128) {
				allow[i].bytes[i / 8] ^= (uint8_t)(0x80 >> i % 8);
				cut(&allow[i], (uint8_t)(i + 1));
			}
		}
		struct access *access = made(&lists);
		for (int i = 0; i < 4000; i++) {
			struct cidr peer = some_address(&lists);
			if (!is_mapped(&peer))
				compare(access, &lists, &peer);
		}
		access_free(access);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_longest_wins_and_of_equals_deny),
		cmocka_unit_test(test_where_no_rule_matches),
		cmocka_unit_test(test_peers_without_an_ip_address),
		cmocka_unit_test(test_nested_to_the_end),
		cmocka_unit_test(test_deepest_trie),
		cmocka_unit_test(test_shared_beginnings),
		cmocka_unit_test(test_every_small_set),
		cmocka_unit_test(test_as_the_model),
		cmocka_unit_test(test_as_the_model_with_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
