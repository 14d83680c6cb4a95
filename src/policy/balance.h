/* Which server gets the next connection. Decisions only: no I/O, no clock, no shared memory.
 *
 * Process: a worker; one balance per upstream and worker.
 * Rules:   a disabled server and one of weight 0 never get a new connection; a backup gets one only when no primary can; a
 *          server that was tried for this connection gets it again only when there is no other at all.
 *
 * round_robin is smooth and weighted (nginx, commit 52327e0627f4): weights 5, 1, 1 give a a b a c a a. With equal weights it
 * is a rotating cursor. least_connections compares connections / weight; ties go around.
 */
#ifndef AEGIS_POLICY_BALANCE_H
#define AEGIS_POLICY_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum balance_algorithm { BALANCE_BY_ROUND_ROBIN, BALANCE_BY_LEAST_CONNECTIONS };

struct balance_entry {
	uint32_t weight;
	bool backup;
	bool disabled;
	int64_t current; /* of smooth round robin */
};

/* Connections that a server has now, over all workers. */
typedef uint32_t balance_load_fn(const void *arg, uint32_t entry);

struct balance {
	enum balance_algorithm algorithm;
	bool equal; /* all weights that count are equal */
	uint32_t n;
	uint32_t cursor;
	struct balance_entry *entries; /* the caller's memory */
	balance_load_fn *load;         /* least_connections only */
	const void *load_arg;
};

/* start turns the rotation, so that workers do not all begin with the first server. entries are n, weight, backup and disabled
 * filled in, and stay the caller's. */
void balance_init(struct balance *balance, enum balance_algorithm algorithm, struct balance_entry *entries, uint32_t n, uint32_t start);

/* Choose. tried are the n_tried entries that were already tried for this connection. Returns the entry, or -1 when no server
 * can be used. */
must_check int balance_choose(struct balance *balance, const uint16_t *tried, uint32_t n_tried);

#endif
