#include "config/check.h"

#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "config/names.h"
#include "config/value.h"

struct check {
	struct config *config;
	struct config_errors *errors;
	const struct node *listeners, *upstreams; /* lists of as many children as the struct has elements */
};

/* About key (or, where that is NULL, all) of the element that node describes and prefix names. */
static void complain(const struct check *check, const struct node *node, const char *prefix, const char *key, const char *format, ...)
        printf_like(5, 6);
static void complain(const struct check *check, const struct node *node, const char *prefix, const char *key, const char *format, ...)
{
	const struct node *child = key != NULL ? node_find(node, key) : NULL;
	char path[192], problem[768];
	va_list args;

	va_start(args, format);
	if (vsnprintf(problem, sizeof problem, format, args) < 0)
		problem[0] = '\0';
	va_end(args);
	if (child != NULL)
		node = child;
	snprintf(path, sizeof path, "%s%s%s", prefix, key != NULL ? "." : "", key != NULL ? key : "");
	config_errors_add(check->errors, node->file, node->line, path, "%s", problem);
}

static void set_prefix(char *out, size_t size, const char *list, size_t index)
{
	snprintf(out, size, "%s[%zu]", list, index);
}

/* A name that was made from the address keeps the rules too. */
static void check_derived_name(const struct check *check, const struct node *node, const char *prefix, const char *name, size_t max)
{
	if (node_find(node, "name") != NULL)
		return;
	const char *why = strlen(name) > max ? "it is too long" : value_why_no_name(name);
	if (why != NULL)
		complain(check, node, prefix, "name", "the address cannot be the name: %s; add name = \"NAME\";", why);
}

/* " (FILE:LINE)" of another element, or nothing where it is from the command line. */
static const char *place_of(const struct node *node, char *out, size_t size)
{
	out[0] = '\0';
	if (node->file != NULL && node->line > 0)
		snprintf(out, size, " (%s:%d)", node->file, node->line);
	return out;
}

/* name is new in names, or an error is added. list is the nodes of all that have names there, which is called key. */
static void check_unique(const struct check *check, struct names *names, const char *name, size_t index, const struct node *list,
        const char *key, const char *prefix)
{
	size_t other = names_add(names, name, index);
	char place[512];

	if (other != index)
		complain(check, list->children[index], prefix, "name", "\"%.64s\" is the name of %s[%zu] too%s; give each its own name",
		        name, key, other, place_of(list->children[other], place, sizeof place));
}

/* --- servers --------------------------------------------------------------------------------------------------------------- */

static void check_servers(const struct check *check, const struct upstream_config *upstream, const struct node *list, const char *prefix)
{
	struct names names = names_of(upstream->n_servers);
	bool has_main = false, has_weight = false;

	for (size_t i = 0; i < upstream->n_servers; i++) {
		const struct server_config *server = &upstream->servers[i];
		char own[128];
		if (list->children[i]->type != NODE_GROUP)
			continue; /* told already */
		snprintf(own, sizeof own, "%s.servers[%zu]", prefix, i);
		has_main |= !server->backup;
		has_weight |= server->weight > 0;
		if (server->name == NULL)
			continue;
		check_derived_name(check, list->children[i], own, server->name, ADDR_TEXT_SIZE - 1);
		check_unique(check, &names, server->name, i, list, "servers", own);
	}
	names_fini(&names);
	if (!has_main)
		complain(check, list, prefix, "servers", "all are backups; one at least must not be: leave backup out there");
	if (!has_weight)
		complain(check, list, prefix, "servers", "all have weight 0, so none would get a connection; give one at least a weight");
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
		complain(check, pool, own, "keep",
		        "needs a framing that tells when a connection is free for another client: write framing = \"http1\", \"redis\" or "
		        "\"line\", or keep = 0");
	if (upstream->pool.share && upstream->pool.keep == 0)
		complain(check, pool, own, "share",
		        "shares the connections that keep allows, and keep is 0; write how many, or leave share out");
	if (upstream->pool.share && *shared <= CONFIG_MAX_SHARED && (*shared += upstream->n_servers) > CONFIG_MAX_SHARED)
		complain(check, pool, own, "share", "more than %d servers share their connections; leave share out where it matters least",
		        CONFIG_MAX_SHARED);
}

static void check_upstreams(const struct check *check, struct names *names)
{
	const struct config *config = check->config;
	size_t servers = 0, shared = 0;

	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *upstream = &config->upstreams[i];
		const struct node *node = check->upstreams->children[i];
		char prefix[64];
		set_prefix(prefix, sizeof prefix, "upstreams", i);
		if (upstream->name != NULL)
			check_unique(check, names, upstream->name, i, check->upstreams, "upstreams", prefix);
		if (upstream->n_servers > 0)
			check_servers(check, upstream, node_find(node, "servers"), prefix);
		check_pool(check, upstream, node, prefix, &shared);
		servers += upstream->n_servers;
	}
	ensure(servers <= CONFIG_MAX_SERVERS);
}

/* --- listeners ------------------------------------------------------------------------------------------------------------- */

