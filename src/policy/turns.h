/* Whose turn is it: smooth weighted round robin, exactly that of nginx (commit 52327e0627f4), without looking at everyone each time.
 *
 * There, before each turn everyone's standing rises by his weight; the highest takes the turn, the first one of equals, and pays the
 * sum of all weights. So between two payments a standing is a line over time, weight * now - paid, and it is known beforehand when one
 * line will cross another. A tournament tree keeps the winner of each pairing and the time until which he surely remains it; a turn
 * settles only the pairings whose time is over and those of who just paid (a kinetic tournament: Basch, Guibas, Hershberger, "Data
 * structures for mobile data", 1997). Since a heavier one comes from below once for each time he paid, that is O(log n) pairings a
 * turn and level on average.
 *
 * A taker stands for one server, or for a group of equal weight that take their turns one after the other: as long as none of the
 * group was left out that is the same, since of equals the first one comes first. The group pays when all of it had a turn.
 */
#ifndef AEGIS_POLICY_TURNS_H
#define AEGIS_POLICY_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TURNS_NOBODY = UINT32_MAX };

struct taker {
	int64_t paid;
	uint32_t weight;
	uint32_t place;                    /* of equals the least comes first */
	uint32_t first, n_members, cursor; /* the group, wherever the owner keeps it */
	uint32_t next_aside;
	bool aside;
};

struct pairing {
	int64_t until; /* the first time at which the winner may be another one */
	uint32_t winner;
};

struct turns {
	int64_t now;   /* number of the coming turn */
	int64_t total; /* of all weights, that is of each member of a group */
	uint32_t n;
	uint32_t leaves; /* a power of two, at least n */
	struct taker *takers;
	struct pairing *pairings; /* [leaves]: the children of i are 2i and 2i + 1, from leaves on the takers themselves */
	uint32_t aside;           /* list */
};

/* How many pairings n takers need. */
uint32_t turns_pairings(uint32_t n);

/* The first turn comes. takers are n, with weight, place and group filled in, the heaviest first; they and turns_pairings(n) pairings are
 * the caller's memory. */
void turns_init(struct turns *turns, struct taker *takers, uint32_t n, struct pairing *pairings);

/* Who takes the coming turn: an index, or TURNS_NOBODY when all are set aside. */
uint32_t turns_front(struct turns *turns);

/* He may not take the coming turn. */
void turns_set_aside(struct turns *turns, uint32_t taker);

/* What he paid, or his place, changed. */
void turns_changed(struct turns *turns, uint32_t taker);

/* All who were set aside are back. passed: the turn was taken; they gained nothing by it. */
void turns_end(struct turns *turns, bool passed);

#endif
