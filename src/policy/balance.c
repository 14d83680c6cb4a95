#include "policy/balance.h"

#include <assert.h>
#include <errno.h>

#include "policy/rules.h"

static const struct balance_rule *const rules[] = {
	[BALANCE_BY_ROUND_ROBIN] = &rule_round_robin,
	[BALANCE_BY_LEAST_CONNECTIONS] = &rule_least_connections,
	[BALANCE_BY_P2C] = &rule_p2c,
	[BALANCE_BY_RANDOM] = &rule_random,
	[BALANCE_BY_CONSISTENT_HASH] = &rule_consistent_hash,
};

static_assert(ARRAY_LEN(rules) == BALANCE_ALGORITHMS, "one rule per algorithm");

int balance_choose(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	ensure(n_tried <= BALANCE_MAX_TRIED);
	int chosen = balance->rule->choose(balance, key, tried, n_tried);
	if (chosen < 0 && n_tried > 0)
		chosen = balance->rule->choose(balance, key, NULL, 0);
	if (chosen >= 0)
		balance->last = (uint32_t)chosen;
	return chosen;
}

void balance_changed(struct balance *balance, uint32_t entry)
{
	if (balance->rule->changed)
		balance->rule->changed(balance, entry);
}

bool balance_work(struct balance *balance, uint32_t budget)
{
	return balance->rule->work && balance->rule->work(balance, budget);
}

static void collect_members(struct balance *balance, bool backups, uint32_t start)
{
	for (uint32_t i = 0; i < balance->n; i++) {
		uint32_t index = balance->by_name ? balance->by_name[i].entry : i;
		const struct balance_entry *entry = &balance->entries[index];
		if (!rule_can_use(entry) || entry->backup != backups)
			continue;
		balance->member_of[index] = balance->n_members;
		balance->members[balance->n_members++] = (struct balance_member){ .entry = index,
			.place = index >= start ? index - start : index + balance->n - start,
			.weight = entry->weight,
			.backup = backups };
	}
}

static void begin(struct balance *balance, uint32_t start)
{
	balance->last = start > 0 ? start - 1 : balance->n - 1;
	for (uint32_t i = 0; i < balance->n; i++)
		balance->member_of[i] = NOT_USABLE;
	balance->n_members = 0;
	collect_members(balance, false, start);
	balance->n_primaries = balance->n_members;
	collect_members(balance, true, start);
	balance->rule->begin(balance);
}

void balance_update(struct balance *balance)
{
	begin(balance, balance->last + 1 < balance->n ? balance->last + 1 : 0);
}

int balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n, uint32_t start,
        uint64_t seed, balance_load_fn *load, const void *load_arg)
{
	struct balance new = { .rule = rules[algorithm], .n = n, .entries = entries, .random = seed, .load = load, .load_arg = load_arg };
	new.members = calloc((size_t)n + 1, sizeof *new.members);
	new.member_of = calloc((size_t)n + 1, sizeof *new.member_of);
	if (!new.members || !new.member_of || new.rule->init(&new) != 0) {
		balance_fini(&new);
		return -ENOMEM;
	}
	*balance = new;
	begin(balance, n ? start % n : 0);
	while (balance_work(balance, UINT32_MAX))
		;
	return 0;
}

void balance_fini(struct balance *balance)
{
	if (balance->rule)
		balance->rule->fini(balance);
	free(balance->members);
	free(balance->member_of);
	*balance = (struct balance){ 0 };
}
