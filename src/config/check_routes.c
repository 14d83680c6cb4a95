/* What must hold for the routes of a listener. */
#include <arpa/inet.h>
#include <string.h>

#include "base/host_name.h"
#include "config/check_parts.h"

static bool is_address(const char *name)
{
	unsigned char bytes[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, name, bytes) == 1 || strchr(name, ':') != NULL || name[0] == '[';
}

/* NULL, or why no client can ask for it. The name was folded when it is one. */
static const char *why_no_name(const char *name)
{
	char copy[HOST_NAME_LONGEST + 1];
	const char *below = strncmp(name, "*.", 2) == 0 ? name + 2 : name;
	size_t length = strlen(below);

	if (strcmp(name, "*") == 0)
		return "what no other route is for goes to the upstream of the listener; write upstream there, and leave this route out";
	if (name[0] == '.')
		return "write a star before the dot for all names below it";
	if (is_address(name))
		return "it is an address, and clients ask for names only";
	if (strchr(below, '*') != NULL)
		return "a star stands for whole labels at the beginning: \"*.example.org\"";
	for (const char *at = name; *at != '\0'; at++)
		if ((unsigned char)*at >= 0x80)
			return "names in other scripts are written in punycode (xn--...), as clients send them";
	if (length > HOST_NAME_LONGEST)
		return "it is longer than 255 bytes";
	memcpy(copy, below, length + 1);
	return host_name_fold(copy, length) > 0 ? NULL : "it is no name of a host";
}

/* Clients that wait for a word of the server never say who they want. */
static void check_who_speaks_first(const struct check *check, const struct node *node, const char *prefix, size_t upstream)
{
	if (check->config->upstreams[upstream].health.type == HEALTH_TYPE_MYSQL)
		check_complain(check, node, prefix, "upstream",
		        "\"%.64s\" has servers of MySQL (health), which speak before their clients do, and with sni clients speak first; "
		        "give "
		        "them a listener without sni",
		        check->config->upstreams[upstream].name);
}

static void check_route(
        const struct check *check, struct route_config *route, const struct node *node, const char *prefix, const struct names *upstreams)
{
	const char *why = route->name[0] != '\0' ? why_no_name(route->name) : NULL;
	size_t index;

	if (why != NULL)
		check_complain(check, node, prefix, "name", "\"%.64s\" is not right: %s", route->name, why);
	if (route->name[0] == '\0' && route->alpn[0] == '\0')
		check_complain(check, node, prefix, "name", "is missing; write name = \"www.example.org\"; or alpn = \"PROTOCOL\";");
	if (route->upstream_name == NULL || check->config->n_upstreams == 0)
		return; /* told already */
	if (names_find(upstreams, route->upstream_name, &index)) {
		route->upstream = (uint32_t)index;
		check_who_speaks_first(check, node, prefix, index);
	} else {
		check_complain_no_upstream(check, node, prefix, route->upstream_name);
	}
}

void check_routes(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix,
        const struct names *upstreams)
{
	const struct node *list = node_find(node, "sni");
	struct names names = names_of(listener->n_routes);
	char own[96], place[512];

	if (listener->n_routes == 0 && node_find(node, "client_hello") != NULL)
		check_complain(check, node, prefix, "client_hello", "is for sni, and there is none; leave it out, or write sni = ( ... );");
	if (listener->n_routes > 0 && listener->upstream != CONFIG_NO_UPSTREAM)
		check_who_speaks_first(check, node, prefix, listener->upstream);
	if (listener->n_routes > 0 && listener->tcp.receive_buffer_bytes > 0 &&
	        listener->client_hello.most_bytes > listener->tcp.receive_buffer_bytes)
		check_complain(check, node, prefix, "client_hello.max",
		        "is more than tcp.receive_buffer, in which a hello waits until it is complete; write a smaller one, or a larger "
		        "buffer");
	for (size_t i = 0; i < listener->n_routes; i++) {
		struct route_config *route = &listener->routes[i];
		route->upstream = CONFIG_NO_UPSTREAM;
		if (list->children[i]->type != NODE_GROUP)
			continue; /* told already */
		snprintf(own, sizeof own, "%s.sni[%zu]", prefix, i);
		check_route(check, route, list->children[i], own, upstreams);
		if (route->label[0] == '\0')
			continue;
		size_t other = names_add(&names, route->label, i);
		if (other != i)
			check_complain(check, list->children[i], own, route->name[0] != '\0' ? "name" : "alpn",
			        "\"%.64s\" has a route in sni[%zu] already%s; leave one of the two out", route->label, other,
			        check_place_of(list->children[other], place, sizeof place));
	}
	names_fini(&names);
}
