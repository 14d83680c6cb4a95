#include "policy/access.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Rules are sorted, so that what a rule encloses follows it, and each knows the next one that encloses it. A Patricia trie (Morrison,
 * 1968) has the rules that enclose no other for leaves: its branches name only the bit to look at, and a walk down ends at the one leaf
 * that shares most bits with the address. Of that leaf and of what encloses it, the first that has the address is the longest match: any
 * rule that has the address lies on that path, since up to its length both agree with what the walk looked at.
 *
 * The branch between two leaves that are neighbours in the order is the one that looks at the first bit in which they differ. There is
 * one for each such pair, and it stands at the place of the pair.
 *
 * The first steps of a walk are in a table, by the first bits in which leaves differ at all: about as many places as there are leaves. Of
 * 100,000 rules it leaves a few steps, each of which would be a miss of the cache.
 */
struct rule {
	struct cidr range;
	uint8_t list;
	uint32_t index;  /* in the list */
	uint32_t parent; /* the longest rule that encloses this one, or NONE */
};

struct branch {
	uint32_t bit;
	uint32_t side[2]; /* by the value of the bit: a branch, or a rule with LEAF */
};

struct trie {
	uint32_t root; /* like a side */
	uint32_t n_leaves;
	uint32_t from, bits; /* of an address: the place in the table */
	uint32_t *starts;    /* like sides */
};

enum { IPV4, IPV6, N_FAMILIES };

struct access {
	bool refuse_others;
	uint32_t n_rules;
	struct trie tries[N_FAMILIES];
	struct rule *rules;
	struct branch *branches;
	uint32_t *starts;
};

#define LEAF UINT32_C(0x80000000)
#define NONE UINT32_MAX

enum { ADDRESS_BITS = 128, START_BITS_MAX = 16, RULES_MAX = 1 << 30 };

static int compare_rules(const void *left, const void *right)
{
	const struct rule *a = left, *b = right;
	int order = memcmp(a->range.bytes, b->range.bytes, sizeof a->range.bytes);

	if (a->range.family != b->range.family)
		return a->range.family < b->range.family ? -1 : 1;
	if (order != 0)
		return order;
	if (a->range.bits != b->range.bits)
		return a->range.bits < b->range.bits ? -1 : 1;
	if (a->list != b->list)
		return a->list == ACCESS_DENY ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

/* A range of both families is a rule in each. */
static void add_rules(struct access *access, enum access_list list, const struct cidr *ranges, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		bool both = ranges[i].family == AF_UNSPEC;
		struct rule rule = { .range = ranges[i], .list = (uint8_t)list, .index = i, .parent = NONE };
		if (both)
			rule.range.family = AF_INET6;
		access->rules[access->n_rules++] = rule;
		rule.range.family = AF_INET;
		if (both)
			access->rules[access->n_rules++] = rule;
	}
}

/* Of rules for the same range the first counts. */
static void sort_rules(struct access *access)
{
	uint32_t n = 0;

	qsort(access->rules, access->n_rules, sizeof *access->rules, compare_rules);
	for (uint32_t i = 0; i < access->n_rules; i++) {
		const struct rule *last = n > 0 ? &access->rules[n - 1] : NULL;
		if (last == NULL || memcmp(&last->range, &access->rules[i].range, sizeof last->range) != 0)
			access->rules[n++] = access->rules[i];
	}
	access->n_rules = n;
}

static void find_parents(struct access *access)
{
	struct rule *rules = access->rules;

	for (uint32_t i = 1; i < access->n_rules; i++) {
		uint32_t parent = i - 1;
		while (parent != NONE && !cidr_contains(&rules[parent].range, &rules[i].range))
			parent = rules[parent].parent;
		rules[i].parent = parent;
	}
}

static bool is_leaf(const struct access *access, uint32_t rule)
{
	return rule + 1 == access->n_rules || access->rules[rule + 1].parent != rule;
}

static uint32_t family_of(const struct cidr *range)
{
	return range->family == AF_INET ? IPV4 : IPV6;
}

/* The leaves come in order, so that a new one goes to the right end of the trie: its branch takes over what stood below the first branch
 * there that looks at a later bit. */
