/* The conditions of the n servers of an upstream, as a worker asks and reports for each connection. */
#include <string.h>

#include "base/clock.h"
#include "micro.h"
#include "shm/condition.h"

struct condition_bench {
	struct condition *conditions;
	struct ejection **members;
	struct condition_rules rules;
	_Atomic uint64_t epoch;
	uint32_t *order;
	uint64_t now_ns;
	uint32_t n, next;
	bool fails;
};

void *condition_begin(uint32_t n, uint32_t kind)
{
	struct condition_bench *bench = micro_memory(1, sizeof *bench);
	void *memory;

	ensure(posix_memalign(&memory, CACHE_LINE_BYTES, n * sizeof *bench->conditions) == 0);
	memset(memory, 0, n * sizeof *bench->conditions);
	bench->conditions = memory;
	bench->members = micro_memory(n, sizeof *bench->members);
	bench->order = micro_order(n);
	bench->n = n;
	bench->now_ns = NS_PER_S;
	bench->fails = kind == CONDITION_FAILS;
	for (uint32_t i = 0; i < n; i++)
		bench->members[i] = &bench->conditions[i].ejection;
	bench->rules = (struct condition_rules){ .breaker = { .error_threshold = 5, .probes = 3, .timeout_ns = 30 * NS_PER_S },
		.outlier = { .failures = 5, .max_percent = 50, .ejection_ns = 30 * NS_PER_S },
		.health = { .rise = 2, .fall = 3 },
		.is_checked = true,
		.slow_start_ns = 30 * NS_PER_S,
		.group = { bench->members, n },
		.epoch = &bench->epoch };
	if (bench->fails) {
		/* Open again with each failure, and over at once: all goes the slow way. */
		bench->rules.breaker = (struct breaker_limits){ .error_threshold = 1, .probes = 1, .timeout_ns = 0 };
		bench->rules.outlier.failures = 0;
	}
	return bench;
}

static struct condition *next_one(struct condition_bench *bench)
{
	uint32_t at = bench->order[bench->next];

	bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
	bench->now_ns += NS_PER_US;
	return &bench->conditions[at];
}

uint64_t condition_look_run(void *state, uint64_t times)
{
	struct condition_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		const struct condition *condition = next_one(bench);
		sum += condition_usable(condition, &bench->rules, false, bench->now_ns) +
		       condition_weight(condition, &bench->rules, 100, bench->now_ns);
	}
	micro_sink = sum;
	return times;
}

uint64_t condition_run(void *state, uint64_t times)
{
	struct condition_bench *bench = state;

	for (uint64_t i = 0; i < times; i++) {
		struct condition *condition = next_one(bench);
		struct breaker_pass pass;
		ensure(condition_usable(condition, &bench->rules, false, bench->now_ns) == USABILITY_USABLE);
		ensure(condition_ask(condition, &bench->rules, bench->now_ns, &pass) != BREAKER_REFUSE);
		condition_report(condition, &bench->rules, &pass, !bench->fails, bench->now_ns);
	}
	return times;
}

void condition_end(void *state)
{
	struct condition_bench *bench = state;

	free(bench->conditions);
	free(bench->members);
	free(bench->order);
	free(bench);
}
