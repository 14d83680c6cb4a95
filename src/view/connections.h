/* The connections that are open, as the workers told them (shm/roll.h): the answer to GET /connections.
 *
 * Process: the control process. The rows may hold anything.
 */
#ifndef AEGIS_VIEW_CONNECTIONS_H
#define AEGIS_VIEW_CONNECTIONS_H

#include <stdio.h>

#include "shm/layout.h"
#include "view/emit.h"
#include "view/naming.h"

/* Which ones are asked for. */
struct connections_filter {
	const char *listener; /* its name, or NULL */
	const char *server;   /* its name, or "upstream/name", or NULL */
	bool by_client;
	struct client_filter client;
};

/* One that is open, and with whom. */
struct roll_found {
	uint32_t seat;
	struct roll_row row;
};

must_check bool connections_has(const struct shm *shm, const struct connections_filter *filter, const struct roll_row *row);

/* One as an element of a list. */
void connections_emit(struct emit *emit, const struct shm *shm, uint32_t seat, const struct roll_row *row, uint64_t now_ns);

/* "elders": the masters before this one whose connections cannot be told one by one, for they are in another segment, and how many they
 * have. */
void connections_emit_elders(struct emit *emit, const struct shm *shm);
/* One of them that has connections, or NULL. */
must_check const struct shm_seat *connections_elder(const struct shm *shm);

#endif
