#include "policy/balance.h"

#include <errno.h>

enum { NOT_USABLE = UINT32_MAX };

static bool by_load(const struct balance *balance)
{
	return balance->algorithm == BALANCE_BY_LEAST_CONNECTIONS;
}

static bool was_tried(uint32_t entry, const uint16_t *tried, uint32_t n_tried)
{
	for (uint32_t i = 0; i < n_tried; i++)
		if (tried[i] == entry)
			return true;
	return false;
}

static bool is_usable(const struct balance_entry *entry)
{
	return entry->weight > 0 && !entry->disabled;
}

/* --- round robin --------------------------------------------------------------------------------------------------------- */

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

static void begin_turns(struct balance *balance)
{
	struct taker *takers = balance->takers;
	struct pairing *pairings = balance->pairings;
	uint32_t primaries = 0;
	while (primaries < balance->n_members && !balance->members[primaries].backup)
		primaries++;
	for (int again = 0; again < 2; again++) {
		struct turns *turns = again ? balance->again : balance->first;
		init_turns(balance, &turns[0], 0, primaries, &takers, &pairings);
		init_turns(balance, &turns[1], primaries, balance->n_members, &takers, &pairings);
	}
}

/* What those who can take a turn have in weight together. */
static int64_t weight_in_play(const struct balance *balance, const struct turns *turns, const uint16_t *tried, uint32_t n_tried)
{
	int64_t total = turns->total;
	bool backup = balance->members[turns->takers[0].first].backup;
	for (uint32_t i = 0; i < n_tried; i++) {
		const struct balance_entry *entry = &balance->entries[tried[i]];
		if (is_usable(entry) && entry->backup == backup && !was_tried(tried[i], tried, i))
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
		if (was_tried(entry, tried, n_tried))
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

/* --- least connections --------------------------------------------------------------------------------------------------- */

static uint32_t load_of(const struct balance *balance, uint32_t member)
{
	return balance->load(balance->load_arg, balance->members[member].entry);
}

static void begin_ranking(struct balance *balance)
{
	struct ranking *ranking = &balance->ranking;
	for (uint32_t i = 0; i < balance->n; i++)
		balance->member_of[i] = NOT_USABLE;
	ranking->n = balance->look = 0;
	for (uint32_t i = 0; i < balance->n_members; i++) {
		const struct balance_member *member = &balance->members[i];
		balance->member_of[member->entry] = i;
		ranking->ranked[i] = (struct ranked){ .waits_since = member->place,
			.load = load_of(balance, i),
			.weight = member->weight,
			.id = i,
			.last_resort = member->backup };
		ranking_bring_in(ranking);
	}
	balance->choices += balance->n; /* later than any place */
}

/* Look at the load of a server. True when it was another one than thought. */
static bool look_at(struct balance *balance, uint32_t place)
{
	struct ranked *ranked = &balance->ranking.ranked[place];
	uint32_t load = load_of(balance, ranked->id);
	if (load == ranked->load)
		return false;
	ranked->load = load;
	ranking_moved(&balance->ranking, place);
	return true;
}

static void look_around(struct balance *balance)
{
	uint32_t looks = balance->n_members < BALANCE_LOOKS ? balance->n_members : BALANCE_LOOKS;
	while (looks-- > 0) {
		(void)look_at(balance, balance->ranking.places[balance->look]);
		balance->look = balance->look + 1 < balance->n_members ? balance->look + 1 : 0;
	}
}

void balance_changed(struct balance *balance, uint32_t entry)
{
	if (by_load(balance) && balance->member_of[entry] != NOT_USABLE)
		(void)look_at(balance, balance->ranking.places[balance->member_of[entry]]);
}

static int choose_by_load(struct balance *balance, const uint16_t *tried, uint32_t n_tried)
{
	struct ranking *ranking = &balance->ranking;
	uint32_t n = ranking->n, looks = 0;
	int chosen = -1;
	while (ranking->n > 0) {
		if (looks++ < BALANCE_LOOKS && look_at(balance, 0))
			continue;
		uint32_t entry = balance->members[ranking->ranked[0].id].entry;
		if (!was_tried(entry, tried, n_tried)) {
			chosen = (int)entry;
			ranking->ranked[0].waits_since = ++balance->choices;
			ranking_moved(ranking, 0);
			break;
		}
		ranking_set_front_aside(ranking);
	}
	while (ranking->n < n)
		ranking_bring_in(ranking);
	return chosen;
}

/* --- both ---------------------------------------------------------------------------------------------------------------- */

static int choose(struct balance *balance, const uint16_t *tried, uint32_t n_tried)
{
	if (by_load(balance)) {
		look_around(balance);
		return choose_by_load(balance, tried, n_tried);
	}
	struct turns *turns = n_tried > 0 ? balance->again : balance->first;
	int chosen = choose_by_turns(balance, &turns[0], tried, n_tried);
	return chosen < 0 ? choose_by_turns(balance, &turns[1], tried, n_tried) : chosen;
}

int balance_choose(struct balance *balance, const uint16_t *tried, uint32_t n_tried)
{
	int chosen = choose(balance, tried, n_tried);
	if (chosen < 0 && n_tried > 0)
		chosen = choose(balance, NULL, 0);
	if (chosen >= 0)
		balance->last = (uint32_t)chosen;
	return chosen;
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

static void begin(struct balance *balance, uint32_t start)
{
	balance->last = start > 0 ? start - 1 : balance->n - 1;
	balance->n_members = 0;
	for (uint32_t i = 0; i < balance->n; i++) {
		const struct balance_entry *entry = &balance->entries[i];
		if (is_usable(entry))
			balance->members[balance->n_members++] = (struct balance_member){ .entry = i,
				.place = i >= start ? i - start : i + balance->n - start,
				.weight = entry->weight,
				.backup = entry->backup };
	}
	qsort(balance->members, balance->n_members, sizeof *balance->members, compare_members);
	if (by_load(balance))
		begin_ranking(balance);
	else
		begin_turns(balance);
}

void balance_update(struct balance *balance)
{
	begin(balance, balance->last + 1 < balance->n ? balance->last + 1 : 0);
}

static bool make_room(struct balance *balance)
{
	size_t n = balance->n ? balance->n : 1;
	balance->members = calloc(n, sizeof *balance->members);
	if (by_load(balance)) {
		balance->ranking.ranked = calloc(n, sizeof *balance->ranking.ranked);
		balance->ranking.places = calloc(n, sizeof *balance->ranking.places);
		balance->member_of = calloc(n, sizeof *balance->member_of);
		return balance->members && balance->ranking.ranked && balance->ranking.places && balance->member_of;
	}
	/* Any entry may be made a primary or a backup of its own weight, and half of a tree may be empty. */
	balance->takers = calloc(2 * n, sizeof *balance->takers);
	balance->pairings = calloc(2 * (2 * n + 2), sizeof *balance->pairings);
	return balance->members && balance->takers && balance->pairings;
}

int balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n, uint32_t start,
        balance_load_fn *load, const void *load_arg)
{
	struct balance new = { .algorithm = algorithm, .n = n, .entries = entries, .load = load, .load_arg = load_arg };
	if (!make_room(&new)) {
		balance_fini(&new);
		return -ENOMEM;
	}
	*balance = new;
	begin(balance, n ? start % n : 0);
	return 0;
}

void balance_fini(struct balance *balance)
{
	free(balance->members);
	free(balance->takers);
	free(balance->pairings);
	free(balance->ranking.ranked);
	free(balance->ranking.places);
	free(balance->member_of);
	*balance = (struct balance){ 0 };
}
