/* Which server gets the next connection. Decisions only: no I/O, no clock. What a choice costs does not depend on the number of
 * servers, except for the depth of a tree.
 *
 * Process: a worker; one balance per upstream and worker.
 * Owner:   entries are the caller's, the rest is the balance's.
 * Rules:   a disabled server and one of weight 0 never get a new connection; a backup gets one only when no primary can; a
 *          server that was tried for this connection gets it again only when there is no other at all.
 *
 * round_robin is smooth and weighted (nginx, commit 52327e0627f4): weights 5, 1, 1 give a a b a c a a; equal weights rotate. Second and
 * further attempts have turns of their own, so that what a broken server leaves over is spread over the others by weight, and the first
 * attempts go on as if nothing was: no server meets only first or only further attempts.
 *
 * least_connections compares (connections + 1) / weight; ties go around. Connections are those of all workers, which change without
 * notice: each choice looks at BALANCE_LOOKS servers in rotation, and again at those that come to the front. So
 *   - what is chosen has the connections that it was chosen for, unless more than BALANCE_LOOKS in a row turned out to have others;
 *   - what this worker takes and gives back counts at once (balance_changed());
 *   - what other workers give back counts after at most n / BALANCE_LOOKS choices: up to BALANCE_LOOKS servers the choice is exact.
 *
 * p2c draws two servers by weight and takes the better one by (connections + 1) / weight, of equals the one whose turn is due first: of two
 * idle ones the heavier, as above. All that it ever looks at are the two, so that many workers that see each other's connections late do
 * not all run to the same server.
 *
 * random draws one by weight.
 *
 * consistent_hash has a table (maglev.h) that depends on the servers' names and weights only: not on their order, not on who is disabled,
 * not on the worker or the generation, so that all of them send the same key to the same server. Whose server cannot be used has a second
 * one, and a third one, by its key, and comes back as soon as the first can be used again. A change of names or weights moves hardly any
 * key but those that it has to. A new table is made in pieces (balance_work()); until it is complete the old one counts.
 */
#ifndef AEGIS_POLICY_BALANCE_H
#define AEGIS_POLICY_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "policy/draw.h"
#include "policy/maglev.h"
#include "policy/ranking.h"
#include "policy/turns.h"

enum balance_algorithm {
	BALANCE_BY_ROUND_ROBIN,
	BALANCE_BY_LEAST_CONNECTIONS,
	BALANCE_BY_P2C,
	BALANCE_BY_RANDOM,
	BALANCE_BY_CONSISTENT_HASH,
	BALANCE_ALGORITHMS
};

enum { BALANCE_LOOKS = 8, BALANCE_MAX_TRIED = 16 };

struct balance_rule;

struct balance_entry {
	uint64_t name_hash; /* of the server's name, for consistent_hash: stays the same, and differs from the others' */
	uint32_t weight;    /* at most 65535 */
	bool backup;
	bool disabled;
};

/* A usable entry. */
struct balance_member {
	uint32_t entry;
	uint32_t place; /* counted from the entry with which the rotation begins: of equals the least comes first */
	uint32_t weight;
	bool backup;
};

/* An entry, and the hash of its name. */
struct balance_name {
	uint64_t hash;
	uint32_t entry;
};

/* Connections that a server has now, over all workers. */
typedef uint32_t balance_load_fn(const void *arg, uint32_t entry);

struct balance {
	const struct balance_rule *rule;
	uint32_t n;
	uint32_t last; /* the last one chosen */
	uint32_t n_members, n_primaries;
	struct balance_entry *entries;
	struct balance_member *members; /* the primaries, then the backups */
	uint32_t *member_of;            /* [entry], or NOT_USABLE; not with round_robin */
	balance_load_fn *load;
	const void *load_arg;

	/* round_robin: the heaviest members first, then by place; those of equal weight are one taker */
	struct turns first[2]; /* first attempts, of primaries and of backups */
	struct turns again[2]; /* further ones */
	struct taker *takers;
	struct pairing *pairings;

	/* least_connections */
	struct ranking ranking; /* of members */
	uint32_t look;          /* the member to look at next */
	uint64_t choices;       /* p2c too */

	/* p2c, random; consistent_hash as its last resort */
	struct draw draws[2]; /* of primaries and of backups */
	uint64_t random;      /* state of the generator */
	uint64_t *due;        /* p2c: [entry], the number of the choice at which it would be its turn again */

	/* consistent_hash */
	struct balance_name *by_name; /* the entries in the order in which tables are made */
	struct maglev tables[2];      /* of primaries and of backups */
	bool stale;                   /* the tables are to be compared with the entries */
};

/* n entries, at most 65536, all filled in. start turns the rotation, so that workers do not all begin with the first server; seed is for
 * p2c and random, for the same reason. load is for least_connections and p2c, and may be asked at once. Tables are complete. All memory is
 * taken here. 0 or -ENOMEM. */
must_check int balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n,
        uint32_t start, uint64_t seed, balance_load_fn *load, const void *load_arg);
void balance_fini(struct balance *balance);

/* The caller changed weight, backup or disabled of entries: only this makes it count. Looks at all of them; turns begin anew after the last
 * server that was chosen. With consistent_hash nothing is sent to who is disabled or of weight 0 from now on, and there is work. */
void balance_update(struct balance *balance);

/* Do a piece of the work that balance_update() left: looks at about budget slots of a table, which takes a few nanoseconds each, and makes
 * a table with some 800000. Call it between other things until it returns false: nothing is left. */
must_check bool balance_work(struct balance *balance, uint32_t budget);

/* Choose. key is a hash of what consistent_hash goes by, with all 64 bits of use. tried are the n_tried entries, at most BALANCE_MAX_TRIED,
 * that were already tried for this connection. Returns the entry, or -1 when no server can be used. */
must_check int balance_choose(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried);

/* The load of an entry changed: the caller took a connection of it, or gave one back. */
void balance_changed(struct balance *balance, uint32_t entry);

#endif
