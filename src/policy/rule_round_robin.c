#include <errno.h>

#include "policy/rules.h"

static void set_place(const struct balance *balance, struct taker *taker)
{
	taker->place = balance->members[taker->first + taker->cursor].place;
}

/* Make the takers of the members from first to end, at *takers and *pairings, and move these on. */
static void init_turns(
        const struct balance *balance, struct turns *turns, uint32_t first, uint32_t end, struct taker **takers, struct pairing **pairings)
{
	uint32_t n = 0;
	while (first < end) {
		uint32_t next = first + 1;
		while (next < end && balance->members[next].weight == balance->members[first].weight)
			next++;
		(*takers)[n] = (struct taker){ .weight = balance->members[first].weight, .first = first, .n_members = next - first };
		set_place(balance, &(*takers)[n++]);
		first = next;
	}
	turns_init(turns, *takers, n, *pairings);
	*takers += n;
	*pairings += turns_pairings(n);
}

static int compare_members(const void *left, const void *right)
{
	const struct balance_member *a = left, *b = right;
	if (a->backup != b->backup)
		return a->backup ? 1 : -1;
	if (a->weight != b->weight)
		return a->weight > b->weight ? -1 : 1;
	return a->place < b->place ? -1 : 1;
}

static void begin(struct balance *balance)
{
	struct taker *takers = balance->takers;
	struct pairing *pairings = balance->pairings;
	qsort(balance->members, balance->n_members, sizeof *balance->members, compare_members);
	for (int again = 0; again < 2; again++) {
		struct turns *turns = again ? balance->again : balance->first;
		init_turns(balance, &turns[0], 0, balance->n_primaries, &takers, &pairings);
		init_turns(balance, &turns[1], balance->n_primaries, balance->n_members, &takers, &pairings);
	}
}

/* What those who can take a turn have in weight together. */
static int64_t weight_in_play(const struct balance *balance, const struct turns *turns, const uint16_t *tried, uint32_t n_tried)
{
	int64_t total = turns->total;
	bool backup = balance->members[turns->takers[0].first].backup;
	for (uint32_t i = 0; i < n_tried; i++) {
		const struct balance_entry *entry = &balance->entries[tried[i]];
		if (rule_can_use(entry) && entry->backup == backup && !rule_was_tried(tried[i], tried, i))
			total -= entry->weight;
	}
	return total;
}

/* The next member of the group that was not tried has its turn. Its entry, or -1. */
static int take_turn(const struct balance *balance, struct turns *turns, struct taker *taker, const uint16_t *tried, uint32_t n_tried)
{
	bool all_had_one = false;
	uint32_t cursor = taker->cursor;
	for (uint32_t looked = 0; looked <= n_tried && looked < taker->n_members; looked++) {
		uint32_t entry = balance->members[taker->first + cursor].entry;
		if (++cursor == taker->n_members) {
			cursor = 0;
			all_had_one = true;
		}
		if (rule_was_tried(entry, tried, n_tried))
			continue;
		taker->cursor = cursor;
		if (all_had_one)
			taker->paid += weight_in_play(balance, turns, tried, n_tried);
		set_place(balance, taker);
		return (int)entry;
	}
	return -1;
}

static int choose_by_turns(struct balance *balance, struct turns *turns, const uint16_t *tried, uint32_t n_tried)
{
	int chosen = -1;
	uint32_t front;
	while (chosen < 0 && (front = turns_front(turns)) != TURNS_NOBODY) {
		chosen = take_turn(balance, turns, &turns->takers[front], tried, n_tried);
		if (chosen < 0)
			turns_set_aside(turns, front);
	}
	if (chosen >= 0)
		turns_changed(turns, front);
	turns_end(turns, chosen >= 0);
	return chosen;
}

static int choose(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	(void)key;
	struct turns *turns = n_tried > 0 ? balance->again : balance->first;
	int chosen = choose_by_turns(balance, &turns[0], tried, n_tried);
	return chosen < 0 ? choose_by_turns(balance, &turns[1], tried, n_tried) : chosen;
}

static int init(struct balance *balance)
{
	/* Any entry may be made a primary or a backup of its own weight, and half of a tree may be empty. */
	size_t n = (size_t)balance->n + 1;
	balance->takers = calloc(2 * n, sizeof *balance->takers);
	balance->pairings = calloc(2 * (2 * n + 2), sizeof *balance->pairings);
	return balance->takers && balance->pairings ? 0 : -ENOMEM;
}

static void fini(struct balance *balance)
{
	free(balance->takers);
	free(balance->pairings);
}

const struct balance_rule rule_round_robin = { .init = init, .fini = fini, .begin = begin, .choose = choose };
