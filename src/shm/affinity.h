/* Which server a client had last: key to server, remembered for a while, for all workers.
 *
 * A bounded table like rate_table.h, of the same cells with a value: their stamp is when they end. That is looked at when a key is looked
 * up, so that an entry is over in time although nobody cleans up. A look-up within the TTL renews it, if the last renewal is an eighth of
 * the TTL ago, so that a busy client costs one write in that time. When a bucket is full, the entry that was over first gives way, and
 * where all are alive the one that would be (with one TTL: the one not used for longest); these are counted in `evictions`.
 *
 * The server is a 64-bit number of the caller's choosing that outlives a reload, a hash of its name for example. That it still exists, and
 * may be used, is for the caller to see.
 *
 * A look-up gives what was put for just this key, or nothing, whatever other processes do or in whichever instruction they were killed:
 * see cell.h. It may give nothing while the entry is being written. A cell whose writer was killed is lost for CELL_CLAIM_NS.
 *
 * Size: 42.7 bytes for each entry, and 64 for the table.
 *
 * Writers: every worker. struct affinity is each process's own.
 */
#ifndef AEGIS_SHM_AFFINITY_H
#define AEGIS_SHM_AFFINITY_H

#include "shm/cell.h"

enum { AFFINITY_WAYS = 6 };

struct affinity_shared {
	_Alignas(CACHE_LINE_BYTES) uint64_t seed[2];
	_Atomic uint64_t evictions;
	struct affinity_bucket {
		_Alignas(CACHE_LINE_BYTES) struct affinity_cell {
			struct cell cell;
			_Atomic uint64_t server;
		} cells[AFFINITY_WAYS];
	} buckets[];
};

/* A view of one; made by affinity_open(). */
struct affinity {
	struct affinity_shared *shared;
	uint32_t bucket_mask; /* our own copy: whoever can write to the segment must not lead others out of it */
};

/* For at least so many entries (a power of two times AFFINITY_WAYS; up to 1.6e9). */
uint64_t affinity_bytes(uint32_t entries);

/* Make a table in memory of affinity_bytes(entries) zeros, aligned to a cache line. seed: random. Open it then. */
void affinity_init(void *memory, const uint64_t seed[2]);

/* memory and entries as when it was made. */
void affinity_open(struct affinity *affinity, void *memory, uint32_t entries);

/* True and *server, or false when there is none or it is over. ttl_ns is from now on: one that was made shorter holds for old entries
 * from their next look-up on. */
must_check bool affinity_get(
        const struct affinity *affinity, const struct cell_key *key, uint64_t ttl_ns, uint64_t now_ns, uint64_t *server);

/* Remember the server for the key, instead of what was there. Of two at the same time either may stay. Not remembered when others
 * write all cells of the bucket. */
void affinity_put(const struct affinity *affinity, const struct cell_key *key, uint64_t server, uint64_t ttl_ns, uint64_t now_ns);

/* Forget the key. */
void affinity_drop(const struct affinity *affinity, const struct cell_key *key);

uint64_t affinity_evictions(const struct affinity *affinity);

#endif
