/* The algorithms of balance.h, a table of operations each, and what they have in common. For the folder's own use. */
#ifndef AEGIS_POLICY_RULES_H
#define AEGIS_POLICY_RULES_H

#include "policy/balance.h"

enum { NOT_USABLE = UINT32_MAX };

struct balance_rule {
	/* Take all memory that will ever be needed. Also after -ENOMEM the balance can be given to fini. */
	int (*init)(struct balance *balance);
	void (*fini)(struct balance *balance);
	/* The members are others than before. */
	void (*begin)(struct balance *balance);
	/* An entry that can be used and was not tried, or -1. */
	int (*choose)(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried);
	void (*changed)(struct balance *balance, uint32_t entry); /* NULL: does not matter */
	bool (*work)(struct balance *balance, uint32_t budget);   /* NULL: none */
};

extern const struct balance_rule rule_round_robin, rule_least_connections, rule_random, rule_p2c, rule_consistent_hash;

static inline bool rule_can_use(const struct balance_entry *entry)
{
	return entry->weight > 0 && !entry->disabled;
}

static inline bool rule_was_tried(uint32_t entry, const uint16_t *tried, uint32_t n_tried)
{
	for (uint32_t i = 0; i < n_tried; i++)
		if (tried[i] == entry)
			return true;
	return false;
}

static inline uint32_t rule_load_of(const struct balance *balance, uint32_t member)
{
	return balance->load(balance->load_arg, balance->members[member].entry);
}

/* rule_draw.c: draws[0] among the primaries, draws[1] among the backups. */
must_check int rule_init_draws(struct balance *balance);
void rule_fini_draws(struct balance *balance);
void rule_begin_draws(struct balance *balance);
/* A member of that group, drawn by weight with a random number from those that were not tried, nor are `also`. NOT_USABLE: there is no
 * other. */
must_check uint32_t rule_draw(
        const struct balance *balance, bool backups, uint64_t random, const uint16_t *tried, uint32_t n_tried, uint32_t also);

#endif
