/* Drawing lots: each of n has a chance in proportion to its weight.
 *
 * A random number below the sum of all weights falls into the stretch of one of them. A guide, which has the first stretch of each bucket
 * of numbers, leaves about one to look at (Chen, Asau, "On generating random variates from an empirical distribution", 1974), and what is
 * left out is cut out of the line before, so that a draw is exact and never has to be repeated. Weights are given again when they change;
 * memory is taken once.
 */
#ifndef AEGIS_POLICY_DRAW_H
#define AEGIS_POLICY_DRAW_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum { DRAW_NOBODY = UINT32_MAX };

struct draw {
	uint32_t n;
	uint32_t shift;  /* a bucket is 2^shift numbers wide */
	uint32_t *ends;  /* [n]: the sum of the weights so far */
	uint32_t *guide; /* [n + 1] at most */
};

/* For at most max, who weigh less than 2^32 together. 0 or -ENOMEM. */
must_check int draw_init(struct draw *draw, uint32_t max);
void draw_fini(struct draw *draw);

/* Give the weights, each 1 to 65535, between these two. */
void draw_begin(struct draw *draw);
void draw_add(struct draw *draw, uint32_t weight);
void draw_end(struct draw *draw);

/* The sum of all weights. */
static inline uint32_t draw_total(const struct draw *draw)
{
	return draw->n > 0 ? draw->ends[draw->n - 1] : 0;
}

/* Who has the lot: an index in the order in which they were added, or DRAW_NOBODY when there is nobody else. random is uniform over all 64
 * bits. without are those that are left out, ascending, each once. */
must_check uint32_t draw_pick(const struct draw *draw, uint64_t random, const uint32_t *without, uint32_t n_without);

#endif
