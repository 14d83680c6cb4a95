/* A group of servers, as a worker sees it, and the choice among them.
 *
 * Process: a worker; one struct upstream per upstream of the settings. What holds over all workers (connections per server) is
 *          in shared memory.
 * Owner:   whoever takes a server holds one of its connections until upstream_give_back().
 */
#ifndef AEGIS_UPSTREAM_UPSTREAM_H
#define AEGIS_UPSTREAM_UPSTREAM_H

#include "base/log.h"
#include "config/config.h"
#include "policy/balance.h"
#include "shm/limit.h"
#include "upstream/pool.h"

struct server {
	const struct server_config *config;
	struct server_row *row; /* this worker's counters */
	uint32_t limit;         /* its connections over all workers */
	uint32_t next_addr;     /* of config->addrs: moves on when one fails */
	struct pool *pool;      /* of connections that are ready; NULL = none */
	struct log_gate gate;
};

struct upstream {
	const struct upstream_config *config;
	struct shm *shm;
	uint32_t seat;
	struct balance balance;
	struct balance_entry *entries;
	struct server *servers; /* [config->n_servers] */
	struct pool *pools;     /* [config->n_servers], or NULL */
};

/* rows are the places of the servers in shared memory; start turns the rotation. boxes: NULL, or
 * [config->n_servers], those of servers that share. 0 or -ENOMEM. */
must_check int upstream_init(struct upstream *upstream, const struct upstream_config *config, const uint32_t *rows, struct shm *shm,
        uint32_t seat, uint32_t start, struct pools *pools, const struct box *boxes);
/* After pools_close(). */
void upstream_fini(struct upstream *upstream);

/* Choose a server and hold a connection of it. tried are those that failed for this connection (see balance.h). hot: NULL, or where to put
 * a connection that is ready (hot->conn is NULL where none is). NULL when no server can be used. */
must_check struct server *upstream_take(struct upstream *upstream, const uint16_t *tried, uint32_t n_tried, struct hot_conn *hot);
void upstream_give_back(struct upstream *upstream, struct server *server);
/* The same with the connection itself, for another client. False when the pool has no place: it stays the caller's, as does the server. */
must_check bool upstream_keep(struct upstream *upstream, struct server *server, const struct hot_conn *hot);

/* The index of a server, for `tried`. */
static inline uint16_t upstream_index(const struct upstream *upstream, const struct server *server)
{
	return (uint16_t)(server - upstream->servers);
}

/* The address to dial now; NULL when none is known. */
const struct addr *server_addr(const struct server *server);
/* A connect to server_addr() failed: the next attempt takes the next address of the name. */
void server_addr_failed(struct server *server);

#endif
