/* What must hold between the settings by which an upstream shields its servers: health, breaker, limits, the line. */
#include "config/check_parts.h"

/* What is looked at: an upstream, where it was written, and what it is called. */
struct shield {
	const struct check *check;
	struct upstream_config *upstream;
	const struct node *node;
	const char *prefix;
};

#define COMPLAIN(shield, key, ...) check_complain((shield)->check, (shield)->node, (shield)->prefix, (key), __VA_ARGS__)

/* Something can take a server out while Aegis runs. */
static bool can_go_down(const struct upstream_config *upstream)
{
	return upstream->health.type != HEALTH_TYPE_NONE || upstream->circuit_breaker.error_threshold > 0 || upstream->outlier.failures > 0;
}

/* Sets health.statuses. */
static void check_expect(const struct shield *shield, const struct node *health)
{
	const struct node *expect = node_find(health, "expect");
	const char *why = NULL;
	struct health_config *config = &shield->upstream->health;

	if (config->type == HEALTH_TYPE_TCP) {
		if (config->expected.count > 0 && node_find(health, "send") == NULL && node_find(health, "send_hex") == NULL)
			COMPLAIN(shield, "health.expect",
			        "is the answer to what send says, which is missing; write send = \"...\"; or send = \"\"; where the server "
			        "speaks "
			        "first (a status like \"2xx\" is only for type = \"http\" or \"https\")");
	} else if (config->type == HEALTH_TYPE_HTTP || config->type == HEALTH_TYPE_HTTPS) {
		if ((expect == NULL || expect->type == NODE_TEXT) && status_set_parse(config->expect, &config->statuses, &why) != 0)
			COMPLAIN(shield, "health.expect",
			        "is \"%.64s\": %s; write for example \"2xx\", \"200\" or \"200-399\", several with commas", config->expect,
			        why);
	}
}

/* What is said to servers, and awaited from them. */
static void check_talk(const struct shield *shield)
{
	const struct health_config *health = &shield->upstream->health;

	if (health->send[0] != '\0' && health->send_hex[0] != '\0')
		COMPLAIN(shield, "health.send_hex", "says the same as send in other words; leave one of the two out");
	if (health->expect[0] != '\0' && health->expect_hex[0] != '\0')
		COMPLAIN(shield, "health.expect_hex", "says the same as expect in other words; leave one of the two out");
	if (health->type != HEALTH_TYPE_UDP)
		return;
	if (health->silent && (health->expect[0] != '\0' || health->expect_hex[0] != '\0'))
		COMPLAIN(shield, "health.silent", "says that servers do not answer, and expect what they do; leave one of the two out");
	if (!health->silent && health->send[0] == '\0' && health->send_hex[0] == '\0')
		COMPLAIN(shield, "health",
		        "a check by udp needs something that servers answer; write send = \"...\"; or send_hex = \"...\"; or silent = "
		        "true; "
		        "where they never answer");
}

static void check_health(const struct shield *shield)
{
	const struct upstream_config *upstream = shield->upstream;
	const struct node *health = node_find(shield->node, "health");

	if (upstream->health.type == HEALTH_TYPE_NONE)
		return;
	check_expect(shield, health);
	check_talk(shield);
	if (upstream->health.fast_interval_ns > upstream->health.interval_ns)
		COMPLAIN(shield, "health.fast_interval", "is more than interval; write less, or leave it out");
	for (size_t i = 0; upstream->health.port != 0 && i < upstream->n_servers; i++) {
		const struct endpoint *endpoint = &upstream->servers[i].endpoint;
		if (endpoint->kind != ENDPOINT_ADDRESS || endpoint->addr.sa.sa_family != AF_UNIX)
			continue;
		COMPLAIN(shield, "health.port", "servers[%zu] (\"%.64s\") is a unix socket, which has no port; leave port out", i,
		        upstream->servers[i].address);
		break;
	}
}

static void check_limits(const struct shield *shield, bool *has_limit)
{
	const struct upstream_config *upstream = shield->upstream;
	const struct node *list = node_find(shield->node, "servers");

	*has_limit = false;
	for (size_t i = 0; i < upstream->n_servers; i++) {
		const struct server_config *server = &upstream->servers[i];
		const struct node *max = node_find(list->children[i], "max_connections");
		char own[128];
		*has_limit |= server->max_connections > 0 ||
		              (max != NULL && (max->type != NODE_NUMBER || max->number != 0)); /* one that is wrong was told */
		if (server->max_connections == 0 || server->soft_limit <= server->max_connections)
			continue;
		snprintf(own, sizeof own, "%s.servers[%zu]", shield->prefix, i);
		check_complain(shield->check, list->children[i], own, "soft_limit",
		        "is %u and max_connections is %u; write a soft_limit that is not more", server->soft_limit,
		        server->max_connections);
	}
}

static void check_queue(const struct shield *shield)
{
	const struct upstream_config *upstream = shield->upstream;
	bool waits = upstream->when_all_down == ALL_DOWN_WAIT, has_limit;

	check_limits(shield, &has_limit);
	if (upstream->queue.size > 0 && !has_limit && !waits && upstream->connect_rate_per_s == 0)
		COMPLAIN(shield, "queue",
		        "is a queue without a limit: nothing would ever make a client wait in it; write max_connections = N; for the "
		        "servers, or "
		        "connect_rate, or when_all_down = \"wait\", or leave queue out");
	if (waits && upstream->queue.size == 0)
		COMPLAIN(shield, "when_all_down", "is \"wait\", and there is no queue to wait in; write queue = { size = N; };");
	if (upstream->connect_burst > 0 && upstream->connect_rate_per_s == 0 && node_find(shield->node, "connect_rate") == NULL)
		COMPLAIN(shield, "connect_burst", "is beyond the pace of connect_rate, which is missing; write connect_rate = \"N/s\";");
}

/* Settings that say what happens when a server goes down or comes back. */
static void check_down(const struct shield *shield)
{
	static const char why[] = "and nothing here can tell that a server is down; write health = { ... };, circuit_breaker = { ... }; or "
	                          "outlier = { ... };, or leave it out";
	const struct upstream_config *upstream = shield->upstream;

	if (upstream->on_down == ON_DOWN_CLOSE && upstream->health.type == HEALTH_TYPE_NONE)
		COMPLAIN(shield, "on_down", "is \"close\", and nothing checks the servers; write health = { ... };, or leave it out");
	if (can_go_down(upstream))
		return;
	if (upstream->slow_start_ns > 0)
		COMPLAIN(shield, "slow_start", "is for servers that come back, %s", why);
	if (upstream->when_all_down == ALL_DOWN_WAIT)
		COMPLAIN(shield, "when_all_down", "is \"wait\", %s", why);
}

void check_shield(const struct check *check, struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	const struct shield shield = { .check = check, .upstream = upstream, .node = node, .prefix = prefix };

	check_health(&shield);
	check_queue(&shield);
	check_down(&shield);
}
