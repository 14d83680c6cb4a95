/* A table from hashes to servers in which each server has its share of slots and nearly all slots stay with their servers when one comes or
 * goes: Maglev hashing (Eisenbud and others, "Maglev: a fast and reliable software network load balancer", NSDI 2016, listing 1), with
 * weights and order as Envoy has them.
 *
 * Each server likes all slots, in an order of its own that its two hashes say; they take turns, the heaviest in each round and the others
 * correspondingly less often, and each takes the slot that it likes best of those that are free. So the table is a function of the servers
 * and of the order in which they were added, and of nothing else.
 *
 * Two tables: one in use, and one that is made in pieces and takes the place of the other when it is complete. Memory is taken once.
 */
#ifndef AEGIS_POLICY_MAGLEV_H
#define AEGIS_POLICY_MAGLEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum { MAGLEV_SLOTS = 65537, MAGLEV_MAX_SERVERS = 65536, MAGLEV_NOBODY = -1 };

struct maglev_server {
	uint32_t first, step; /* it likes first best, then first + step, then first + 2 * step, and so on, around the table */
	uint32_t weight;
	uint16_t id;
	uint32_t likes; /* while the table is made: the best slot that may still be free */
	uint32_t turns; /* that it had */
};

struct maglev {
	uint32_t size;
	uint32_t in_use;     /* slots of the table in use that have a server: all or none */
	uint16_t *slots;     /* the table in use: ids */
	uint16_t *new_slots; /* the one that is made */
	uint64_t *taken;     /* a bit for each of new_slots */
	uint32_t n_taken;
	uint32_t n_servers, n_before;
	uint32_t heaviest; /* weight */
	struct maglev_server *servers;
	uint64_t *queue;     /* [n_servers]: round << 16 | server, a heap whose front is the next one to have a turn */
	bool others, making; /* servers differ from those before; a table is made */
};

/* size is a prime number. At most max_servers. The table is empty. 0 or -ENOMEM. */
must_check int maglev_init(struct maglev *maglev, uint32_t size, uint32_t max_servers);
void maglev_fini(struct maglev *maglev);

/* Give the servers anew between begin and end: then a table is made of them, unless they are the same as before. Not while one is made.
 * id is the caller's; weight is 1 to 65535; hashes are of a name that stays. */
void maglev_begin(struct maglev *maglev);
void maglev_add(struct maglev *maglev, uint16_t id, uint32_t weight, uint64_t first_hash, uint64_t step_hash);
void maglev_end(struct maglev *maglev);

/* Make a piece of the table: as much as can be done by looking at *budget slots, which becomes what is left of it. All in all that is
 * some ln(size) times size. True when there is more to be done. */
must_check bool maglev_make(struct maglev *maglev, uint32_t *budget);

static inline bool maglev_is_empty(const struct maglev *maglev)
{
	return maglev->in_use == 0;
}

static inline uint32_t maglev_slot_of(const struct maglev *maglev, uint64_t hash)
{
	/* a division by a constant is a multiplication */
	return (uint32_t)(maglev->size == MAGLEV_SLOTS ? hash % MAGLEV_SLOTS : hash % maglev->size);
}

#endif
