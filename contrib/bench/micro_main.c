/* The rounds, the table and the CSV of contrib/bench/micro; the rows are in micro_rows.c. The script takes the options and has the help. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "micro.h"

enum { ROUNDS_MAX = 99 };

static const uint32_t sizes[] = { 10, 1000, 100000 };

struct options {
	uint32_t rounds, ms;
	const char *csv;
	char **names;
};

struct cell {
	uint32_t n;
	void *state;
	uint64_t times; /* operations in a round */
	double ns[ROUNDS_MAX];
};

volatile uint64_t micro_sink;

uint32_t micro_random(void)
{
	static uint64_t state = 1;

	state = state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(state >> 33);
}

void *micro_memory(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory != NULL)
		return memory;
	fprintf(stderr, "contrib/bench/micro: no memory\n");
	exit(1);
}

uint32_t *micro_order(uint32_t n)
{
	uint32_t *order = micro_memory(n, sizeof *order);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t other = micro_random() % (i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	return order;
}

/* Time in which the thread did not run does not count: others may use the machine. */
static uint64_t cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static double measure(const struct micro_row *row, struct cell *cell, uint64_t *took_ns)
{
	uint64_t before = cpu_ns();
	uint64_t done = row->run(cell->state, cell->times);

	*took_ns = cpu_ns() - before;
	return (double)*took_ns / (double)done;
}

/* Begin, and find out how many make a round; that warms it up as well. */
static bool begin(const struct micro_row *row, struct cell *cell, uint32_t size, const struct options *options)
{
	uint64_t took_ns;

	cell->n = row->most != 0 && row->most < size ? row->most : size;
	cell->state = row->begin(cell->n, row->kind);
	if (cell->state == NULL) {
		fprintf(stderr, "contrib/bench/micro: %s with %" PRIu32 ": %s\n", row->name, cell->n, strerror(errno));
		return false;
	}
	for (cell->times = 1000;; cell->times *= 2) {
		(void)measure(row, cell, &took_ns);
		if (took_ns >= options->ms * NS_PER_MS / 2)
			break;
	}
	cell->times *= 2;
	return true;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

static void report(const struct micro_row *row, struct cell *cell, const struct options *options, FILE *csv)
{
	uint32_t last = options->rounds - 1;
	char text[64];

	qsort(cell->ns, options->rounds, sizeof cell->ns[0], compare);
	double median = (cell->ns[last / 2] + cell->ns[options->rounds / 2]) / 2;
	snprintf(text, sizeof text, "%.1f (%.1f..%.1f)%s", median, cell->ns[0], cell->ns[last], cell->n == row->most ? "*" : "");
	printf("  %-24s", text);
	if (csv != NULL)
		fprintf(csv, "\"%s\",%" PRIu32 ",%" PRIu32 ",%.2f,%.2f,%.2f\n", row->name, cell->n, options->rounds, median, cell->ns[0],
		        cell->ns[last]);
}

static bool measure_row(const struct micro_row *row, const struct options *options, FILE *csv)
{
	static struct cell cells[ARRAY_LEN(sizes)];
	size_t n = 0;
	uint64_t took_ns;

	while (n < ARRAY_LEN(sizes) && begin(row, &cells[n], sizes[n], options))
		n++;
	for (uint32_t round = 0; round < options->rounds; round++)
		for (size_t i = 0; i < n; i++)
			cells[i].ns[round] = measure(row, &cells[i], &took_ns);
	printf("%-36s", row->name);
	for (size_t i = 0; i < n; i++) {
		report(row, &cells[i], options, csv);
		row->end(cells[i].state);
	}
	printf("\n");
	fflush(stdout);
	return n == ARRAY_LEN(sizes);
}

static bool is_wanted(const struct micro_row *row, char **names)
{
	if (*names == NULL)
		return true;
	for (; *names != NULL; names++)
		if (strstr(row->name, *names) != NULL)
			return true;
	return false;
}

static bool measure_all(const struct options *options, FILE *csv)
{
	uint32_t most = 0;
	bool ok = true, any = false;

#ifdef AEGIS_SANITIZED
	fprintf(stderr, "contrib/bench/micro: built with sanitizers: these figures are not those of Aegis\n");
#endif
	printf("%-36s", "ns each: median (least..most)");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		printf("  %-24" PRIu32, sizes[i]);
	printf("\n");
	if (csv != NULL)
		fprintf(csv, "operation,entries,rounds,median_ns,min_ns,max_ns\n");
	for (size_t i = 0; i < n_micro_rows; i++) {
		const struct micro_row *row = &micro_rows[i];
		if (!is_wanted(row, options->names))
			continue;
		any = true;
		ok &= measure_row(row, options, csv);
		most = row->most > most ? row->most : most;
	}
	if (most != 0)
		printf("* with %" PRIu32 ", which is the most that there can be\n", most);
	if (!any)
		fprintf(stderr, "contrib/bench/micro: no operation has such a name\n");
	return ok && any;
}

static uint32_t number(const char *s, uint32_t max)
{
	char *end;
	unsigned long value = strtoul(s, &end, 10);

	if (*s >= '0' && *s <= '9' && *end == '\0' && value >= 1 && value <= max)
		return (uint32_t)value;
	fprintf(stderr, "contrib/bench/micro: %s is not a number from 1 to %" PRIu32 "\n", s, max);
	exit(2);
}

int main(int argc, char **argv)
{
	struct options options = { .rounds = 7, .ms = 20 };
	FILE *csv = NULL;
	int letter;

	while ((letter = getopt(argc, argv, "b:r:t:o:")) != -1) {
		switch (letter) {
		case 'b': /* the script's */
			break;
		case 'r':
			options.rounds = number(optarg, ROUNDS_MAX);
			break;
		case 't':
			options.ms = number(optarg, 10000);
			break;
		case 'o':
			options.csv = optarg;
			break;
		default:
			fputs("contrib/bench/micro -h says what there is\n", stderr);
			return 2;
		}
	}
	options.names = argv + optind;
	if (options.csv != NULL && (csv = fopen(options.csv, "w")) == NULL) {
		fprintf(stderr, "contrib/bench/micro: %s: %s\n", options.csv, strerror(errno));
		return 1;
	}
	bool ok = measure_all(&options, csv);
	if (csv != NULL && fclose(csv) != 0) {
		fprintf(stderr, "contrib/bench/micro: %s: %s\n", options.csv, strerror(errno));
		ok = false;
	}
	return ok ? 0 : 1;
}
