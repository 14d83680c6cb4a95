/* What must hold where proxies tell of clients. */
#include <stddef.h>

#include "config/check_parts.h"

/* Of which everybody on the machine may be a peer: it has no permissions. */
static bool is_abstract(const struct addr *addr)
{
	return addr->length > offsetof(struct sockaddr_un, sun_path) && addr->un.sun_path[0] == '\0';
}

static bool is_unix(const struct listener_config *listener)
{
	return listener->endpoint.kind == ENDPOINT_ADDRESS && listener->endpoint.addr.sa.sa_family == AF_UNIX;
}

void check_accept_proxy(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	if (!listener->accept_proxy.enabled || listener->protocol != PROTOCOL_TCP)
		return;
	if (is_unix(listener) && listener->accept_proxy.n_from > 0)
		check_complain(check, node, prefix, "accept_proxy.from",
		        "peers of a unix socket have no IP address; leave it out, and set the permissions of the socket's folder");
	if (is_unix(listener) && is_abstract(&listener->endpoint.addr))
		check_complain(check, node, prefix, "accept_proxy",
		        "everybody on this machine can connect to a socket without a path, and would be believed; write address = "
		        "\"unix:/PATH\"");
	if (listener->endpoint.kind != ENDPOINT_NONE && !is_unix(listener) && listener->accept_proxy.n_from == 0)
		check_complain(check, node, prefix, "accept_proxy",
		        "nobody may tell who the client is; write from = [ \"10.0.0.0/8\" ] with the addresses of your proxies");
}

void check_send_proxy(
        const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix, bool tcp, bool udp)
{
	if (upstream->send_proxy == SEND_PROXY_OFF)
		return;
	if (udp && upstream->send_proxy == SEND_PROXY_V1)
		check_complain(check, node, prefix, "send_proxy",
		        "is \"v1\", which has no word for datagrams, and a UDP listener uses this upstream; write \"v2\" or \"v2-each\"");
	if (tcp && upstream->send_proxy == SEND_PROXY_V2_EACH)
		check_complain(check, node, prefix, "send_proxy",
		        "is \"v2-each\", which is for datagrams, and a TCP listener uses this upstream; write \"v2\"");
	if (udp && !tcp && (upstream->send_proxy_unique_id || upstream->send_proxy_traceparent))
		check_complain(check, node, prefix, upstream->send_proxy_unique_id ? "send_proxy_unique_id" : "send_proxy_traceparent",
		        "is for connections, and only UDP listeners use this upstream; leave it out");
	if (upstream->pool.warm > 0 || upstream->pool.keep > 0)
		check_complain(check, node, prefix, "send_proxy",
		        "tells of one client for each connection, and pool.%s has connections without one; leave out one of the two",
		        upstream->pool.keep > 0 ? "keep" : "warm");
}
