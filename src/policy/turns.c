#include "policy/turns.h"

#include "base/attr.h"

/* Standings stay far from the bounds of 64 bits when time begins anew now and then. */
#define TURNS_LONG ((int64_t)1 << 45)

uint32_t turns_pairings(uint32_t n)
{
	uint32_t leaves = 1;
	while (leaves < n)
		leaves *= 2;
	return leaves;
}

static uint32_t winner_of(const struct turns *turns, uint32_t node)
{
	if (node < turns->leaves)
		return turns->pairings[node].winner;
	uint32_t taker = node - turns->leaves;
	return taker < turns->n && !turns->takers[taker].aside ? taker : TURNS_NOBODY;
}

static int64_t until_of(const struct turns *turns, uint32_t node)
{
	return node < turns->leaves ? turns->pairings[node].until : INT64_MAX;
}

static int64_t standing(const struct turns *turns, const struct taker *taker)
{
	return taker->weight * turns->now - taker->paid;
}

/* When the loser passes the winner, who is lead ahead of him. */
static int64_t crossing(const struct turns *turns, const struct taker *winner, const struct taker *loser, int64_t lead)
{
	if (loser->weight <= winner->weight)
		return INT64_MAX;
	int64_t gain = (int64_t)loser->weight - winner->weight;
	return turns->now + (loser->place < winner->place ? (lead + gain - 1) / gain : lead / gain + 1);
}

static void settle(struct turns *turns, uint32_t node)
{
	uint32_t winner = winner_of(turns, 2 * node), loser = winner_of(turns, 2 * node + 1);
	int64_t left = until_of(turns, 2 * node), right = until_of(turns, 2 * node + 1), until = left < right ? left : right;
	if (winner == TURNS_NOBODY || loser == TURNS_NOBODY) {
		turns->pairings[node] = (struct pairing){ until, winner == TURNS_NOBODY ? loser : winner };
		return;
	}
	const struct taker *takers = turns->takers;
	int64_t lead = standing(turns, &takers[winner]) - standing(turns, &takers[loser]);
	if (lead < 0 || (lead == 0 && takers[loser].place < takers[winner].place)) {
		uint32_t other = winner;
		winner = loser;
		loser = other;
		lead = -lead;
	}
	int64_t crosses = crossing(turns, &takers[winner], &takers[loser], lead);
	turns->pairings[node] = (struct pairing){ crosses < until ? crosses : until, winner };
}

static void settle_all(struct turns *turns)
{
	for (uint32_t node = turns->leaves - 1; node > 0; node--)
		settle(turns, node);
}

void turns_init(struct turns *turns, struct taker *takers, uint32_t n, struct pairing *pairings)
{
	*turns = (struct turns){
		.now = 1, .n = n, .leaves = turns_pairings(n), .takers = takers, .pairings = pairings, .aside = TURNS_NOBODY
	};
	for (uint32_t i = 0; i < n; i++)
		turns->total += (int64_t)takers[i].weight * takers[i].n_members;
	settle_all(turns);
}

static void settle_what_is_over(struct turns *turns, uint32_t node)
{
	if (until_of(turns, node) > turns->now)
		return;
	settle_what_is_over(turns, 2 * node);
	settle_what_is_over(turns, 2 * node + 1);
	settle(turns, node);
}

uint32_t turns_front(struct turns *turns)
{
	settle_what_is_over(turns, 1);
	return winner_of(turns, 1);
}

void turns_changed(struct turns *turns, uint32_t taker)
{
	for (uint32_t node = (turns->leaves + taker) / 2; node > 0; node /= 2)
		settle(turns, node);
}

void turns_set_aside(struct turns *turns, uint32_t taker)
{
	turns->takers[taker].aside = true;
	turns->takers[taker].next_aside = turns->aside;
	turns->aside = taker;
	turns_changed(turns, taker);
}

static void begin_anew(struct turns *turns)
{
	for (uint32_t i = 0; i < turns->n; i++)
		turns->takers[i].paid -= turns->takers[i].weight * (turns->now - 1);
	turns->now = 1;
	settle_all(turns);
}

void turns_end(struct turns *turns, bool passed)
{
	while (turns->aside != TURNS_NOBODY) {
		uint32_t back = turns->aside;
		struct taker *taker = &turns->takers[back];
		turns->aside = taker->next_aside;
		taker->aside = false;
		if (passed)
			taker->paid += taker->weight;
		turns_changed(turns, back);
	}
	if (passed && turns->now++ == TURNS_LONG)
		begin_anew(turns);
}
