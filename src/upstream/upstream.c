#include "upstream/upstream.h"

#include <errno.h>

static uint32_t server_load(const void *arg, uint32_t entry)
{
	const struct upstream *upstream = arg;
	const struct server *server = &upstream->servers[entry];
	/* Those that wait for a client are no load; of the other workers' ones this one knows nothing. */
	uint32_t used = limit_used(upstream->shm, server->limit);
	uint32_t hot = server->pool ? pool_holds(server->pool) : 0;
	return used > hot ? used - hot : 0;
}

static int init_pools(struct upstream *upstream, const uint32_t *rows, struct pools *pools, const struct box *boxes)
{
	const struct upstream_config *config = upstream->config;
	if (config->pool.warm == 0 && config->pool.keep == 0)
		return 0;
	upstream->pools = calloc(config->n_servers, sizeof *upstream->pools);
	if (!upstream->pools)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_servers; i++) {
		upstream->servers[i].pool = &upstream->pools[i];
		pool_init(&upstream->pools[i], pools, &upstream->servers[i], config, &upstream->shm->servers[rows[i]],
		        boxes ? &boxes[i] : NULL);
	}
	return 0;
}

int upstream_init(struct upstream *upstream, const struct upstream_config *config, const uint32_t *rows, struct shm *shm, uint32_t seat,
        uint32_t start, struct pools *pools, const struct box *boxes)
{
	size_t n = config->n_servers;
	*upstream = (struct upstream){ .config = config, .shm = shm, .seat = seat };
	upstream->servers = calloc(n, sizeof *upstream->servers);
	upstream->entries = calloc(n, sizeof *upstream->entries);
	if (!upstream->servers || !upstream->entries) {
		upstream_fini(upstream);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		const struct server_config *server = &config->servers[i];
		upstream->servers[i] =
		        (struct server){ .config = server, .row = shm_server_row(shm, seat, rows[i]), .limit = limit_server(shm, rows[i]) };
		upstream->entries[i] =
		        (struct balance_entry){ .weight = server->weight, .backup = server->backup, .disabled = server->disabled };
	}
	bool least = config->balance == BALANCE_LEAST_CONNECTIONS;
	int error = balance_init(&upstream->balance, least ? BALANCE_BY_LEAST_CONNECTIONS : BALANCE_BY_ROUND_ROBIN, upstream->entries,
	        (uint32_t)n, start, server_load, upstream);
	if (!error)
		error = init_pools(upstream, rows, pools, boxes);
	if (error)
		upstream_fini(upstream);
	return error;
}

void upstream_fini(struct upstream *upstream)
{
	balance_fini(&upstream->balance);
	free(upstream->pools);
	free(upstream->servers);
	free(upstream->entries);
	*upstream = (struct upstream){ 0 };
}

struct server *upstream_take(struct upstream *upstream, const uint16_t *tried, uint32_t n_tried, struct hot_conn *hot)
{
	int chosen = balance_choose(&upstream->balance, tried, n_tried);
	if (chosen < 0)
		return NULL;
	struct server *server = &upstream->servers[chosen];
	bool ready = hot && server->pool && pool_take(server->pool, hot); /* which comes with its place in the limit */
	if (!ready && !limit_reserve(upstream->shm, upstream->seat, server->limit))
		return NULL;
	balance_changed(&upstream->balance, (uint32_t)chosen);
	return server;
}

void upstream_give_back(struct upstream *upstream, struct server *server)
{
	limit_release(upstream->shm, upstream->seat, server->limit);
	balance_changed(&upstream->balance, upstream_index(upstream, server));
}

bool upstream_keep(struct upstream *upstream, struct server *server, const struct hot_conn *hot)
{
	bool kept = pool_give_back(server->pool, hot);
	if (kept)
		balance_changed(&upstream->balance, upstream_index(upstream, server));
	return kept;
}

const struct addr *server_addr(const struct server *server)
{
	return server->config->n_addrs ? &server->config->addrs[server->next_addr] : NULL;
}

void server_addr_failed(struct server *server)
{
	server->next_addr = server->next_addr + 1 < server->config->n_addrs ? server->next_addr + 1 : 0;
}
