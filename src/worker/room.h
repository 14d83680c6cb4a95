/* How many connections, buffers and pipes a worker makes room for, and what they cost at most: by the settings and by what it may open.
 * Nothing of it is used before it is needed. The worker goes by it when it starts; `aegis -p` tells it before.
 */
#ifndef AEGIS_WORKER_ROOM_H
#define AEGIS_WORKER_ROOM_H

#include "config/config.h"

struct worker_room {
	uint32_t sessions; /* of TCP */
	uint32_t flows;    /* sessions of UDP */
	uint32_t hot;      /* connections beyond those of sessions */
	size_t buffers;    /* for slow readers */
	unsigned pipes;
	unsigned ring_buffers; /* where the engine is a ring */
};

/* workers: of the generation; descriptors: the limit in force; sockets: to accept from, and bells, that it has. */
void worker_make_room(
        struct worker_room *out, const struct config *config, uint32_t workers, uint64_t descriptors, uint64_t sockets, uint64_t bells);

/* Descriptors of a TCP connection, of a UDP session, or of one each where there are listeners of both. */
uint32_t worker_descriptors_each(const struct config *config);

/* Descriptors that a worker needs for as many connections as there may be, and some for itself. */
uint64_t worker_wanted_descriptors(const struct config *config);

/* What a worker takes for all that, without its sessions: see tcp_connection_bytes() for each of those. */
uint64_t worker_room_bytes(const struct worker_room *room, const struct config *config);

#endif
