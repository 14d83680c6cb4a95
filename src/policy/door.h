/* The door of a listener: whether a new client comes in. Asked right after accept(), before any limit is taken.
 *
 * Process: a worker; one for each listener, made at its start. The rates are in shared memory and hold over all workers and generations:
 * that of a listener in its row, those of addresses in a table for all listeners. A reload brings new limits and keeps what was used.
 *
 * Per "prefix" an IPv6 address stands for its first 64 bits; an IPv4 address stands for itself, as with "address": one of these is often a
 * whole company or provider already. Unix peers have no address: they pass the lists and the rates of addresses.
 */
#ifndef AEGIS_POLICY_DOOR_H
#define AEGIS_POLICY_DOOR_H

#include <netinet/in.h>

#include "config/config.h"
#include "policy/access.h"
#include "shm/layout.h"

struct door {
	struct access *access;  /* NULL: everybody */
	struct rate_limit pace; /* of new connections; no limit where the settings have none */
	struct rate *rate;      /* of all together, or NULL: of each address in the table */
	const struct rate_table *rates;
	uint32_t scope; /* of the table's keys */
	uint8_t prefix4, prefix6;
};

/* row is that of the listener in shared memory. 0 or a negative errno. */
must_check int door_init(struct door *door, const struct listener_config *config, struct shm *shm, uint32_t row);
/* One that was zeroed may be given, too. */
void door_fini(struct door *door);

/* May this client in? peer is all zero for a unix socket. True, or false with *why_not. */
must_check bool door_admit(const struct door *door, const struct sockaddr_in6 *peer, uint64_t now_ns, enum reason *why_not);

#endif
