#include "shm/rate_table.h"

static_assert(sizeof(struct rate_bucket) >= CACHE_LINE_BYTES, "a bucket is a pair of cache lines");

static uint32_t bucket_count(uint32_t cells)
{
	uint32_t wanted = cells / RATE_TABLE_WAYS + (cells % RATE_TABLE_WAYS != 0), count = 1;
	while (count < wanted && count < 1u << 28)
		count *= 2;
	return count;
}

uint64_t rate_table_bytes(uint32_t cells)
{
	return sizeof(struct rate_table_shared) + (uint64_t)bucket_count(cells) * sizeof(struct rate_bucket);
}

void rate_table_init(void *memory, const uint64_t seed[2])
{
	struct rate_table_shared *shared = memory;
	shared->seed[0] = seed[0];
	shared->seed[1] = seed[1];
}

void rate_table_open(struct rate_table *table, void *memory, uint32_t cells)
{
	table->shared = memory;
	table->bucket_mask = bucket_count(cells) - 1;
}

/* Put the key into the cell that gives way, with its first unit taken. */
static bool put_new(
        struct rate_table_shared *shared, const struct cell_seen *victim, const struct cell_key *key, uint64_t now, uint64_t cost)
{
	if (!cell_replace(victim, key, NULL, 0, now + rate_time(CELL_CLAIM_NS), now + cost))
		return false;
	if (!(victim->stamp & CELL_CLAIMED) && victim->stamp > now)
		atomic_fetch_add_explicit(&shared->evictions, 1, memory_order_relaxed);
	return true;
}

bool rate_table_take(const struct rate_table *table, const struct rate_limit *limit, const struct cell_key *key, uint64_t now_ns)
{
	if (!limit->interval)
		return true;
	struct rate_table_shared *shared = table->shared;
	struct rate_bucket *bucket = &shared->buckets[cell_hash(shared->seed, key) & table->bucket_mask];
	uint64_t now = rate_time(now_ns), cost = rate_cost(limit, 1);
	struct cell_look look;
	for (int attempt = 0; attempt < CELL_TRIES; attempt++) {
		look = (struct cell_look){ 0 };
		for (unsigned i = 0; i < RATE_TABLE_WAYS; i++)
			cell_see(&look, &bucket->cells[i], NULL, key, now);
		if (look.match.cell) {
			bool passes;
			uint64_t next = rate_next(limit, look.match.stamp, now, cost, &passes);
			if (cell_restamp(&look.match, next))
				return passes;
		} else if (look.writing && attempt < CELL_PAUSES) {
			cell_pause();
		} else if (look.victim.cell && put_new(shared, &look.victim, key, now, cost)) {
			return true;
		}
	}
	if (look.match.cell)
		return false; /* as many others took from it meanwhile */
	atomic_fetch_add_explicit(&shared->unbooked, 1, memory_order_relaxed);
	return true;
}

uint64_t rate_table_evictions(const struct rate_table *table)
{
	return atomic_load_explicit(&table->shared->evictions, memory_order_relaxed);
}

uint64_t rate_table_unbooked(const struct rate_table *table)
{
	return atomic_load_explicit(&table->shared->unbooked, memory_order_relaxed);
}
