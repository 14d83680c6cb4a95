/* Connections end in the order in which they began, OPEN of them later. */
#include <errno.h>

#include "base/hash.h"
#include "micro.h"
#include "policy/balance.h"

enum { OPEN = 4096 };

struct balance_bench {
	struct balance balance;
	struct balance_entry *entries;
	uint32_t *loads;
	uint16_t open[OPEN];
	uint64_t begun;
};

static uint32_t load_of(const void *arg, uint32_t entry)
{
	return ((const uint32_t *)arg)[entry];
}

static void *begin(uint32_t n, enum balance_algorithm algorithm, bool weighted)
{
	struct balance_bench *bench = micro_memory(1, sizeof *bench);

	bench->entries = micro_memory(n, sizeof *bench->entries);
	bench->loads = micro_memory(n, sizeof *bench->loads);
	for (uint32_t i = 0; i < n; i++)
		bench->entries[i] = (struct balance_entry){ .weight = weighted ? 1 + i % UINT16_MAX : 100, .name_hash = hash_mix(i) };
	errno = -balance_init(&bench->balance, algorithm, bench->entries, n, 0, 1, load_of, bench->loads);
	if (errno == 0)
		return bench;
	balance_end(bench);
	return NULL;
}

void *balance_begin(uint32_t n, uint32_t kind)
{
	return begin(n, (enum balance_algorithm)kind, false);
}

void *balance_weighted_begin(uint32_t n, uint32_t kind)
{
	return begin(n, (enum balance_algorithm)kind, true);
}

uint64_t balance_run(void *state, uint64_t times)
{
	struct balance_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		uint16_t *place = &bench->open[bench->begun % OPEN];
		if (bench->begun++ >= OPEN) {
			bench->loads[*place]--;
			balance_changed(&bench->balance, *place);
		}
		int chosen = balance_choose(&bench->balance, hash_mix(bench->begun), NULL, 0);
		ensure(chosen >= 0);
		*place = (uint16_t)chosen;
		bench->loads[chosen]++;
		balance_changed(&bench->balance, (uint32_t)chosen);
		sum += (uint32_t)chosen;
	}
	micro_sink = sum;
	return times;
}

void balance_end(void *state)
{
	struct balance_bench *bench = state;

	balance_fini(&bench->balance);
	free(bench->entries);
	free(bench->loads);
	free(bench);
}
