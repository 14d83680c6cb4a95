/* What must hold of the address that connections to servers come from. */
#include <string.h>

#include "config/check_parts.h"

/* An address by itself, as it stands in front of a port. */
static bool parse_address(const char *text, struct addr *out)
{
	char with_port[128];
	struct endpoint endpoint;
	const char *why;

	snprintf(with_port, sizeof with_port, strchr(text, ':') != NULL ? "[%s]:1" : "%s:1", text);
	if (endpoint_parse(with_port, &endpoint, &why) || endpoint.kind != ENDPOINT_ADDRESS || endpoint.addr.sa.sa_family == AF_UNIX ||
	        addr_is_any(&endpoint.addr))
		return false;
	*out = endpoint.addr;
	addr_set_port(out, 0);
	return true;
}

static const char *family_words(const struct addr *addr)
{
	return addr->sa.sa_family == AF_INET ? "IPv4" : "IPv6";
}

static void check_servers(const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	const struct node *servers = node_find(node, "servers");

	for (size_t i = 0; i < upstream->n_servers; i++) {
		const struct server_config *server = &upstream->servers[i];
		const struct addr *addr = &server->endpoint.addr;
		char own[128];
		snprintf(own, sizeof own, "%s.servers[%zu]", prefix, i);
		if (server->endpoint.kind != ENDPOINT_ADDRESS)
			continue;
		if (addr->sa.sa_family == AF_UNIX)
			check_complain(check, servers->children[i], own, "address",
			        "\"%.64s\" is a unix socket, and source is for connections over IP; write HOST:PORT, or leave source out",
			        server->address);
		else if (upstream->source_kind == SOURCE_ADDRESS && addr->sa.sa_family != upstream->source_addr.sa.sa_family)
			check_complain(check, servers->children[i], own, "address",
			        "is %s, and source is %s, from where it cannot be reached; give it an upstream of its own",
			        family_words(addr), family_words(&upstream->source_addr));
	}
}

void check_source(const struct check *check, struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	if (upstream->source == NULL || upstream->source[0] == '\0')
		return;
	if (strcmp(upstream->source, "client") == 0)
		upstream->source_kind = SOURCE_CLIENT;
	else if (parse_address(upstream->source, &upstream->source_addr))
		upstream->source_kind = SOURCE_ADDRESS;
	else {
		check_complain(check, node, prefix, "source",
		        "\"%.64s\" is not an address; write an IPv4 or IPv6 address of this machine without a port, or \"client\"",
		        upstream->source);
		return;
	}
	if (upstream->source_kind == SOURCE_CLIENT && (upstream->pool.warm > 0 || upstream->pool.keep > 0))
		check_complain(check, node, prefix, "source",
		        "is \"client\", a connection for each, and pool.%s has connections without one; leave out one of the two",
		        upstream->pool.keep > 0 ? "keep" : "warm");
	check_servers(check, upstream, node, prefix);
}