static void grow_tries(struct access *access)
{
	uint32_t path[ADDRESS_BITS]; /* the branches at the right end, from the root */
	uint32_t depth = 0, n_branches = 0, previous = NONE;

	for (uint32_t i = 0; i < access->n_rules; i++) {
		const struct rule *rule = &access->rules[i];
		struct trie *trie = &access->tries[family_of(&rule->range)];
		if (!is_leaf(access, i))
			continue;
		if (trie->n_leaves++ == 0) {
			trie->root = LEAF | i;
			depth = 0;
		} else {
			uint32_t bit = cidr_common_bits(&access->rules[previous].range, &rule->range);
			while (depth > 0 && access->branches[path[depth - 1]].bit > bit)
				depth--;
			uint32_t *place = depth > 0 ? &access->branches[path[depth - 1]].side[1] : &trie->root;
			access->branches[n_branches] = (struct branch){ .bit = bit, .side = { *place, LEAF | i } };
			*place = n_branches;
			path[depth++] = n_branches++;
		}
		previous = i;
	}
}

static_assert(7 + START_BITS_MAX <= 24, "the place in the table is within three bytes");

static uint32_t place_of(const struct trie *trie, const struct cidr *address)
{
	const uint8_t *bytes = address->bytes + trie->from / 8;
	uint32_t window = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];

	return window >> (24 - trie->from % 8 - trie->bits) & ((1U << trie->bits) - 1);
}

static uint32_t walk_to_start(const struct access *access, const struct trie *trie, uint32_t place)
{
	uint32_t end = trie->from + trie->bits, at = trie->root;

	while (!(at & LEAF) && access->branches[at].bit < end)
		at = access->branches[at].side[place >> (end - 1 - access->branches[at].bit) & 1];
	return at;
}

static void make_starts(struct access *access)
{
	const uint32_t last_from = ADDRESS_BITS - 24;
	uint32_t *starts = access->starts;

	for (struct trie *trie = access->tries; trie < access->tries + N_FAMILIES; trie++) {
		if (trie->n_leaves == 0)
			continue;
		uint32_t first_bit = trie->root & LEAF ? 0 : access->branches[trie->root].bit;
		trie->from = first_bit < last_from ? first_bit : last_from;
		while (trie->bits < START_BITS_MAX && 2U << trie->bits <= trie->n_leaves)
			trie->bits++;
		trie->starts = starts;
		for (uint32_t place = 0; place < 1U << trie->bits; place++)
			*starts++ = walk_to_start(access, trie, place);
	}
}

static uint64_t count_rules(const struct cidr *ranges, uint32_t n)
{
	uint64_t count = n;

	for (uint32_t i = 0; i < n; i++)
		count += ranges[i].family == AF_UNSPEC;
	return count;
}

int access_new(const struct cidr *allow, uint32_t n_allow, const struct cidr *deny, uint32_t n_deny, struct access **out)
{
	uint64_t n = count_rules(allow, n_allow) + count_rules(deny, n_deny);
	struct access *access;

	if (n > RULES_MAX)
		return -E2BIG;
	access = malloc(sizeof *access + n * (sizeof *access->rules + sizeof *access->branches + sizeof *access->starts));
	if (access == NULL)
		return -ENOMEM;
	*access = (struct access){ .refuse_others = n_allow > 0 };
	access->rules = (struct rule *)(access + 1);
	access->branches = (struct branch *)(access->rules + n);
	access->starts = (uint32_t *)(access->branches + n);
	add_rules(access, ACCESS_ALLOW, allow, n_allow);
	add_rules(access, ACCESS_DENY, deny, n_deny);
	sort_rules(access);
	find_parents(access);
	grow_tries(access);
	make_starts(access);
	*out = access;
	return 0;
}

void access_free(struct access *access)
{
	free(access);
}

/* The longest rule that has the address, or NULL. */
static const struct rule *find_rule(const struct access *access, const struct cidr *address)
{
	const struct trie *trie = &access->tries[family_of(address)];

	if (trie->n_leaves == 0)
		return NULL;
	uint32_t at = trie->starts[place_of(trie, address)];
	while (!(at & LEAF)) {
		const struct branch *branch = &access->branches[at];
		at = branch->side[address->bytes[branch->bit / 8] >> (7 - branch->bit % 8) & 1];
	}
	const struct rule *rule = &access->rules[at & ~LEAF];
	uint32_t common = cidr_common_bits(&rule->range, address);
	while (rule->range.bits > common) {
		if (rule->parent == NONE)
			return NULL;
		rule = &access->rules[rule->parent];
	}
	return rule;
}

struct access_verdict access_check(const struct access *access, const struct sockaddr *peer)
{
	const struct rule *rule = NULL;
	struct cidr address;

	if (peer->sa_family == AF_UNIX)
		return (struct access_verdict){ .allowed = true };
	if (cidr_of(peer, &address))
		rule = find_rule(access, &address);
	if (rule == NULL)
		return (struct access_verdict){ .allowed = !access->refuse_others };
	return (struct access_verdict){ .allowed = rule->list == ACCESS_ALLOW, .list = rule->list, .rule = rule->index };
}
