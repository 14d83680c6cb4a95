/* What must hold where datagrams come in. */
#include <string.h>

#include "config/check_parts.h"

static bool is_unix(const struct endpoint *endpoint)
{
	return endpoint->kind == ENDPOINT_ADDRESS && endpoint->addr.sa.sa_family == AF_UNIX;
}

void check_udp_listener(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	bool twice = node_find(node_find(node, "udp"), "idle") != NULL && node_find(node_find(node, "timeout"), "idle") != NULL;

	if (listener->protocol != PROTOCOL_UDP)
		return;
	if (is_unix(&listener->endpoint))
		check_complain(check, node, prefix, "address",
		        "\"%.64s\" is a unix socket, and protocol = \"udp\" needs an IP address; write HOST:PORT", listener->address);
	if (listener->timeout.idle_ns == 0)
		check_complain(check, node, prefix, "timeout.idle",
		        "is 0, and nothing but silence tells that the client of a UDP session is gone; write how long, for example "
		        "\"60s\"");
	else if (twice && listener->timeout.idle_ns != listener->udp.idle_ns)
		check_complain(check, node, prefix, "udp.idle", "and timeout.idle are the same, and say two things; leave one of them out");
}

/* An upstream of UDP listeners alone: what is only for connections has no use. By value and not by what was written: the settings in force
 * are written down in full, and read again. */
static void check_no_connections(
        const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	static const char why[] = "and only UDP listeners use this upstream";

	if (upstream->pool.warm > 0 || upstream->pool.keep > 0 || upstream->pool.framing != POOL_FRAMING_NONE)
		check_complain(check, node, prefix, "pool", "is for connections, %s; leave it out", why);
	if (upstream->queue.size > 0)
		check_complain(check, node, prefix, "queue",
		        "is a line of clients that wait, %s: datagrams that find no place are dropped; leave it out", why);
	if (upstream->when_all_down == ALL_DOWN_WAIT)
		check_complain(check, node, prefix, "when_all_down",
		        "is \"wait\", %s: datagrams do not wait; write \"refuse\", which drops them, or \"any\"", why);
	if (upstream->start_test != START_TEST_OFF)
		check_complain(check, node, prefix, "start_test",
		        "tries to connect by TCP, %s; write \"off\", and health = { type = \"udp\"; ... } to have servers checked", why);
	if (upstream->timeout.read_ns > 0)
		check_complain(check, node, prefix, "timeout.read", "is for connections, %s; write udp.idle for the listeners", why);
	if (upstream->tls.enabled)
		check_complain(check, node, prefix, "tls",
		        "encrypts connections, %s: datagrams would go as they are; leave it out, or write enabled = false; in it where it "
		        "is for "
		        "checks alone",
		        why);
}

static void check_servers(const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	const struct node *servers = node_find(node, "servers");

	for (size_t i = 0; i < upstream->n_servers; i++) {
		char own[128];
		if (!is_unix(&upstream->servers[i].endpoint))
			continue;
		snprintf(own, sizeof own, "%s.servers[%zu]", prefix, i);
		check_complain(check, servers->children[i], own, "address",
		        "\"%.64s\" is a unix socket, and a UDP listener uses this upstream; write HOST:PORT, or give that listener another "
		        "upstream",
		        upstream->servers[i].address);
	}
}

void check_protocols(const struct check *check, size_t index, bool tcp, bool udp)
{
	const struct upstream_config *upstream = &check->config->upstreams[index];
	const struct node *node = check->upstreams->children[index];
	char prefix[64];

	if (node->type != NODE_GROUP)
		return; /* told already */
	snprintf(prefix, sizeof prefix, "upstreams[%zu]", index);
	if (udp)
		check_servers(check, upstream, node, prefix);
	if (udp && !tcp)
		check_no_connections(check, upstream, node, prefix);
	check_send_proxy(check, upstream, node, prefix, tcp, udp);
	if (tcp && !udp && upstream->lame_duck)
		check_complain(
		        check, node, prefix, "lame_duck", "is for UDP sessions, and no UDP listener uses this upstream; leave it out");
	if (upstream->health.type == HEALTH_TYPE_UDP && !udp)
		for (size_t i = 0; i < upstream->n_servers; i++)
			if (is_unix(&upstream->servers[i].endpoint)) {
				check_complain(check, node, prefix, "health.type",
				        "is \"udp\", and servers[%zu] (\"%.64s\") is a unix socket; write another type", i,
				        upstream->servers[i].address);
				break;
			}
}
