/* Log-linear histograms of durations: four buckets per power of two from 1 us to 68 s, so that a quantile between the two is right
 * within 12.5 %. One writer, any number of readers.
 *
 * Bucket 0 holds everything below 1.024 us; bucket i >= 1 holds [lower(i), lower(i+1)); the last one has no upper bound.
 */
#ifndef AEGIS_SHM_HISTOGRAM_H
#define AEGIS_SHM_HISTOGRAM_H

#include "shm/counters.h"

enum { HISTOGRAM_MIN_SHIFT = 10, HISTOGRAM_OCTAVES = 26, HISTOGRAM_BUCKETS = 2 + HISTOGRAM_OCTAVES * 4 };

struct histogram {
	counter_t sum_ns;
	counter_t buckets[HISTOGRAM_BUCKETS];
};

/* A plain sum of histograms, for readers. */
struct histogram_sum {
	uint64_t sum_ns;
	uint64_t count;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t ns)
{
	uint64_t units = ns >> HISTOGRAM_MIN_SHIFT;
	if (units == 0)
		return 0;
	unsigned octave = 63U - (unsigned)__builtin_clzll(units);
	if (octave >= HISTOGRAM_OCTAVES)
		return HISTOGRAM_BUCKETS - 1;
	unsigned quarter = (unsigned)(ns >> (octave + HISTOGRAM_MIN_SHIFT - 2)) & 3U;
	return 1 + octave * 4 + quarter;
}

static inline void histogram_record(struct histogram *histogram, uint64_t ns)
{
	counter_add(&histogram->sum_ns, ns);
	counter_add(&histogram->buckets[histogram_bucket(ns)], 1);
}

/* The least value of a bucket, in ns. */
uint64_t histogram_lower_ns(unsigned bucket);

/* What stands for all values of a bucket, in ns: its middle, since only that is never off by more than half of the bucket (12.5 %),
 * wherever in it the values lie. Of the last one: at least so much. */
uint64_t histogram_middle_ns(unsigned bucket);

/* Add one histogram to a sum (which starts as zeros). */
void histogram_add(struct histogram_sum *sum, const struct histogram *histogram);

/* The value that the fraction q (0..1) does not exceed, in ns: the middle of its bucket. 0 when empty. */
uint64_t histogram_quantile_ns(const struct histogram_sum *sum, double q);

#endif
