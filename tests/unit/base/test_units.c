#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "base/clock.h"
#include "base/units.h"

static void durations_are_parsed(void **state)
{
	(void)state;
	static const struct {
		const char *s;
		uint64_t ns;
	} rows[] = {
		{ "0", 0 },
		{ "00", 0 },
		{ "0s", 0 },
		{ "0ms", 0 },
		{ "1ns", 1 },
		{ "7us", 7 * NS_PER_US },
		{ "500ms", 500 * NS_PER_MS },
		{ "5s", 5 * NS_PER_S },
		{ "1m", 60 * NS_PER_S },
		{ "2h", 7200 * NS_PER_S },
		{ "1d", 86400 * NS_PER_S },
		{ "007s", 7 * NS_PER_S },
		{ "9223372036854775807ns", INT64_MAX },
		{ "9223372036s", UINT64_C(9223372036) * NS_PER_S },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t ns = 1;
		assert_int_equal(units_parse_duration(rows[i].s, &ns), 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

static void sizes_and_rates_are_parsed(void **state)
{
	(void)state;
	static const struct {
		const char *s;
		uint64_t value;
	} rows[] = {
		{ "0", 0 },
		{ "1500", 1500 },
		{ "64k", 65536 },
		{ "1M", 1 << 20 },
		{ "2G", UINT64_C(2) << 30 },
		{ "3T", UINT64_C(3) << 40 },
		{ "0G", 0 },
		{ "9223372036854775807", INT64_MAX },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t value = 1;
		char rate[64];
		assert_int_equal(units_parse_size(rows[i].s, &value), 0);
		assert_int_equal(value, rows[i].value);
		value = 1;
		snprintf(rate, sizeof rate, "%s/s", rows[i].s);
		assert_int_equal(units_parse_rate(rate, &value), 0);
		assert_int_equal(value, rows[i].value);
	}
	uint64_t value = 1;
	assert_int_equal(units_parse_rate("0", &value), 0);
	assert_int_equal(value, 0);
}

static void what_is_not_of_the_form_is_refused(void **state)
{
	(void)state;
	static const char *const durations[] = { "", "5", "s", "-5s", "+5s", " 5s", "5s ", "5 s", "1.5s", "5S", "5sec", "0x5s", "5ss",
		"ms" };
	static const char *const sizes[] = { "", "k", "-1", "64 k", "64kb", "1.5M", "64K", "1m", "1k/s", "0x10" };
	static const char *const rates[] = { "", "/s", "10", "10M", "10/m", "10M/ss", "-1/s", "1 /s", "s" };
	uint64_t out = 42;

	for (size_t i = 0; i < ARRAY_LEN(durations); i++)
		assert_int_equal(units_parse_duration(durations[i], &out), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		assert_int_equal(units_parse_size(sizes[i], &out), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(rates); i++)
		assert_int_equal(units_parse_rate(rates[i], &out), -EINVAL);
	assert_int_equal(out, 42);
}

static void what_does_not_fit_is_out_of_range(void **state)
{
	(void)state;
	static const char *const durations[] = { "9223372036854775808ns", "18446744073709551616ns", "9223372037s", "106752d",
		"99999999999999999999999999999999d" };
	uint64_t out = 42;

	for (size_t i = 0; i < ARRAY_LEN(durations); i++)
		assert_int_equal(units_parse_duration(durations[i], &out), -ERANGE);
	assert_int_equal(units_parse_size("9223372036854775808", &out), -ERANGE);
	assert_int_equal(units_parse_size("8388608T", &out), -ERANGE);
	assert_int_equal(units_parse_rate("8388608T/s", &out), -ERANGE);
	assert_int_equal(out, 42);
}

static void formats_the_shortest_exact_text(void **state)
{
	(void)state;
	char text[32];

	assert_string_equal(units_format_duration(0, text, sizeof text), "0s");
	assert_string_equal(units_format_duration(500 * NS_PER_MS, text, sizeof text), "500ms");
	assert_string_equal(units_format_duration(90 * NS_PER_S, text, sizeof text), "90s");
	assert_string_equal(units_format_duration(120 * NS_PER_S, text, sizeof text), "2m");
	assert_string_equal(units_format_duration(86400 * NS_PER_S, text, sizeof text), "1d");
	assert_string_equal(units_format_duration(INT64_MAX, text, sizeof text), "9223372036854775807ns");
	assert_string_equal(units_format_size(0, text, sizeof text), "0");
	assert_string_equal(units_format_size(1500, text, sizeof text), "1500");
	assert_string_equal(units_format_size(65536, text, sizeof text), "64k");
	assert_string_equal(units_format_size(UINT64_C(3) << 40, text, sizeof text), "3T");
	assert_string_equal(units_format_rate(0, text, sizeof text), "0/s");
	assert_string_equal(units_format_rate(10 << 20, text, sizeof text), "10M/s");
}

static void every_formatted_text_parses_back(void **state)
{
	(void)state;
	uint64_t value = 1;

	for (int i = 0; i < 2000; i++) {
		char text[32];
		uint64_t back;
		value = (value * 6364136223846793005U + 1442695040888963407U);
		uint64_t sample = value >> (1 + i % 63);
		assert_int_equal(units_parse_duration(units_format_duration(sample, text, sizeof text), &back), 0);
		assert_int_equal(back, sample);
		assert_int_equal(units_parse_size(units_format_size(sample, text, sizeof text), &back), 0);
		assert_int_equal(back, sample);
		assert_int_equal(units_parse_rate(units_format_rate(sample, text, sizeof text), &back), 0);
		assert_int_equal(back, sample);
	}
}

static void rounds_for_people(void **state)
{
	(void)state;
	static const struct {
		uint64_t value;
		const char *bytes, *ns;
	} rows[] = {
		{ 0, "0 B", "0 ns" },
		{ 999, "999 B", "999 ns" },
		{ 1000, "1.0 kB", "1.0 us" },
		{ 1250, "1.3 kB", "1.3 us" },
		{ 99949, "99.9 kB", "99.9 us" },
		{ 99950, "100 kB", "100 us" },
		{ 870000, "870 kB", "870 us" },
		{ 999499, "999 kB", "999 us" },
		{ 999500, "1.0 MB", "1.0 ms" },
		{ 12300000000, "12.3 GB", "12.3 s" },
		{ 59600000000, "59.6 GB", "1.0 min" },
		{ 9000000000000, "9.0 TB", "2.5 h" },
		{ UINT64_MAX, "18.4 EB", "213504 d" },
	};
	char text[32];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_string_equal(units_human_bytes(rows[i].value, text, sizeof text), rows[i].bytes);
		assert_string_equal(units_human_ns(rows[i].value, text, sizeof text), rows[i].ns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_are_parsed),
		cmocka_unit_test(sizes_and_rates_are_parsed),
		cmocka_unit_test(what_is_not_of_the_form_is_refused),
		cmocka_unit_test(what_does_not_fit_is_out_of_range),
		cmocka_unit_test(formats_the_shortest_exact_text),
		cmocka_unit_test(every_formatted_text_parses_back),
		cmocka_unit_test(rounds_for_people),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
