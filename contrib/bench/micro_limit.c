/* One worker, so that nobody else writes to the same lines: what other workers add is for a benchmark of processes. */
#include <sys/mman.h>

#include "micro.h"
#include "shm/limit.h"

struct limit_bench {
	struct shm shm;
	size_t size;
	uint32_t *order;
	uint32_t n, next;
};

void *limit_begin(uint32_t n, uint32_t kind)
{
	const struct shm_dims dims = { .seats = 1, .listeners = 1, .servers = n };
	size_t size = (size_t)shm_size_bytes(&dims);
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)kind;
	if (base == MAP_FAILED)
		return NULL;
	struct limit_bench *bench = micro_memory(1, sizeof *bench);
	bench->n = n;
	bench->size = size;
	bench->order = micro_order(n);
	shm_init(&bench->shm, base, &dims);
	for (uint32_t i = 0; i < n; i++)
		shm_limit(&bench->shm, limit_server(&bench->shm, i))->max = 100;
	return bench;
}

uint64_t limit_run(void *state, uint64_t times)
{
	struct limit_bench *bench = state;

	for (uint64_t i = 0; i < times; i++) {
		uint32_t limit = limit_server(&bench->shm, bench->order[bench->next]);
		bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
		ensure(limit_reserve(&bench->shm, 0, limit));
		limit_release(&bench->shm, 0, limit);
	}
	return times;
}

void limit_end(void *state)
{
	struct limit_bench *bench = state;

	munmap(bench->shm.header, bench->size);
	free(bench->order);
	free(bench);
}
