/* The table as it is in the segment, and n clients that come again and again: with more of them than it holds, some are forgotten and
 * remembered anew. */
#include <string.h>

#include "base/clock.h"
#include "micro.h"
#include "shm/layout.h"

struct affinity_bench {
	struct affinity affinity;
	void *memory;
	uint32_t *order;
	uint64_t now_ns;
	uint32_t n, next;
};

void *affinity_begin(uint32_t n, uint32_t kind)
{
	static const uint64_t seed[2] = { 1, 2 };
	struct affinity_bench *bench = micro_memory(1, sizeof *bench);
	size_t size = (size_t)affinity_bytes(SHM_AFFINITY_ENTRIES);

	(void)kind;
	ensure(posix_memalign(&bench->memory, CACHE_LINE_BYTES, size) == 0);
	memset(bench->memory, 0, size);
	affinity_init(bench->memory, seed);
	affinity_open(&bench->affinity, bench->memory, SHM_AFFINITY_ENTRIES);
	bench->order = micro_order(n);
	bench->n = n;
	bench->now_ns = NS_PER_S;
	return bench;
}

uint64_t affinity_run(void *state, uint64_t times)
{
	struct affinity_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		const struct cell_key key = { .low = bench->order[bench->next] };
		uint64_t server = 0;
		bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
		bench->now_ns += NS_PER_US;
		if (!affinity_get(&bench->affinity, &key, 600 * NS_PER_S, bench->now_ns, &server))
			affinity_put(&bench->affinity, &key, key.low + 1, 600 * NS_PER_S, bench->now_ns);
		sum += server;
	}
	micro_sink = sum;
	return times;
}

void affinity_end(void *state)
{
	struct affinity_bench *bench = state;

	free(bench->memory);
	free(bench->order);
	free(bench);
}
