#include <errno.h>

#include "base/hash.h"
#include "policy/rules.h"

/* What the first slot's server leaves is spread by looking at slots all over the table; where few servers are left, neighbouring slots are
 * cheaper to look at. Where there are hardly any, or have no slot at all, the lot decides: not as steady when one of those few goes, but it
 * always ends. */
enum { SCATTERED_SLOTS = 16, NEIGHBOUR_SLOTS = 256 };

static bool can_take(const struct balance *balance, uint32_t entry, bool backup, const uint16_t *tried, uint32_t n_tried)
{
	uint32_t member = balance->member_of[entry];
	return member != NOT_USABLE && balance->members[member].backup == backup && !rule_was_tried(entry, tried, n_tried);
}

/* Further than the first slot. */
static int look_further(const struct balance *balance, bool backup, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	const struct maglev *table = &balance->tables[backup];
	uint32_t slot = 0;
	for (int i = 0; i < SCATTERED_SLOTS; i++) {
		slot = maglev_slot_of(table, hash_next(&key));
		if (can_take(balance, table->slots[slot], backup, tried, n_tried))
			return table->slots[slot];
	}
	for (int i = 0; i < NEIGHBOUR_SLOTS; i++) {
		slot = slot + 1 < table->size ? slot + 1 : 0;
		if (can_take(balance, table->slots[slot], backup, tried, n_tried))
			return table->slots[slot];
	}
	return -1;
}

static int choose_in(const struct balance *balance, bool backup, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	const struct maglev *table = &balance->tables[backup];
	bool empty = maglev_is_empty(table);
	uint32_t first = table->slots[maglev_slot_of(table, key)];
	if (!empty && can_take(balance, first, backup, tried, n_tried))
		return (int)first;
	/* This finds out too whether there is one at all, so that nothing is looked for in vain. */
	uint32_t drawn = rule_draw(balance, backup, hash_mix(key), tried, n_tried, NOT_USABLE);
	if (drawn == NOT_USABLE)
		return -1;
	int found = empty ? -1 : look_further(balance, backup, key, tried, n_tried);
	return found < 0 ? (int)balance->members[drawn].entry : found;
}

static int choose(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	int chosen = choose_in(balance, false, key, tried, n_tried);
	return chosen < 0 ? choose_in(balance, true, key, tried, n_tried) : chosen;
}

static void begin(struct balance *balance)
{
	rule_begin_draws(balance);
	balance->stale = true;
}

/* --- the tables ---------------------------------------------------------------------------------------------------------- */

/* A disabled server keeps its slots, for when it comes back: all clients but its own stay where they are meanwhile. */
static void fill_in(struct balance *balance, bool backups)
{
	struct maglev *table = &balance->tables[backups];
	maglev_begin(table);
	for (uint32_t i = 0; i < balance->n; i++) {
		const struct balance_name *name = &balance->by_name[i];
		const struct balance_entry *entry = &balance->entries[name->entry];
		if (entry->weight > 0 && entry->backup == backups)
			maglev_add(table, (uint16_t)name->entry, entry->weight, name->hash, hash_mix(name->hash));
	}
	maglev_end(table);
}

/* A table that was begun is completed, also when it is out of date by then: changes that keep coming must not keep it from ever being. */
static bool work(struct balance *balance, uint32_t budget)
{
	if (balance->stale && !balance->tables[0].making && !balance->tables[1].making) {
		fill_in(balance, false);
		fill_in(balance, true);
		balance->stale = false;
	}
	for (int backups = 0; backups < 2; backups++)
		if (maglev_make(&balance->tables[backups], &budget))
			return true;
	return balance->stale;
}

static int compare_names(const void *left, const void *right)
{
	const struct balance_name *a = left, *b = right;
	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->entry < b->entry ? -1 : 1;
}

static int init(struct balance *balance)
{
	balance->by_name = calloc((size_t)balance->n + 1, sizeof *balance->by_name);
	if (!balance->by_name)
		return -ENOMEM;
	for (uint32_t i = 0; i < balance->n; i++)
		balance->by_name[i] = (struct balance_name){ balance->entries[i].name_hash, i };
	qsort(balance->by_name, balance->n, sizeof *balance->by_name, compare_names);
	int error = rule_init_draws(balance);
	for (int backups = 0; backups < 2 && !error; backups++)
		error = maglev_init(&balance->tables[backups], MAGLEV_SLOTS, balance->n);
	return error;
}

static void fini(struct balance *balance)
{
	free(balance->by_name);
	rule_fini_draws(balance);
	maglev_fini(&balance->tables[0]);
	maglev_fini(&balance->tables[1]);
}

const struct balance_rule rule_consistent_hash = { .init = init, .fini = fini, .begin = begin, .choose = choose, .work = work };
