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
 */
#ifndef AEGIS_POLICY_BALANCE_H
#define AEGIS_POLICY_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "policy/ranking.h"
#include "policy/turns.h"

enum balance_algorithm { BALANCE_BY_ROUND_ROBIN, BALANCE_BY_LEAST_CONNECTIONS };

enum { BALANCE_LOOKS = 8 };

struct balance_entry {
	uint32_t weight; /* at most 65535 */
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

/* Connections that a server has now, over all workers. */
typedef uint32_t balance_load_fn(const void *arg, uint32_t entry);

struct balance {
	enum balance_algorithm algorithm;
	uint32_t n;
	uint32_t last; /* the last one chosen */
	uint32_t n_members;
	struct balance_entry *entries;
	struct balance_member *members; /* the primaries, then the backups, the heaviest first, then by place */

	/* round_robin: members of equal weight are one taker */
	struct turns first[2]; /* first attempts, of primaries and of backups */
	struct turns again[2]; /* further ones */
	struct taker *takers;
	struct pairing *pairings;

	/* least_connections */
	struct ranking ranking; /* of members */
	uint32_t *member_of;    /* [entry], and NOT_USABLE */
	uint32_t look;          /* the member to look at next */
	uint64_t choices;
	balance_load_fn *load;
	const void *load_arg;
};

/* n entries, at most 65536, weight, backup and disabled filled in. start turns the rotation, so that workers do not all begin with the
 * first server. load is for least_connections, and asked at once. 0 or -ENOMEM. */
must_check int balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n,
        uint32_t start, balance_load_fn *load, const void *load_arg);
void balance_fini(struct balance *balance);

/* The caller changed entries: only this makes it count. Looks at all of them; turns begin anew after the last server that was chosen. */
void balance_update(struct balance *balance);

/* Choose. tried are the n_tried entries that were already tried for this connection. Returns the entry, or -1 when no server
 * can be used. */
must_check int balance_choose(struct balance *balance, const uint16_t *tried, uint32_t n_tried);

/* The load of an entry changed: the caller took a connection of it, or gave one back. */
void balance_changed(struct balance *balance, uint32_t entry);

#endif
