/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "shm/histogram.h"

static void test_buckets_and_their_bounds(void **state)
{
	(void)state;
	assert_int_equal(histogram_bucket(0), 0);
	assert_int_equal(histogram_lower_ns(0), 0);
	assert_int_equal(histogram_lower_ns(1), 1024);
	for (unsigned i = 1; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t lower = histogram_lower_ns(i);
		assert_int_equal(histogram_bucket(lower), i);
		assert_int_equal(histogram_bucket(lower - 1), i - 1);
		assert_true(lower > histogram_lower_ns(i - 1));
		if (i > 1)
			assert_true((double)lower <= 1.25 * (double)histogram_lower_ns(i - 1));
	}
	assert_int_equal(histogram_lower_ns(HISTOGRAM_BUCKETS - 1), UINT64_C(1) << 36);
	assert_int_equal(histogram_lower_ns(HISTOGRAM_BUCKETS), UINT64_C(1) << 36);
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_bucket(UINT64_C(1) << 63), HISTOGRAM_BUCKETS - 1);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* All quantiles of the values against the exact ones. */
static void check_values(uint64_t *values, size_t count)
{
	static const double fractions[] = { 0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1 };
	struct histogram histogram = { 0 };
	struct histogram_sum sum = { 0 };
	uint64_t total = 0;
	for (size_t i = 0; i < count; i++) {
		histogram_record(&histogram, values[i]);
		total += values[i];
	}
	histogram_add(&sum, &histogram);
	assert_int_equal(sum.count, count);
	assert_int_equal(sum.sum_ns, total);
	qsort(values, count, sizeof *values, ascending);
	for (size_t i = 0; i < ARRAY_LEN(fractions); i++) {
		double rank = ceil(fractions[i] * (double)count);
		double exact = (double)values[rank < 1 ? 0 : (size_t)rank - 1];
		double found = (double)histogram_quantile_ns(&sum, fractions[i]);
		if (fabs(found - exact) > exact * 0.125 + 1e-9)
			fail_msg("quantile %g of %zu values: %.0f, not %.0f", fractions[i], count, found, exact);
	}
}

static void test_quantiles(void **state)
{
	(void)state;
	static uint64_t values[20000];
	uint64_t random = 88172645463325252U;
	for (size_t n = 1; n <= ARRAY_LEN(values); n = n * 3 + 1) {
		for (size_t i = 0; i < n; i++) { /* spread evenly over the logarithms, from 1 us to 68 s */
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			values[i] = 1024 + (UINT64_C(1) << (10 + random % 25)) + random % (UINT64_C(1) << (10 + random % 25));
		}
		check_values(values, n);
	}
}

static void test_quantiles_at_the_edges_of_buckets(void **state)
{
	(void)state;
	uint64_t values[100];
	for (unsigned bucket = 1; bucket + 1 < HISTOGRAM_BUCKETS; bucket++) { /* all on one side of it: the worst case */
		for (size_t i = 0; i < ARRAY_LEN(values); i++)
			values[i] = histogram_lower_ns(bucket);
		check_values(values, ARRAY_LEN(values));
		for (size_t i = 0; i < ARRAY_LEN(values); i++)
			values[i] = histogram_lower_ns(bucket + 1) - 1;
		check_values(values, ARRAY_LEN(values));
	}
}

static void test_extremes(void **state)
{
	(void)state;
	struct histogram histogram = { 0 };
	struct histogram_sum sum = { 0 };
	assert_int_equal(histogram_quantile_ns(&sum, 0.5), 0);
	histogram_record(&histogram, 0);
	histogram_add(&sum, &histogram);
	assert_true(histogram_quantile_ns(&sum, 0.5) < 1024);
	memset(&sum, 0, sizeof sum);
	histogram_record(&histogram, UINT64_MAX);
	histogram_record(&histogram, UINT64_MAX);
	histogram_add(&sum, &histogram);
	assert_int_equal(sum.count, 3);
	assert_true(histogram_quantile_ns(&sum, 0.3) < 1024);
	assert_int_equal(histogram_quantile_ns(&sum, 0.5), UINT64_C(1) << 36); /* "at least" */
	assert_int_equal(histogram_quantile_ns(&sum, 2.0), UINT64_C(1) << 36);
}

static void test_sums_add_up(void **state)
{
	(void)state;
	struct histogram first = { 0 }, second = { 0 };
	struct histogram_sum sum = { 0 };
	histogram_record(&first, 5000);
	histogram_record(&second, 5000);
	histogram_record(&second, 1000000);
	histogram_add(&sum, &first);
	histogram_add(&sum, &second);
	assert_int_equal(sum.count, 3);
	assert_int_equal(sum.sum_ns, 1010000);
	assert_int_equal(sum.buckets[histogram_bucket(5000)], 2);
	assert_int_equal(sum.buckets[histogram_bucket(1000000)], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_and_their_bounds),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_quantiles_at_the_edges_of_buckets),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_sums_add_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
