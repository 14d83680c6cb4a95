#include "upstream/upstream.h"

#include <errno.h>

static uint32_t server_load(const void *arg, uint32_t entry)
{
	const struct upstream *upstream = arg;
	return limit_used(upstream->shm, upstream->servers[entry].limit);
}

int upstream_init(struct upstream *upstream, const struct upstream_config *config, const uint32_t *rows, struct shm *shm, uint32_t seat,
        uint32_t start)
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
	balance_init(
	        &upstream->balance, least ? BALANCE_BY_LEAST_CONNECTIONS : BALANCE_BY_ROUND_ROBIN, upstream->entries, (uint32_t)n, start);
	upstream->balance.load = server_load;
	upstream->balance.load_arg = upstream;
	return 0;
}

void upstream_fini(struct upstream *upstream)
{
	free(upstream->servers);
	free(upstream->entries);
	*upstream = (struct upstream){ 0 };
}

struct server *upstream_take(struct upstream *upstream, const uint16_t *tried, uint32_t n_tried)
{
	int chosen = balance_choose(&upstream->balance, tried, n_tried);
	if (chosen < 0)
		return NULL;
	struct server *server = &upstream->servers[chosen];
	return limit_reserve(upstream->shm, upstream->seat, server->limit) ? server : NULL;
}

void upstream_give_back(struct upstream *upstream, struct server *server)
{
	limit_release(upstream->shm, upstream->seat, server->limit);
}

const struct addr *server_addr(const struct server *server)
{
	return server->config->n_addrs ? &server->config->addrs[server->next_addr] : NULL;
}

void server_addr_failed(struct server *server)
{
	server->next_addr = server->next_addr + 1 < server->config->n_addrs ? server->next_addr + 1 : 0;
}
