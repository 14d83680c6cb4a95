/* Sums over all seats of what the workers count, for whoever reads: aegis-stat and the master's status line.
 *
 * The writers go on meanwhile, and nothing is locked: each counter is read whole, but two of one sum may be some connections
 * apart. Since all only grow, a sum is never less than it was at an earlier reading. Only rows and seats that were ever used
 * are looked at (the rest would cost memory), and never more than there is room for, whatever a file claims.
 */
#ifndef AEGIS_SHM_SUMS_H
#define AEGIS_SHM_SUMS_H

#include "shm/layout.h"

struct listener_sum {
#define X(field, metric, help) uint64_t field;
	LISTENER_COUNTERS(X)
#undef X
	uint64_t closes[N_REASONS];
#define X(field, metric, help) struct histogram_sum field;
	LISTENER_HISTOGRAMS(X)
#undef X
};

struct server_sum {
#define X(field, metric, help) uint64_t field;
	SERVER_COUNTERS(X)
	SERVER_GAUGES(X)
#undef X
};

/* The rows to look at, in use or retired: 0..n-1. */
uint32_t sums_n_listeners(const struct shm *shm);
uint32_t sums_n_certificates(const struct shm *shm);
uint32_t sums_n_servers(const struct shm *shm);
uint32_t sums_n_upstreams(const struct shm *shm);

/* Add one row, of all seats, to a sum (which starts as zeros). */
void sums_add_listener(const struct shm *shm, uint32_t listener, struct listener_sum *sum);
void sums_add_server(const struct shm *shm, uint32_t server, struct server_sum *sum);

/* The closes of one class. */
uint64_t sums_closes(const struct listener_sum *sum, enum reason_class class);

#endif
