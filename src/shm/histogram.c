#include "shm/histogram.h"

uint64_t histogram_lower_ns(unsigned bucket)
{
	if (bucket == 0)
		return 0;
	if (bucket >= HISTOGRAM_BUCKETS - 1)
		return UINT64_C(1) << (HISTOGRAM_MIN_SHIFT + HISTOGRAM_OCTAVES);
	unsigned octave = (bucket - 1) / 4, quarter = (bucket - 1) % 4;
	return (uint64_t)(4 + quarter) << (octave + HISTOGRAM_MIN_SHIFT - 2);
}

uint64_t histogram_middle_ns(unsigned bucket)
{
	uint64_t lower = histogram_lower_ns(bucket);
	return bucket >= HISTOGRAM_BUCKETS - 1 ? lower : lower + (histogram_lower_ns(bucket + 1) - lower) / 2;
}

void histogram_add(struct histogram_sum *sum, const struct histogram *histogram)
{
	sum->sum_ns += counter_get(&histogram->sum_ns);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t n = counter_get(&histogram->buckets[i]);
		sum->buckets[i] += n;
		sum->count += n;
	}
}

uint64_t histogram_quantile_ns(const struct histogram_sum *sum, double q)
{
	if (sum->count == 0)
		return 0;
	double wanted = q * (double)sum->count;
	uint64_t seen = 0;
	unsigned bucket = 0, last = 0;
	for (; bucket < HISTOGRAM_BUCKETS; bucket++) {
		seen += sum->buckets[bucket];
		if (sum->buckets[bucket])
			last = bucket;
		if (seen && (double)seen >= wanted)
			break;
	}
	/* Past the end: q above 1, or a count that a reader of damaged memory made up. */
	return histogram_middle_ns(last);
}
