#include "policy/balance.h"

static bool usable(const struct balance_entry *entry, bool backup)
{
	return entry->weight > 0 && !entry->disabled && entry->backup == backup;
}

static bool was_tried(uint32_t index, const uint16_t *tried, uint32_t n_tried)
{
	for (uint32_t i = 0; i < n_tried; i++)
		if (tried[i] == index)
			return true;
	return false;
}

void balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n, uint32_t start)
{
	*balance = (struct balance){ .algorithm = algorithm, .equal = true, .n = n, .cursor = n ? start % n : 0, .entries = entries };
	uint32_t weight = 0;
	for (uint32_t i = 0; i < n; i++) {
		entries[i].current = 0;
		if (entries[i].weight == 0 || entries[i].disabled)
			continue;
		if (weight && entries[i].weight != weight)
			balance->equal = false;
		weight = entries[i].weight;
	}
}

/* A pass over the primaries or over the backups: an entry, or -1. */
typedef int choose_fn(struct balance *balance, bool backup, const uint16_t *tried, uint32_t n_tried);

static uint32_t wrapped(const struct balance *balance, uint32_t index)
{
	return index >= balance->n ? index - balance->n : index;
}

static int choose_next(struct balance *balance, bool backup, const uint16_t *tried, uint32_t n_tried)
{
	for (uint32_t i = 0; i < balance->n; i++) {
		uint32_t index = wrapped(balance, balance->cursor + i);
		if (!usable(&balance->entries[index], backup) || was_tried(index, tried, n_tried))
			continue;
		balance->cursor = wrapped(balance, index + 1);
		return (int)index;
	}
	return -1;
}

static int choose_smooth(struct balance *balance, bool backup, const uint16_t *tried, uint32_t n_tried)
{
	int best = -1;
	int64_t total = 0;
	for (uint32_t i = 0; i < balance->n; i++) {
		struct balance_entry *entry = &balance->entries[i];
		if (!usable(entry, backup) || was_tried(i, tried, n_tried))
			continue;
		entry->current += entry->weight;
		total += entry->weight;
		if (best < 0 || entry->current > balance->entries[best].current)
			best = (int)i;
	}
	if (best >= 0)
		balance->entries[best].current -= total;
	return best;
}

static int choose_least(struct balance *balance, bool backup, const uint16_t *tried, uint32_t n_tried)
{
	int best = -1;
	uint64_t best_load = 0;
	for (uint32_t i = 0; i < balance->n; i++) {
		uint32_t index = wrapped(balance, balance->cursor + i);
		if (!usable(&balance->entries[index], backup) || was_tried(index, tried, n_tried))
			continue;
		/* load / weight < best_load / best_weight, without dividing; + 1 so that of idle servers the heavier one wins */
		uint64_t load = (uint64_t)balance->load(balance->load_arg, index) + 1;
		if (best < 0 || load * balance->entries[best].weight < best_load * balance->entries[index].weight) {
			best = (int)index;
			best_load = load;
		}
	}
	if (best >= 0)
		balance->cursor = wrapped(balance, (uint32_t)best + 1);
	return best;
}

int balance_choose(struct balance *balance, const uint16_t *tried, uint32_t n_tried)
{
	choose_fn *choose = balance->algorithm == BALANCE_BY_LEAST_CONNECTIONS ? choose_least
	                    : balance->equal                                   ? choose_next
	                                                                       : choose_smooth;
	int chosen = choose(balance, false, tried, n_tried);
	if (chosen < 0)
		chosen = choose(balance, true, tried, n_tried);
	if (chosen < 0 && n_tried > 0)
		chosen = balance_choose(balance, NULL, 0);
	return chosen;
}
