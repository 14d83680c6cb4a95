/* Log-linear histograms of durations, fine enough for benchmarks: 128 buckets per power of two, so that a quantile is right within
 * 0.4 % (half of a bucket). One writer; whoever reads waits until it has ended.
 *
 * Values below 128 ns have a bucket each; above 2^40 ns (18 minutes) all share the last one. The greatest value is kept exactly.
 */
#ifndef AEGIS_TOOLS_BENCH_HISTOGRAM_H
#define AEGIS_TOOLS_BENCH_HISTOGRAM_H

#include "base/attr.h"

enum { BENCH_SUB_BITS = 7, BENCH_SUBS = 1 << BENCH_SUB_BITS, BENCH_TOP_BIT = 40 };
enum { BENCH_BUCKETS = (BENCH_TOP_BIT - BENCH_SUB_BITS + 2) * BENCH_SUBS };

struct bench_histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t buckets[BENCH_BUCKETS];
};

static inline unsigned bench_histogram_bucket(uint64_t ns)
{
	if (ns < BENCH_SUBS)
		return (unsigned)ns;
	unsigned top = 63U - (unsigned)__builtin_clzll(ns);
	if (top > BENCH_TOP_BIT)
		return BENCH_BUCKETS - 1;
	unsigned shift = top - BENCH_SUB_BITS;
	return (shift + 1) * BENCH_SUBS + ((unsigned)(ns >> shift) & (BENCH_SUBS - 1));
}

static inline void bench_histogram_record(struct bench_histogram *histogram, uint64_t ns)
{
	histogram->count++;
	histogram->sum_ns += ns;
	if (ns > histogram->max_ns)
		histogram->max_ns = ns;
	histogram->buckets[bench_histogram_bucket(ns)]++;
}

/* Add one to a sum, which starts as zeros. */
void bench_histogram_add(struct bench_histogram *sum, const struct bench_histogram *histogram);

/* The value that the fraction q (0..1) does not exceed, in ns: the middle of its bucket, never more than the greatest value. 0 when
 * empty. */
uint64_t bench_histogram_quantile_ns(const struct bench_histogram *histogram, double q);

#endif
