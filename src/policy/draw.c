#include "policy/draw.h"

#include <errno.h>

int draw_init(struct draw *draw, uint32_t max)
{
	struct draw new = { .ends = calloc((size_t)max + 1, sizeof *new.ends), .guide = calloc((size_t)max + 1, sizeof *new.guide) };
	if (!new.ends || !new.guide) {
		draw_fini(&new);
		return -ENOMEM;
	}
	*draw = new;
	return 0;
}

void draw_fini(struct draw *draw)
{
	free(draw->ends);
	free(draw->guide);
	*draw = (struct draw){ 0 };
}

static uint32_t start_of(const struct draw *draw, uint32_t index)
{
	return index > 0 ? draw->ends[index - 1] : 0;
}

void draw_begin(struct draw *draw)
{
	draw->n = draw->shift = 0;
}

void draw_add(struct draw *draw, uint32_t weight)
{
	draw->ends[draw->n] = start_of(draw, draw->n) + weight;
	draw->n++;
}

void draw_end(struct draw *draw)
{
	if (draw->n == 0)
		return;
	uint32_t last = draw_total(draw) - 1, bucket, index = 0;
	while (last >> draw->shift >= draw->n)
		draw->shift++;
	for (bucket = 0; bucket <= last >> draw->shift; bucket++) {
		while (draw->ends[index] <= bucket << draw->shift)
			index++;
		draw->guide[bucket] = index;
	}
	draw->guide[bucket] = draw->n - 1;
}

/* The product's upper half: evenly below limit, without a division. */
static uint32_t scaled(uint64_t random, uint32_t limit)
{
	return (uint32_t)(((random >> 32) * limit + ((random & UINT32_MAX) * limit >> 32)) >> 32);
}

/* Whose stretch the number is in. */
static uint32_t find(const struct draw *draw, uint32_t number)
{
	uint32_t bucket = number >> draw->shift, low = draw->guide[bucket], high = draw->guide[bucket + 1];
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (draw->ends[middle] > number)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

uint32_t draw_pick(const struct draw *draw, uint64_t random, const uint32_t *without, uint32_t n_without)
{
	uint32_t left = draw_total(draw);
	for (uint32_t i = 0; i < n_without; i++)
		left -= draw->ends[without[i]] - start_of(draw, without[i]);
	if (left == 0)
		return DRAW_NOBODY;
	uint32_t number = scaled(random, left);
	for (uint32_t i = 0; i < n_without && number >= start_of(draw, without[i]); i++)
		number += draw->ends[without[i]] - start_of(draw, without[i]);
	return find(draw, number);
}
