/* Which address of a server is dialled. */
#include <errno.h>
#include <stdlib.h>

#include "upstream/upstream.h"

int server_init_addrs(struct server *server, const struct addresses *shared)
{
	server->addrs = server->config->addrs;
	server->n_addrs = server->config->n_addrs;
	if (server->config->endpoint.kind != ENDPOINT_NAME)
		return 0;
	server->name = calloc(1, sizeof *server->name);
	if (!server->name)
		return -ENOMEM;
	server->name->shared = shared;
	return 0;
}

/* The one that was to be dialled next stays so where it is among the new ones. */
static uint32_t place_of(const struct addr *addr, const struct addr *among, size_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (addr && addr_equal(addr, &among[i]))
			return i;
	return 0;
}

static const struct addr *next_of(const struct server *server)
{
	return server->n_addrs ? &server->addrs[server->next_addr] : NULL;
}

static void take_newer(struct server *server)
{
	struct server_name *name = server->name;
	struct addr *set = name->sets[1 - name->set];
	size_t n;
	if (!addresses_read(name->shared, &name->sequence, set, &n))
		return;
	server->next_addr = place_of(next_of(server), set, n);
	server->addrs = set;
	server->n_addrs = n;
	name->set = 1 - name->set;
}

const struct addr *server_addr(struct server *server)
{
	if (server->name && unlikely(addresses_moved(server->name->shared, server->name->sequence)))
		take_newer(server);
	return next_of(server);
}

void server_addr_failed(struct server *server)
{
	server->next_addr = server->next_addr + 1 < server->n_addrs ? server->next_addr + 1 : 0;
}
