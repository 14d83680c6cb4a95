#include "policy/ranking.h"

static bool before(const struct ranked *a, const struct ranked *b)
{
	if (a->last_resort != b->last_resort)
		return b->last_resort;
	uint64_t a_rank = ((uint64_t)a->load + 1) * b->weight, b_rank = ((uint64_t)b->load + 1) * a->weight;
	return a_rank != b_rank ? a_rank < b_rank : a->waits_since < b->waits_since;
}

static void put(struct ranking *ranking, uint32_t place, const struct ranked *ranked)
{
	ranking->ranked[place] = *ranked;
	ranking->places[ranked->id] = place;
}

void ranking_moved(struct ranking *ranking, uint32_t place)
{
	const struct ranked moved = ranking->ranked[place];
	uint32_t start = place;
	while (place > 0 && before(&moved, &ranking->ranked[(place - 1) / 2])) {
		put(ranking, place, &ranking->ranked[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	for (uint32_t child; (child = 2 * place + 1) < ranking->n; place = child) {
		if (child + 1 < ranking->n && before(&ranking->ranked[child + 1], &ranking->ranked[child]))
			child++;
		if (!before(&ranking->ranked[child], &moved))
			break;
		put(ranking, place, &ranking->ranked[child]);
	}
	if (place != start)
		put(ranking, place, &moved);
}

void ranking_set_front_aside(struct ranking *ranking)
{
	const struct ranked front = ranking->ranked[0];
	uint32_t last = --ranking->n;
	if (last == 0)
		return;
	put(ranking, 0, &ranking->ranked[last]);
	put(ranking, last, &front);
	ranking_moved(ranking, 0);
}

void ranking_bring_in(struct ranking *ranking)
{
	uint32_t place = ranking->n++;
	ranking->places[ranking->ranked[place].id] = place;
	ranking_moved(ranking, place);
}
