/* A cell: one place of a bounded table in shared memory, a key with a stamp (and perhaps a value) that many processes look up and
 * replace without a lock.
 *
 * The stamp is a time: until then the cell is alive, afterwards it says nothing and is free, as all zero is. It is also what everything
 * is decided by: whoever changes the cell does it by compare and swap of the stamp that it saw before it looked at the rest.
 *
 *         restamp           claim           publish
 *   alive --------> alive --------> claimed --------> alive      to claim: a cell whose stamp is over, or is alive and gives way,
 *                                    |   ^                       or was claimed by one that has not been heard of since
 *                                    +---+ claim, once the time is over
 *
 * A claimed cell (the highest bit of the stamp) matches no key and belongs to one writer until the time in its stamp. A writer that was
 * killed keeps it for CELL_CLAIM_NS, no longer, and nobody waits for it. A writer that only stood still for that long and then goes on
 * harms nobody: the words of a cell are stored xored with a mask that follows from its version, each claim has a version of its own, so
 * that words of two writers never read as one key, and it cannot publish, because the stamp is not its own any more.
 *
 * The one thing that is not told apart is a stamp that changed and changed back (to a sixteenth of a nanosecond in a rate, a nanosecond
 * elsewhere) while someone looked: a unit may then be charged to the cell's next key.
 */
#ifndef AEGIS_SHM_CELL_H
#define AEGIS_SHM_CELL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/attr.h"

struct addr;

/* Compared in full. scope keeps apart what uses the same keys: the row of a listener, say. */
struct cell_key {
	uint64_t high, low;
	uint32_t scope;
};

struct cell {
	_Atomic uint64_t stamp;
	_Atomic uint32_t version; /* of the last claim */
	_Atomic uint32_t scope;   /* this and what follows: xored with cell_mask(version) */
	_Atomic uint64_t high;    /* and with cell_fold(value) */
	_Atomic uint64_t low;
};
static_assert(sizeof(struct cell) == 32, "two cells share a cache line");

#define CELL_CLAIMED (UINT64_C(1) << 63)

enum {
	CELL_CLAIM_NS = 10 * 1000 * 1000,
	CELL_TRIES = 64, /* looks at a bucket before giving up */
	CELL_PAUSES = 32 /* of them, at most so many wait a moment (a microsecond or two in all) for another to finish writing */
};

/* The key of an address without its port: its first prefix4 or prefix6 bits. An IPv4 address inside IPv6 is an IPv4 one. False when it
 * is neither of the two (unix). */
must_check bool cell_key_from_addr(const struct addr *addr, unsigned prefix4, unsigned prefix6, uint32_t scope, struct cell_key *out);

/* SipHash-1-3 (Aumasson, Bernstein, 2012) of the key's 20 bytes; who does not know the seed cannot aim at a bucket. */
uint64_t cell_hash(const uint64_t seed[2], const struct cell_key *key);

/* --- looking ------------------------------------------------------------------------------------------------------------------ */

/* A cell as it was when it was looked at. */
struct cell_seen {
	struct cell *cell; /* NULL = none */
	uint64_t stamp;
	uint64_t value;
	uint32_t version;
};

/* What is known of a bucket after cell_see() of each of its cells. Start from all zero. */
struct cell_look {
	struct cell_seen match;  /* the one with the key, alive or not; of two (see cell_see()) the one that ends later */
	struct cell_seen victim; /* to be replaced: the one that was over first, or will be; none when others write all of them */
	bool writing;            /* some cell is being written, perhaps for the same key */
};

static inline uint64_t cell_mask(uint32_t version)
{
	return version * UINT64_C(0x9e3779b97f4a7c15); /* odd: no two versions share one, nor its lower half */
}

static inline uint64_t cell_fold(uint64_t value)
{
	return value * UINT64_C(0xd6e8feb86659fd93); /* odd: no two values share one, so that a value of another version shows */
}

