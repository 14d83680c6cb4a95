#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/bench_histogram.h"

static void test_buckets_follow_each_other(void **state)
{
	(void)state;
	unsigned last = 0;
	for (uint64_t ns = 1; ns < UINT64_C(1) << 42; ns += 1 + ns / 200) {
		unsigned bucket = bench_histogram_bucket(ns);
		assert_in_range(bucket, last, last + 2);
		last = bucket;
	}
	assert_int_equal(last, BENCH_BUCKETS - 1);
	assert_int_equal(bench_histogram_bucket(UINT64_MAX), BENCH_BUCKETS - 1);
}

/* One value alone is its own median, within what the header promises. */
static void test_quantiles_are_right_within_half_a_percent(void **state)
{
	(void)state;
	static struct bench_histogram histogram;
	for (uint64_t ns = 1; ns < UINT64_C(1) << 40; ns += 1 + ns / 37) {
		memset(&histogram, 0, sizeof histogram);
		bench_histogram_record(&histogram, ns);
		bench_histogram_record(&histogram, UINT64_C(1) << 41);
		double found = (double)bench_histogram_quantile_ns(&histogram, 0.5);
		assert_true(found >= (double)ns * 0.996 && found <= (double)ns * 1.004);
	}
}

static void test_quantiles_of_a_line(void **state)
{
	(void)state;
	static struct bench_histogram histogram, sum;
	for (uint64_t i = 1; i <= 100000; i++)
		bench_histogram_record(&histogram, i * 1000);
	bench_histogram_add(&sum, &histogram);
	bench_histogram_add(&sum, &histogram);
	assert_int_equal(sum.count, 200000);
	assert_int_equal(sum.max_ns, 100000000);
	assert_int_equal(sum.sum_ns, UINT64_C(2) * 100000 * 100001 / 2 * 1000);
	static const double quantiles[] = { 0.001, 0.5, 0.9, 0.99, 0.999 };
	for (size_t i = 0; i < ARRAY_LEN(quantiles); i++) {
		double found = (double)bench_histogram_quantile_ns(&sum, quantiles[i]), right = quantiles[i] * 1e8;
		assert_true(found > right * 0.992 && found < right * 1.008);
	}
	assert_in_range(bench_histogram_quantile_ns(&sum, 1), 99600000, 100000000);
}

static void test_nothing_and_beyond(void **state)
{
	(void)state;
	static struct bench_histogram histogram;
	assert_int_equal(bench_histogram_quantile_ns(&histogram, 0.99), 0);
	bench_histogram_record(&histogram, UINT64_C(1) << 50);
	assert_int_equal(bench_histogram_quantile_ns(&histogram, 0.5), UINT64_C(1) << 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_follow_each_other),
		cmocka_unit_test(test_quantiles_are_right_within_half_a_percent),
		cmocka_unit_test(test_quantiles_of_a_line),
		cmocka_unit_test(test_nothing_and_beyond),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
