/* Rates by key: one struct rate for each client address or network, in a table that never grows.
 *
 * Buckets of RATE_TABLE_WAYS cells in shared memory, chosen by a keyed hash. A key whose bucket is full again needs no cell: its TAT is in
 * the past, and its place is free for the next one without anyone cleaning up. When all cells of a bucket are alive, the one nearest to
 * that gives way and is counted in `evictions`; its key starts again from a full bucket. A flood of addresses therefore costs no memory
 * and blocks nobody. What it takes away is the memory of those who used their rate least, first; a key near its limit stays longest.
 *
 * How exact: as exact as struct rate while the key keeps its cell. An eviction forgets what was used, at most burst + 1 units; a table far
 * too small for a flood forgets so fast that it limits none of its keys, and refuses nobody either. When several processes meet a new key
 * at once, one writes its cell and the others wait a microsecond or two for it; if that one is held up in the middle (preempted, killed),
 * each of the others may let one unit through that is not accounted for. While all cells of a bucket are being written by such ones, for
 * CELL_CLAIM_NS at most, units of new keys pass without being accounted for, and are counted in `unbooked`.
 *
 * Size: 32 bytes for each cell, and 64 for the table. Of new keys 10 % find their bucket full with two cells for each key that is alive
 * (its bucket not full again since it last took something), 1.5 % with four cells, 0.2 % with eight.
 *
 * Writers: every worker. The maker's seed is read only. No pointer is in shared memory; struct rate_table is each process's own.
 */
#ifndef AEGIS_SHM_RATE_TABLE_H
#define AEGIS_SHM_RATE_TABLE_H

#include "shm/cell.h"
#include "shm/rate.h"

enum { RATE_TABLE_WAYS = 4 };

struct rate_table_shared {
	_Alignas(CACHE_LINE_BYTES) uint64_t seed[2];
	_Atomic uint64_t evictions;
	_Atomic uint64_t unbooked;
	struct rate_bucket {
		_Alignas(CACHE_LINE_BYTES) struct cell cells[RATE_TABLE_WAYS];
	} buckets[];
};

/* A view of one; made by rate_table_open(). */
struct rate_table {
	struct rate_table_shared *shared;
	uint32_t bucket_mask; /* our own copy: whoever can write to the segment must not lead others out of it */
};

/* For at least so many cells (a power of two times RATE_TABLE_WAYS; up to 2^30). */
uint64_t rate_table_bytes(uint32_t cells);

/* Make a table in memory of rate_table_bytes(cells) zeros, aligned to a cache line. seed: random. Open it then. */
void rate_table_init(void *memory, const uint64_t seed[2]);

/* memory and cells as when it was made. */
void rate_table_open(struct rate_table *table, void *memory, uint32_t cells);

/* Take one unit for the key. */
must_check bool rate_table_take(
        const struct rate_table *table, const struct rate_limit *limit, const struct cell_key *key, uint64_t now_ns);

uint64_t rate_table_evictions(const struct rate_table *table);
uint64_t rate_table_unbooked(const struct rate_table *table);

#endif