/* now is in the unit of the stamps. value is where the value is, or NULL. Two cells can have the same key when two processes put it at
 * the same time and one of them was held up: both are kept, and the one that ends later is what counts. */
static inline void cell_see(
        struct cell_look *look, struct cell *cell, const _Atomic uint64_t *value, const struct cell_key *key, uint64_t now)
{
	struct cell_seen seen = { .cell = cell, .stamp = atomic_load_explicit(&cell->stamp, memory_order_acquire) };
	seen.version = atomic_load_explicit(&cell->version, memory_order_relaxed);
	bool claimed = seen.stamp & CELL_CLAIMED;
	uint64_t until = seen.stamp & ~CELL_CLAIMED;
	if (claimed && until > now) {
		look->writing = true;
		return;
	}
	if (!look->victim.cell || until < (look->victim.stamp & ~CELL_CLAIMED))
		look->victim = seen;

	uint64_t mask = cell_mask(seen.version);
	if (claimed || (atomic_load_explicit(&cell->low, memory_order_relaxed) ^ key->low) != mask)
		return;
	seen.value = value ? atomic_load_explicit(value, memory_order_relaxed) ^ mask : 0;
	uint64_t high = atomic_load_explicit(&cell->high, memory_order_relaxed) ^ cell_fold(seen.value);
	uint32_t scope = atomic_load_explicit(&cell->scope, memory_order_relaxed);
	if ((high ^ key->high) == mask && (scope ^ key->scope) == (uint32_t)mask && (!look->match.cell || seen.stamp > look->match.stamp))
		look->match = seen;
}

/* --- changing ----------------------------------------------------------------------------------------------------------------- */

/* Give a cell that was seen another stamp, or the same one (nothing is written then). False when the cell changed since it was seen;
 * true says that key and value were what they seemed to be. */
static inline bool cell_restamp(const struct cell_seen *seen, uint64_t stamp)
{
	_Atomic uint64_t *at = &seen->cell->stamp;
	uint64_t expected = seen->stamp;
	atomic_thread_fence(memory_order_acquire); /* the words were read before this */
	if (stamp == expected)
		return atomic_load_explicit(at, memory_order_relaxed) == expected;
	return atomic_compare_exchange_strong_explicit(at, &expected, stamp, memory_order_acq_rel, memory_order_relaxed);
}

/* Put key and value (where it is to be, or NULL) in the place of what was seen, with this stamp. Until claimed_until, in
 * the unit of the stamps, others leave the cell alone: how long it is lost if this process dies here. False when another one was faster, or
 * this one too slow. */
static inline bool cell_replace(const struct cell_seen *seen, const struct cell_key *key, _Atomic uint64_t *where, uint64_t value,
        uint64_t claimed_until, uint64_t stamp)
{
	struct cell *cell = seen->cell;
	uint64_t claim = CELL_CLAIMED | claimed_until;
	uint32_t version = seen->version;
	if (!cell_restamp(seen, claim))
		return false;
	/* The version was read before the claim: whoever claimed after us has moved it on. */
	if (!atomic_compare_exchange_strong_explicit(&cell->version, &version, version + 1, memory_order_acq_rel, memory_order_relaxed))
		return false;
	atomic_thread_fence(memory_order_release); /* no word is seen before the claim */
	uint64_t mask = cell_mask(version + 1);
	atomic_store_explicit(&cell->scope, key->scope ^ (uint32_t)mask, memory_order_relaxed);
	atomic_store_explicit(&cell->high, key->high ^ mask ^ cell_fold(value), memory_order_relaxed);
	atomic_store_explicit(&cell->low, key->low ^ mask, memory_order_relaxed);
	if (where)
		atomic_store_explicit(where, value ^ mask, memory_order_relaxed);
	return atomic_compare_exchange_strong_explicit(&cell->stamp, &claim, stamp, memory_order_release, memory_order_relaxed);
}

static inline void cell_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif
