#include <errno.h>

#include "policy/rules.h"

static void begin(struct balance *balance)
{
	struct ranking *ranking = &balance->ranking;
	ranking->n = balance->look = 0;
	for (uint32_t i = 0; i < balance->n_members; i++) {
		const struct balance_member *member = &balance->members[i];
		ranking->ranked[i] = (struct ranked){ .waits_since = member->place,
			.load = rule_load_of(balance, i),
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
	uint32_t load = rule_load_of(balance, ranked->id);
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

static void changed(struct balance *balance, uint32_t entry)
{
	if (balance->member_of[entry] != NOT_USABLE)
		(void)look_at(balance, balance->ranking.places[balance->member_of[entry]]);
}

static int choose(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	(void)key;
	look_around(balance);
	struct ranking *ranking = &balance->ranking;
	uint32_t n = ranking->n, looks = 0;
	int chosen = -1;
	while (ranking->n > 0) {
		if (looks++ < BALANCE_LOOKS && look_at(balance, 0))
			continue;
		uint32_t entry = balance->members[ranking->ranked[0].id].entry;
		if (!rule_was_tried(entry, tried, n_tried)) {
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

static int init(struct balance *balance)
{
	size_t n = (size_t)balance->n + 1;
	balance->ranking.ranked = calloc(n, sizeof *balance->ranking.ranked);
	balance->ranking.places = calloc(n, sizeof *balance->ranking.places);
	return balance->ranking.ranked && balance->ranking.places ? 0 : -ENOMEM;
}

static void fini(struct balance *balance)
{
	free(balance->ranking.ranked);
	free(balance->ranking.places);
}

const struct balance_rule rule_least_connections = { .init = init, .fini = fini, .begin = begin, .choose = choose, .changed = changed };
