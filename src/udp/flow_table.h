/* The sessions of a worker by who talks to what: client address and port, listener, and the local address that was asked.
 *
 * Process: a worker. Open addressing with linear probing; sized at start for twice as many as there may be, so that it never grows, and a
 * removal moves what stands behind it up: no tombstones. The hash is keyed: who does not know the key cannot aim at a place.
 */
#ifndef AEGIS_UDP_FLOW_TABLE_H
#define AEGIS_UDP_FLOW_TABLE_H

#include <string.h>

#include "udp/datagram.h"

/* Compared in full. */
struct flow_key {
	uint64_t client[2]; /* its address, IPv4 as an IPv6 one */
	uint64_t local[2];  /* the address that was asked; 0 = the listener has but one */
	uint16_t port;      /* of the client, in network order */
	uint16_t listener;  /* its row in shared memory */
	uint32_t scope;     /* interface, where one of the two is link-local */
};

static inline bool flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

void flow_key_make(struct flow_key *out, uint16_t listener, const struct sockaddr_in6 *peer, const struct local_address *local);
/* Back again: the local address of a key. */
static inline bool flow_key_local(const struct flow_key *key, struct local_address *out)
{
	memcpy(&out->address, key->local, sizeof out->address);
	out->interface = IN6_IS_ADDR_LINKLOCAL(&out->address) ? key->scope : 0;
	return (key->local[0] | key->local[1]) != 0;
}

/* SipHash-1-3 (Aumasson, Bernstein, 2012) of the key. */
uint64_t flow_hash(const uint64_t seed[2], const struct flow_key *key);

struct flow_place {
	uint32_t hash; /* the lower half of it */
	uint32_t flow; /* its number + 1; 0 = empty */
};

struct flow_table {
	struct flow_place *places;
	uint32_t mask;
	uint32_t n;
};

/* For up to capacity flows. 0 or a negative errno; memory is only reserved. */
must_check int flow_table_init(struct flow_table *table, uint32_t capacity);
void flow_table_fini(struct flow_table *table);

/* Which number comes next of those with this hash, beginning from *at = flow_table_start(); -1 = no more. The caller compares the keys. */
static inline uint32_t flow_table_start(const struct flow_table *table, uint64_t hash)
{
	return (uint32_t)hash & table->mask;
}
static inline int64_t flow_table_next(const struct flow_table *table, uint64_t hash, uint32_t *at)
{
	for (;;) {
		struct flow_place place = table->places[*at];
		if (place.flow == 0)
			return -1;
		*at = (*at + 1) & table->mask;
		if (place.hash == (uint32_t)hash)
			return place.flow - 1;
	}
}
/* The CPU may fetch the place while something else is done. */
static inline void flow_table_prefetch(const struct flow_table *table, uint64_t hash)
{
	__builtin_prefetch(&table->places[flow_table_start(table, hash)]);
}

/* A flow that is not in it; there is room for capacity of them. */
void flow_table_add(struct flow_table *table, uint64_t hash, uint32_t flow);
/* One that is in it. */
void flow_table_remove(struct flow_table *table, uint64_t hash, uint32_t flow);

#endif
