/* A rate limit over all workers, of n listeners or of n addresses. One worker, so that nobody else writes to the same lines: what other
 * workers add is for a benchmark of processes. The clock is made up, a microsecond for each connection, and each limit a little more than
 * its share of that: nobody is refused, which is the longer way, and most have used something lately. 100000 addresses are more than the
 * table has cells.
 */
#include <netinet/in.h>
#include <string.h>

#include "base/addr.h"
#include "base/clock.h"
#include "micro.h"
#include "shm/layout.h"

enum { STEP_NS = 1000, ALL_PER_S = 1100000 };

struct rate_bench {
	struct shm_listener *listeners; /* or */
	struct rate_table table;
	struct addr *peers;
	struct rate_limit limit;
	uint32_t *order;
	uint64_t now_ns;
	uint32_t n, next;
};

static struct rate_bench *make(uint32_t n)
{
	struct rate_bench *bench = micro_memory(1, sizeof *bench);

	bench->n = n;
	bench->order = micro_order(n);
	bench->limit = rate_limit_make(ALL_PER_S / n, 10, 1);
	bench->now_ns = NS_PER_S;
	return bench;
}

static void *aligned_zeros(size_t size)
{
	void *memory = aligned_alloc(CACHE_LINE_BYTES, (size + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES);

	ensure(memory != NULL);
	return memset(memory, 0, size);
}

static uint32_t next(struct rate_bench *bench)
{
	uint32_t index = bench->order[bench->next];

	bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
	bench->now_ns += STEP_NS;
	return index;
}

void *rate_begin(uint32_t n, uint32_t kind)
{
	struct rate_bench *bench = make(n);

	(void)kind;
	bench->listeners = aligned_zeros(n * sizeof *bench->listeners);
	return bench;
}

uint64_t rate_run(void *state, uint64_t times)
{
	struct rate_bench *bench = state;
	uint64_t passed = 0;

	for (uint64_t i = 0; i < times; i++) {
		struct rate *rate = &bench->listeners[next(bench)].rate;
		passed += rate_take(rate, &bench->limit, bench->now_ns, NULL);
	}
	micro_sink = passed;
	return times;
}

static struct addr random_peer(uint32_t family)
{
	struct addr addr = { .length = family == AF_INET ? sizeof addr.in : sizeof addr.in6 };
	uint8_t *bytes = family == AF_INET ? (uint8_t *)&addr.in.sin_addr : addr.in6.sin6_addr.s6_addr;

	addr.sa.sa_family = (sa_family_t)family;
	for (size_t i = 0; i < (family == AF_INET ? 4u : 16u); i++)
		bytes[i] = (uint8_t)micro_random();
	return addr;
}

void *rate_table_begin(uint32_t n, uint32_t kind)
{
	struct rate_bench *bench = make(n);
	void *memory = aligned_zeros((size_t)rate_table_bytes(SHM_RATE_CELLS));

	rate_table_init(memory, (const uint64_t[2]){ 1, 2 });
	rate_table_open(&bench->table, memory, SHM_RATE_CELLS);
	bench->peers = micro_memory(n, sizeof *bench->peers);
	for (uint32_t i = 0; i < n; i++)
		bench->peers[i] = random_peer(kind);
	return bench;
}

uint64_t rate_table_run(void *state, uint64_t times)
{
	enum { BITS4 = 32, BITS6 = 64 };
	struct rate_bench *bench = state;
	uint64_t passed = 0;

	for (uint64_t i = 0; i < times; i++) {
		struct cell_key key;
		ensure(cell_key_from_addr(&bench->peers[next(bench)], BITS4, BITS6, 0, &key));
		passed += rate_table_take(&bench->table, &bench->limit, &key, bench->now_ns);
	}
	micro_sink = passed;
	return times;
}

void rate_end(void *state)
{
	struct rate_bench *bench = state;

	free(bench->listeners);
	free(bench->table.shared);
	free(bench->peers);
	free(bench->order);
	free(bench);
}
