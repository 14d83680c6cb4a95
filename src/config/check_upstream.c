/* What must hold inside of an upstream. */
#include "config/check_parts.h"

static void check_servers(const struct check *check, const struct upstream_config *upstream, const struct node *list, const char *prefix)
{
	struct names names = names_of(upstream->n_servers);
	bool has_main = false, has_weight = false, has_usable = false;

	for (size_t i = 0; i < upstream->n_servers; i++) {
		const struct server_config *server = &upstream->servers[i];
		char own[128];
		if (list->children[i]->type != NODE_GROUP)
			continue; /* told already */
		snprintf(own, sizeof own, "%s.servers[%zu]", prefix, i);
		has_main |= !server->backup;
		has_weight |= server->weight > 0;
		has_usable |= server->weight > 0 && !server->disabled;
		if (server->name == NULL)
			continue;
		check_derived_name(check, list->children[i], own, server->name, ADDR_TEXT_SIZE - 1);
		check_unique(check, &names, server->name, i, list, "servers", own);
	}
	names_fini(&names);
	if (!has_main)
		check_complain(check, list, prefix, "servers", "all are backups; one at least must not be: leave backup out there");
	if (!has_weight)
		check_complain(check, list, prefix, "servers",
		        "all have weight 0: no server could ever get a connection; give one at least a weight");
	else if (!has_usable)
		check_complain(check, list, prefix, "servers",
		        "all are disabled or have weight 0: no server could ever get a connection; enable one at least that has a weight");
}

/* Where the pool of an upstream keeps connections, it must be able to tell when it may. Adds up how many servers share theirs. */
static void check_pool(
        const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix, size_t *shared)
{
	const struct node *pool = node_find(node, "pool");
	char own[128];

	if (pool == NULL)
		return;
	snprintf(own, sizeof own, "%s.pool", prefix);
	if (upstream->pool.keep > 0 && upstream->pool.framing == POOL_FRAMING_NONE)
		check_complain(check, pool, own, "keep",
		        "needs a framing that tells when a connection is free for another client: write framing = \"http1\", \"redis\" or "
		        "\"line\", or keep = 0");
	if (upstream->pool.share && upstream->pool.keep == 0)
		check_complain(check, pool, own, "share",
		        "shares the connections that keep allows, and keep is 0; write how many, or leave share out");
	if (upstream->pool.share && *shared <= CONFIG_MAX_SHARED && (*shared += upstream->n_servers) > CONFIG_MAX_SHARED)
		check_complain(check, pool, own, "share",
		        "more than %d servers share their connections; leave share out where it matters least", CONFIG_MAX_SHARED);
}

void check_upstreams(const struct check *check, struct names *names)
{
	const struct config *config = check->config;
	size_t servers = 0, shared = 0;

	for (size_t i = 0; i < config->n_upstreams; i++) {
		struct upstream_config *upstream = &config->upstreams[i];
		const struct node *node = check->upstreams->children[i];
		char prefix[64];
		snprintf(prefix, sizeof prefix, "upstreams[%zu]", i);
		if (upstream->name != NULL)
			check_unique(check, names, upstream->name, i, check->upstreams, "upstreams", prefix);
		if (upstream->n_servers > 0)
			check_servers(check, upstream, node_find(node, "servers"), prefix);
		check_pool(check, upstream, node, prefix, &shared);
		if (node->type == NODE_GROUP)
			check_shield(check, upstream, node, prefix);
		if (node->type == NODE_GROUP)
			check_source(check, upstream, node, prefix);
		if (node->type == NODE_GROUP)
			check_upstream_tls(check, upstream, node, prefix);
		servers += upstream->n_servers;
	}
	ensure(servers <= CONFIG_MAX_SERVERS);
}
