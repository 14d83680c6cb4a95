/* A worker process: moves the bytes of its share of the connections. Shared-nothing, pinned to a CPU, without privileges; it never
 * waits for another process.
 *
 * States: starting -> (READY) -> waiting -> (GO) -> running -> (DRAIN or REFUSE) -> draining -> exit.
 * When the master goes away, the worker refuses new clients, drains and exits: it never outlives its connections.
 */
#ifndef AEGIS_WORKER_WORKER_H
#define AEGIS_WORKER_WORKER_H

#include "config/config.h"
#include "net/listener.h"
#include "os/privileges.h"
#include "tcp/tcp.h"
#include "tls/tickets.h"
#include "udp/transfer.h"

struct worker_args {
	const struct config *config;
	struct listener *const *listeners; /* [config->n_listeners] */
	struct house_places places;
	struct shm *shm;
	uint32_t seat;
	uint32_t slot;    /* 0..workers-1 */
	uint32_t workers; /* of the generation */
	uint32_t generation;
	int cpu; /* to pin to, -1 = none */
	int channel;
	struct udp_post post; /* to workers that have UDP sessions */
	int32_t master;       /* pid */
	const struct identity *identity;
	int vault;                     /* certificates and keys (tls/vault.h); -1 = none are needed */
	const struct tickets *tickets; /* keys of session tickets */
	uint64_t descriptors;          /* the limit in force */
};

/* Is a socket of a listener this worker's to accept from? */
static inline bool worker_serves(const struct listener *listener, uint32_t fd_index, uint32_t slot, uint32_t workers)
{
	return !listener->per_slot || fd_index % workers == slot;
}

/* The life of a worker, in the forked process: returns its exit status. */
must_check int worker_run(const struct worker_args *args);

#endif
