#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "tools/blast.h"

void blast_tally_add(struct blast_tally *sum, const struct blast_tally *tally)
{
	sum->sent += tally->sent;
	sum->answered += tally->answered;
#define X(field, failure, text) sum->field += tally->field;
	BLAST_COUNTS(X)
#undef X
	sum->opened += tally->opened;
	sum->bytes_in += tally->bytes_in;
	sum->bytes_out += tally->bytes_out;
	sum->cpu_ns += tally->cpu_ns;
	if (tally->end_ns > sum->end_ns)
		sum->end_ns = tally->end_ns;
	if (sum->first_error[0] == '\0')
		memcpy(sum->first_error, tally->first_error, sizeof sum->first_error);
	sum->rows_lost = sum->rows_lost || tally->rows_lost;
	bench_histogram_add(&sum->latency, &tally->latency);
}

static double loss_percent(const struct blast_tally *sum)
{
	return sum->sent > 0 ? 100 * (double)sum->lost / (double)sum->sent : 0;
}

bool blast_is_well(const struct blast_plan *plan, const struct blast_tally *sum)
{
	bool well = sum->sent > 0 && !sum->rows_lost && loss_percent(sum) <= plan->loss_percent && !(plan->in_order && sum->reordered > 0);
	/* Loss has a limit of its own. */
	uint64_t failures = 0;
#define X(field, failure, text) \
	failures += failure && offsetof(struct blast_tally, field) != offsetof(struct blast_tally, lost) ? sum->field : 0;
	BLAST_COUNTS(X)
#undef X
	return well && failures == 0;
}

static double mean_us(const struct bench_histogram *histogram)
{
	return histogram->count > 0 ? (double)histogram->sum_ns / (double)histogram->count / (double)NS_PER_US : 0;
}

static double quantile_us(const struct bench_histogram *histogram, double q)
{
	return (double)bench_histogram_quantile_ns(histogram, q) / (double)NS_PER_US;
}

/* Per second: what was answered, or where nobody answers what was sent. */
static double rate(const struct blast_plan *plan, const struct blast_tally *sum, double seconds)
{
	return seconds > 0 ? (double)(plan->one_way ? sum->sent : sum->answered) / seconds : 0;
}

static void report_json(const struct blast_plan *plan, const struct blast_tally *sum, double seconds)
{
	const struct bench_histogram *latency = &sum->latency;
	printf("{\"flows\":%" PRIu32 ",\"sent\":%" PRIu64 ",\"answered\":%" PRIu64, plan->flows, sum->sent, sum->answered);
#define X(field, failure, text) printf(",\"" #field "\":%" PRIu64, sum->field);
	BLAST_COUNTS(X)
#undef X
	printf(",\"loss_percent\":%.6f,\"sockets\":%" PRIu64 ",\"seconds\":%.6f,\"rate\":%.3f,\"bytes_in\":%" PRIu64
	       ",\"bytes_out\":%" PRIu64 ",",
	        loss_percent(sum), sum->opened, seconds, rate(plan, sum, seconds), sum->bytes_in, sum->bytes_out);
	printf("\"latency_us\":{\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f},\"client_cpu_seconds\":%."
	       "6f}\n",
	        mean_us(latency), quantile_us(latency, 0.5), quantile_us(latency, 0.9), quantile_us(latency, 0.99),
	        quantile_us(latency, 0.999), (double)latency->max_ns / (double)NS_PER_US, (double)sum->cpu_ns / (double)NS_PER_S);
}

static void report_table(const struct blast_plan *plan, const struct blast_tally *sum, double seconds)
{
	static const struct {
		const char *name;
		double q;
	} columns[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 } };
	char in[32], out[32], text[32];
	printf("%s: %" PRIu32 " flow%s of datagrams of %" PRIu32 " bytes, %" PRIu64 " socket%s\n", plan->target_text, plan->flows,
	        plan->flows == 1 ? "" : "s", plan->payload_bytes, sum->opened, sum->opened == 1 ? "" : "s");
	printf("%-10s %" PRIu64 " sent, %" PRIu64 " answered in %.3f s, %.0f a second\n", "datagrams", sum->sent, sum->answered, seconds,
	        rate(plan, sum, seconds));
	if (!plan->one_way)
		printf("%-10s %" PRIu64 ", %.4f %%\n", "lost", sum->lost, loss_percent(sum));
	printf("%-10s %s in, %s out, %.3f Gbit a second\n", "bytes", units_human_bytes(sum->bytes_in, in, sizeof in),
	        units_human_bytes(sum->bytes_out, out, sizeof out), seconds > 0 ? 8 * (double)sum->bytes_out / 1e9 / seconds : 0);
	if (!plan->one_way) {
		printf("%-10s mean %s", "latency",
		        units_human_ns((uint64_t)(mean_us(&sum->latency) * (double)NS_PER_US), text, sizeof text));
		for (size_t i = 0; i < ARRAY_LEN(columns); i++)
			printf(", %s %s", columns[i].name,
			        units_human_ns(bench_histogram_quantile_ns(&sum->latency, columns[i].q), text, sizeof text));
		printf(", max %s\n", units_human_ns(sum->latency.max_ns, text, sizeof text));
	}
	printf("%-10s %.3f s\n", "own CPU", (double)sum->cpu_ns / (double)NS_PER_S);
}

void blast_report(const struct blast_plan *plan, const struct blast_tally *sum, double seconds)
{
	(plan->json ? report_json : report_table)(plan, sum, seconds);
}

void blast_report_period(const struct blast_plan *plan, double at_s, uint64_t sent, uint64_t answered, uint64_t lost, double seconds)
{
	double per_s = seconds > 0 ? 1 / seconds : 0;
	if (plan->json)
		printf("{\"at\":%.3f,\"sent\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"lost\":%" PRIu64 "}\n", at_s, sent, answered, lost);
	else
		printf("%8.1f s %10.0f sent/s %10.0f answered/s %8" PRIu64 " lost\n", at_s, (double)sent * per_s, (double)answered * per_s,
		        lost);
	fflush(stdout);
}

void blast_report_failures(const struct blast_tally *sum)
{
#define X(field, failure, text) \
	if (sum->field > 0)     \
		fprintf(stderr, "aegis-udpblast: %" PRIu64 " x %s\n", sum->field, text);
	BLAST_COUNTS(X)
#undef X
	if (sum->first_error[0] != '\0')
		fprintf(stderr, "aegis-udpblast: the first error: %s\n", sum->first_error);
	if (sum->rows_lost)
		fputs("aegis-udpblast: not all rows of --csv could be written\n", stderr);
}
