#include "tools/bench_histogram.h"

void bench_histogram_add(struct bench_histogram *sum, const struct bench_histogram *histogram)
{
	sum->count += histogram->count;
	sum->sum_ns += histogram->sum_ns;
	if (histogram->max_ns > sum->max_ns)
		sum->max_ns = histogram->max_ns;
	for (size_t i = 0; i < BENCH_BUCKETS; i++)
		sum->buckets[i] += histogram->buckets[i];
}

static uint64_t middle_ns(unsigned bucket)
{
	if (bucket < BENCH_SUBS)
		return bucket;
	unsigned shift = bucket / BENCH_SUBS - 1;
	uint64_t lower = (uint64_t)(BENCH_SUBS + bucket % BENCH_SUBS) << shift;
	return lower + (((uint64_t)1 << shift) >> 1);
}

uint64_t bench_histogram_quantile_ns(const struct bench_histogram *histogram, double q)
{
	double rank = q * (double)histogram->count;
	uint64_t seen = 0;
	for (unsigned i = 0; i < BENCH_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (histogram->buckets[i] > 0 && (double)seen >= rank) {
			uint64_t ns = middle_ns(i);
			return i == BENCH_BUCKETS - 1 || ns > histogram->max_ns ? histogram->max_ns : ns;
		}
	}
	return histogram->max_ns;
}
