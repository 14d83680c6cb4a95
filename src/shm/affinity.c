#include "shm/affinity.h"

static_assert(sizeof(struct affinity_bucket) == 4 * CACHE_LINE_BYTES, "a bucket is four cache lines");

static uint32_t bucket_count(uint32_t entries)
{
	uint32_t wanted = entries / AFFINITY_WAYS + (entries % AFFINITY_WAYS != 0), count = 1;
	while (count < wanted && count < 1u << 28)
		count *= 2;
	return count;
}

uint64_t affinity_bytes(uint32_t entries)
{
	return sizeof(struct affinity_shared) + (uint64_t)bucket_count(entries) * sizeof(struct affinity_bucket);
}

void affinity_init(void *memory, const uint64_t seed[2])
{
	struct affinity_shared *shared = memory;
	shared->seed[0] = seed[0];
	shared->seed[1] = seed[1];
}

void affinity_open(struct affinity *affinity, void *memory, uint32_t entries)
{
	affinity->shared = memory;
	affinity->bucket_mask = bucket_count(entries) - 1;
}

static struct affinity_bucket *bucket_of(const struct affinity *affinity, const struct cell_key *key)
{
	return &affinity->shared->buckets[cell_hash(affinity->shared->seed, key) & affinity->bucket_mask];
}

static inline struct cell_look look_at(struct affinity_bucket *bucket, const struct cell_key *key, uint64_t now_ns)
{
	struct cell_look look = { 0 };
	for (unsigned i = 0; i < AFFINITY_WAYS; i++)
		cell_see(&look, &bucket->cells[i].cell, &bucket->cells[i].server, key, now_ns);
	return look;
}

/* When an entry ends that was looked up now. */
static uint64_t renewed(uint64_t end_ns, uint64_t ttl_ns, uint64_t now_ns)
{
	uint64_t full = now_ns + ttl_ns, eighth = ttl_ns / 8;
	return end_ns + eighth <= full || end_ns > full + eighth ? full : end_ns;
}

bool affinity_get(const struct affinity *affinity, const struct cell_key *key, uint64_t ttl_ns, uint64_t now_ns, uint64_t *server)
{
	if (!ttl_ns)
		return false;
	struct affinity_bucket *bucket = bucket_of(affinity, key);
	for (int attempt = 0; attempt < CELL_TRIES; attempt++) {
		struct cell_look look = look_at(bucket, key, now_ns);
		if (!look.match.cell || look.match.stamp <= now_ns)
			return false;
		if (cell_restamp(&look.match, renewed(look.match.stamp, ttl_ns, now_ns))) {
			*server = look.match.value;
			return true;
		}
	}
	return false;
}

static bool put_server(struct affinity_shared *shared, const struct cell_look *look, const struct cell_key *key, uint64_t server,
        uint64_t ttl_ns, uint64_t now_ns)
{
	const struct cell_seen *seen = look->match.cell ? &look->match : &look->victim;
	if (!seen->cell)
		return false;
	_Atomic uint64_t *where = &container_of(seen->cell, struct affinity_cell, cell)->server;
	if (!cell_replace(seen, key, where, server, now_ns + CELL_CLAIM_NS, now_ns + ttl_ns))
		return false;
	if (!look->match.cell && !(seen->stamp & CELL_CLAIMED) && seen->stamp > now_ns)
		atomic_fetch_add_explicit(&shared->evictions, 1, memory_order_relaxed);
	return true;
}

void affinity_put(const struct affinity *affinity, const struct cell_key *key, uint64_t server, uint64_t ttl_ns, uint64_t now_ns)
{
	if (!ttl_ns)
		return;
	struct affinity_bucket *bucket = bucket_of(affinity, key);
	for (int attempt = 0; attempt < CELL_TRIES; attempt++) {
		struct cell_look look = look_at(bucket, key, now_ns);
		if (look.match.cell && look.match.value == server && look.match.stamp > now_ns) {
			if (cell_restamp(&look.match, renewed(look.match.stamp, ttl_ns, now_ns)))
				return;
		} else if (!look.match.cell && look.writing && attempt < CELL_PAUSES) {
			cell_pause();
		} else if (put_server(affinity->shared, &look, key, server, ttl_ns, now_ns)) {
			return;
		}
	}
}

void affinity_drop(const struct affinity *affinity, const struct cell_key *key)
{
	struct affinity_bucket *bucket = bucket_of(affinity, key);
	for (int attempt = 0; attempt < CELL_TRIES; attempt++) {
		struct cell_look look = look_at(bucket, key, 0);
		if (!look.match.cell || !look.match.stamp)
			return;
		(void)!cell_restamp(&look.match, 0); /* the next look says */
	}
}

uint64_t affinity_evictions(const struct affinity *affinity)
{
	return atomic_load_explicit(&affinity->shared->evictions, memory_order_relaxed);
}