static void complain_no_such_upstream(const struct check *check, const struct node *node, const char *prefix, const char *name)
{
	const struct config *config = check->config;
	const char **names = calloc(config->n_upstreams, sizeof(const char *));
	size_t count = 0;
	char bytes[256];
	struct text known = text_of(bytes, sizeof bytes);

	ensure(names != NULL);
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (config->upstreams[i].name != NULL)
			names[count++] = config->upstreams[i].name;
	const char *nearest = text_nearest(name, names, count);
	for (size_t i = 0; i < count && !known.cut; i++)
		text_add(&known, "%s\"%.64s\"", i > 0 ? ", " : "", names[i]);
	if (nearest != NULL)
		complain(check, node, prefix, "upstream", "there is no upstream called \"%.64s\"; did you mean \"%.64s\"?", name, nearest);
	else
		complain(check, node, prefix, "upstream", "there is no upstream called \"%.64s\"; there are: %s", name, bytes);
	free(names);
}

/* True when the listener has an upstream. */
static bool check_upstream_of(const struct check *check, struct listener_config *listener, const struct node *node, const char *prefix,
        const struct names *upstreams)
{
	size_t index;

	if (check->config->n_upstreams == 0)
		return false; /* told already */
	if (listener->upstream_name == NULL) {
		if (check->config->n_upstreams > 1 && node_find(node, "upstream") == NULL)
			complain(
			        check, node, prefix, "upstream", "is missing, and there are several upstreams; write upstream = \"NAME\";");
		return false;
	}
	if (!names_find(upstreams, listener->upstream_name, &index)) {
		complain_no_such_upstream(check, node, prefix, listener->upstream_name);
		return false;
	}
	listener->upstream = (uint32_t)index;
	return true;
}

/* A port that the kernel chooses is another one each time. */
static bool is_chosen_port(const struct endpoint *endpoint)
{
	return endpoint->addr.sa.sa_family != AF_UNIX && addr_port(&endpoint->addr) == 0;
}

static bool same_place(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case ENDPOINT_ADDRESS:
		/* all addresses of IPv6 are those of IPv4 too */
		return !is_chosen_port(a) && (addr_equal(&a->addr, &b->addr) || (addr_is_any(&a->addr) && addr_is_any(&b->addr) &&
		                                                                        addr_port(&a->addr) == addr_port(&b->addr)));
	case ENDPOINT_FD:
		return a->fd == b->fd;
	case ENDPOINT_SYSTEMD:
		return strcmp(a->name, b->name) == 0;
	default:
		return false;
	}
}

static void check_place(const struct check *check, size_t index, const char *prefix)
{
	const struct listener_config *listeners = check->config->listeners;
	struct node *const *nodes = check->listeners->children;
	char place[512];

	for (size_t i = 0; i < index; i++) {
		if (!same_place(&listeners[i].endpoint, &listeners[index].endpoint))
			continue;
		complain(check, nodes[index], prefix, "address",
		        "\"%.64s\" is where listeners[%zu] (\"%.64s\") listens already%s; change one of the two", listeners[index].address,
		        i, listeners[i].address, place_of(nodes[i], place, sizeof place));
		return;
	}
}

static bool is_reached_by(const struct endpoint *listener, const struct endpoint *server)
{
	if (listener->kind != ENDPOINT_ADDRESS || server->kind != ENDPOINT_ADDRESS || is_chosen_port(listener))
		return false;
	if (addr_is_any(&listener->addr))
		return addr_is_loopback(&server->addr) && addr_port(&listener->addr) == addr_port(&server->addr);
	return addr_equal(&listener->addr, &server->addr);
}

/* A connection to a server that is the listener itself would come back for ever. */
static void check_no_circle(const struct check *check, const struct listener_config *listener)
{
	const struct upstream_config *upstream = &check->config->upstreams[listener->upstream];
	const struct node *servers = node_find(check->upstreams->children[listener->upstream], "servers");

	for (size_t i = 0; i < upstream->n_servers; i++) {
		char prefix[128];
		if (!is_reached_by(&listener->endpoint, &upstream->servers[i].endpoint))
			continue;
		snprintf(prefix, sizeof prefix, "upstreams[%u].servers[%zu]", listener->upstream, i);
		complain(check, servers->children[i], prefix, "address",
		        "\"%.64s\" is where Aegis itself listens (\"%.64s\"); write the address of the server",
		        upstream->servers[i].address, listener->address);
	}
}

static void check_listeners(const struct check *check, const struct names *upstreams)
{
	struct names names = names_of(check->config->n_listeners);

	for (size_t i = 0; i < check->config->n_listeners; i++) {
		struct listener_config *listener = &check->config->listeners[i];
		const struct node *node = check->listeners->children[i];
		char prefix[64];
		if (node->type != NODE_GROUP)
			continue; /* told already */
		set_prefix(prefix, sizeof prefix, "listeners", i);
		if (listener->name != NULL) {
			check_derived_name(check, node, prefix, listener->name, CONFIG_NAME_SIZE - 1);
			check_unique(check, &names, listener->name, i, check->listeners, "listeners", prefix);
		}
		if (listener->endpoint.kind != ENDPOINT_NONE)
			check_place(check, i, prefix);
		if (check_upstream_of(check, listener, node, prefix, upstreams))
			check_no_circle(check, listener);
	}
	names_fini(&names);
}

void check_config(struct config *config, const struct node *root, struct config_errors *errors)
{
	const struct check check = {
		.config = config,
		.errors = errors,
		.listeners = node_find(root, "listeners"),
		.upstreams = node_find(root, "upstreams"),
	};
	struct names upstreams = names_of(config->n_upstreams);

	check_upstreams(&check, &upstreams);
	check_listeners(&check, &upstreams);
	names_fini(&upstreams);
}
