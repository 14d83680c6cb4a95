#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "tools/bench.h"

const char *bench_mode_name(enum bench_mode mode)
{
#define X(name, text) [name] = text,
	static const char *const names[] = { BENCH_MODES(X) };
#undef X
	return names[mode];
}

const char *failure_text(enum failure failure)
{
#define X(name, text) [name] = text,
	static const char *const texts[] = { BENCH_FAILURES(X) };
#undef X
	return texts[failure];
}

void tally_add(struct tally *sum, const struct tally *tally)
{
	sum->requests += tally->requests;
	sum->errors += tally->errors;
	sum->connect_errors += tally->connect_errors;
	sum->opened += tally->opened;
	sum->bytes_in += tally->bytes_in;
	sum->bytes_out += tally->bytes_out;
	sum->cpu_ns += tally->cpu_ns;
	if (tally->end_ns > sum->end_ns)
		sum->end_ns = tally->end_ns;
	for (size_t i = 0; i < FAILURE_COUNT; i++)
		sum->failures[i] += tally->failures[i];
	if (sum->first_failure[0] == '\0')
		memcpy(sum->first_failure, tally->first_failure, sizeof sum->first_failure);
	sum->rows_lost = sum->rows_lost || tally->rows_lost;
	bench_histogram_add(&sum->latency, &tally->latency);
	bench_histogram_add(&sum->connect, &tally->connect);
}

static double mean_ns(const struct bench_histogram *histogram)
{
	return histogram->count > 0 ? (double)histogram->sum_ns / (double)histogram->count : 0;
}

static double quantile_us(const struct bench_histogram *histogram, double q)
{
	return (double)bench_histogram_quantile_ns(histogram, q) / (double)NS_PER_US;
}

static void report_json(const struct plan *plan, const struct tally *sum, double seconds)
{
	const struct bench_histogram *latency = &sum->latency, *connect = &sum->connect;
	printf("{\"mode\":\"%s\",\"requests\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"connect_errors\":%" PRIu64
	       ",\"seconds\":%.6f,\"rate\":%.3f,",
	        bench_mode_name(plan->mode), sum->requests, sum->errors, sum->connect_errors, seconds,
	        seconds > 0 ? (double)sum->requests / seconds : 0);
	printf("\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 ",\"connections\":%" PRIu32 ",", sum->bytes_in, sum->bytes_out,
	        plan->clients);
	printf("\"latency_us\":{\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f},",
	        mean_ns(latency) / (double)NS_PER_US, quantile_us(latency, 0.5), quantile_us(latency, 0.9), quantile_us(latency, 0.99),
	        quantile_us(latency, 0.999), (double)latency->max_ns / (double)NS_PER_US);
	printf("\"connect_us\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f},\"client_cpu_seconds\":%.6f}\n", quantile_us(connect, 0.5),
	        quantile_us(connect, 0.99), (double)connect->max_ns / (double)NS_PER_US, (double)sum->cpu_ns / (double)NS_PER_S);
}

static void print_times(const char *title, const struct bench_histogram *histogram)
{
	static const struct {
		const char *name;
		double q;
	} columns[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 } };
	char text[32];
	printf("%-10s mean %s", title, units_human_ns((uint64_t)mean_ns(histogram), text, sizeof text));
	for (size_t i = 0; i < ARRAY_LEN(columns); i++)
		printf(", %s %s", columns[i].name, units_human_ns(bench_histogram_quantile_ns(histogram, columns[i].q), text, sizeof text));
	printf(", max %s\n", units_human_ns(histogram->max_ns, text, sizeof text));
}

static void report_table(const struct plan *plan, const struct tally *sum, double seconds)
{
	char in[32], out[32];
	printf("%s, %s: %" PRIu32 " connection%s in %" PRIu32 " process%s\n", bench_mode_name(plan->mode), plan->target_text, plan->clients,
	        plan->clients == 1 ? "" : "s", plan->processes, plan->processes == 1 ? "" : "es");
	printf("%-10s %" PRIu64 " in %.3f s, %.0f a second; %" PRIu64 " failed, %" PRIu64 " could not connect\n", "messages", sum->requests,
	        seconds, seconds > 0 ? (double)sum->requests / seconds : 0, sum->errors, sum->connect_errors);
	printf("%-10s %s in, %s out, %.3f GB a second\n", "bytes", units_human_bytes(sum->bytes_in, in, sizeof in),
	        units_human_bytes(sum->bytes_out, out, sizeof out),
	        seconds > 0 ? (double)(sum->bytes_in > sum->bytes_out ? sum->bytes_in : sum->bytes_out) / 1e9 / seconds : 0);
	print_times("latency", &sum->latency);
	print_times("connect", &sum->connect);
	printf("%-10s %.3f s\n", "own CPU", (double)sum->cpu_ns / (double)NS_PER_S);
}

void bench_report(const struct plan *plan, const struct tally *sum, double seconds)
{
	(plan->json ? report_json : report_table)(plan, sum, seconds);
}

void bench_report_failures(const struct tally *sum)
{
	for (size_t i = 0; i < FAILURE_COUNT; i++)
		if (sum->failures[i] > 0)
			fprintf(stderr, "aegis-bench: %" PRIu64 " x %s\n", sum->failures[i], failure_text((enum failure)i));
	if (sum->first_failure[0] != '\0')
		fprintf(stderr, "aegis-bench: the first one: %s\n", sum->first_failure);
	if (sum->rows_lost)
		fputs("aegis-bench: not all rows of --csv could be written\n", stderr);
}
