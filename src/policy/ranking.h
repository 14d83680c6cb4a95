/* Who has the least for its weight: a heap in the order of (load + 1) / weight, of equals who waits longest, so that they go around.
 *
 * The 1 lets the heavier one of two idle ones win. Fractions are compared exactly, by cross-multiplication. What an operation costs
 * grows with the logarithm of n; nothing is allocated.
 */
#ifndef AEGIS_POLICY_RANKING_H
#define AEGIS_POLICY_RANKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ranked {
	uint64_t waits_since; /* number of the choice that took it last */
	uint32_t load;
	uint32_t weight;  /* > 0 */
	uint32_t id;      /* the caller's */
	bool last_resort; /* ranks behind all that are not */
};

struct ranking {
	struct ranked *ranked; /* the caller's memory; [0] is the front */
	uint32_t *places;      /* the caller's memory, [id]: where it is */
	uint32_t n;
};

/* Put what changed its rank where it belongs. */
void ranking_moved(struct ranking *ranking, uint32_t place);

/* Leave the front out of the ranking, without forgetting it: it stands right behind the end, at [n]. */
void ranking_set_front_aside(struct ranking *ranking);

/* Let what stands at [n] take part (again). */
void ranking_bring_in(struct ranking *ranking);

#endif
