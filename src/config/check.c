#include "config/check.h"

#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "config/check_parts.h"
#include "config/value.h"

/* What is at key ("group.key"), or as near to it as was written. */
static const struct node *node_near(const struct node *node, const char *key)
{
	char name[64];

	while (*key != '\0') {
		size_t length = strcspn(key, ".");
		snprintf(name, sizeof name, "%.*s", (int)length, key);
		const struct node *child = node_find(node, name);
		if (child == NULL)
			break;
		node = child;
		key += length + (key[length] == '.');
	}
	return node;
}

void check_complain(const struct check *check, const struct node *node, const char *prefix, const char *key, const char *format, ...)
{
	char path[192], problem[768];
	va_list args;

	va_start(args, format);
	if (vsnprintf(problem, sizeof problem, format, args) < 0)
		problem[0] = '\0';
	va_end(args);
	if (key != NULL)
		node = node_near(node, key);
	snprintf(path, sizeof path, "%s%s%s", prefix, key != NULL ? "." : "", key != NULL ? key : "");
	config_errors_add(check->errors, node->file, node->line, path, "%s", problem);
}

void check_derived_name(const struct check *check, const struct node *node, const char *prefix, const char *name, size_t max)
{
	if (node_find(node, "name") != NULL)
		return;
	const char *why = strlen(name) > max ? "it is too long" : value_why_no_name(name);
	if (why != NULL)
		check_complain(check, node, prefix, "name", "the address cannot be the name: %s; add name = \"NAME\";", why);
}

const char *check_place_of(const struct node *node, char *out, size_t size)
{
	out[0] = '\0';
	if (node->file != NULL && node->line > 0)
		snprintf(out, size, " (%s:%d)", node->file, node->line);
	return out;
}

void check_unique(const struct check *check, struct names *names, const char *name, size_t index, const struct node *list, const char *key,
        const char *prefix)
{
	size_t other = names_add(names, name, index);
	char place[512];

	if (other != index)
		check_complain(check, list->children[index], prefix, "name",
		        "\"%.64s\" is the name of %s[%zu] too%s; give each its own name", name, key, other,
		        check_place_of(list->children[other], place, sizeof place));
}

/* --- listeners ------------------------------------------------------------------------------------------------------------- */

void check_complain_no_upstream(const struct check *check, const struct node *node, const char *prefix, const char *name)
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
		check_complain(
		        check, node, prefix, "upstream", "there is no upstream called \"%.64s\"; did you mean \"%.64s\"?", name, nearest);
	else
		check_complain(check, node, prefix, "upstream", "there is no upstream called \"%.64s\"; there are: %s", name, bytes);
	free(names);
}

/* True when the listener has an upstream. */
static bool check_upstream_of(const struct check *check, struct listener_config *listener, const struct node *node, const char *prefix,
        const struct names *upstreams)
{
	size_t index;

	if (check->config->n_upstreams == 0)
		return false; /* told already */
	listener->upstream = CONFIG_NO_UPSTREAM;
	if (listener->upstream_name == NULL) {
		if (check->config->n_upstreams > 1 && listener->n_routes == 0 && !listener->acme.only &&
		        node_find(node, "upstream") == NULL)
			check_complain(
			        check, node, prefix, "upstream", "is missing, and there are several upstreams; write upstream = \"NAME\";");
		return false;
	}
	if (!names_find(upstreams, listener->upstream_name, &index)) {
		check_complain_no_upstream(check, node, prefix, listener->upstream_name);
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

static bool is_ip(const struct endpoint *endpoint)
{
	return endpoint->kind == ENDPOINT_ADDRESS && endpoint->addr.sa.sa_family != AF_UNIX;
}

/* Of two sockets for the same protocol. */
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
		if (is_ip(&listeners[i].endpoint) && listeners[i].protocol != listeners[index].protocol)
			continue; /* each protocol has ports of its own */
		if (!same_place(&listeners[i].endpoint, &listeners[index].endpoint))
			continue;
		check_complain(check, nodes[index], prefix, "address",
		        "\"%.64s\" is where listeners[%zu] (\"%.64s\") listens already%s; change one of the two", listeners[index].address,
		        i, listeners[i].address, check_place_of(nodes[i], place, sizeof place));
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
static void check_no_circle(const struct check *check, const struct listener_config *listener, uint32_t index)
{
	const struct upstream_config *upstream = &check->config->upstreams[index];
	const struct node *servers = node_find(check->upstreams->children[index], "servers");

	for (size_t i = 0; i < upstream->n_servers; i++) {
		char prefix[128];
		if (!is_reached_by(&listener->endpoint, &upstream->servers[i].endpoint))
			continue;
		snprintf(prefix, sizeof prefix, "upstreams[%u].servers[%zu]", index, i);
		check_complain(check, servers->children[i], prefix, "address",
		        "\"%.64s\" is where Aegis itself listens (\"%.64s\"); write the address of the server",
		        upstream->servers[i].address, listener->address);
	}
}

/* What leads to an upstream. */
struct use {
	unsigned protocols;                   /* of listeners, as bits */
	const struct listener_config *latest; /* that was looked at */
};

static void check_use(const struct check *check, const struct listener_config *listener, uint32_t upstream, struct use *uses)
{
	if (upstream == CONFIG_NO_UPSTREAM)
		return; /* there is none, or it is wrong, which was told */
	if (uses[upstream].latest != listener)
		check_no_circle(check, listener, upstream);
	uses[upstream] = (struct use){ .protocols = uses[upstream].protocols | 1U << listener->protocol, .latest = listener };
}

static void check_listeners(const struct check *check, const struct names *upstreams)
{
	struct names names = names_of(check->config->n_listeners);
	struct use *uses = calloc(check->config->n_upstreams + 1, sizeof *uses);

	ensure(uses != NULL);
	for (size_t i = 0; i < check->config->n_listeners; i++) {
		struct listener_config *listener = &check->config->listeners[i];
		const struct node *node = check->listeners->children[i];
		char prefix[64];
		if (node->type != NODE_GROUP)
			continue; /* told already */
		snprintf(prefix, sizeof prefix, "listeners[%zu]", i);
		if (listener->name != NULL) {
			check_derived_name(check, node, prefix, listener->name, CONFIG_NAME_SIZE - 1);
			check_unique(check, &names, listener->name, i, check->listeners, "listeners", prefix);
		}
		if (listener->endpoint.kind != ENDPOINT_NONE)
			check_place(check, i, prefix);
		check_access(check, listener, node, prefix);
		check_rates(check, listener, node, prefix);
		check_accept_proxy(check, listener, node, prefix);
		check_acme(check, listener, node, prefix);
		check_udp_listener(check, listener, node, prefix);
		check_listener_tls(check, listener, node, prefix);
		if (check_upstream_of(check, listener, node, prefix, upstreams))
			check_use(check, listener, listener->upstream, uses);
		check_routes(check, listener, node, prefix, upstreams);
		for (size_t j = 0; j < listener->n_routes; j++)
			check_use(check, listener, listener->routes[j].upstream, uses);
	}
	for (size_t i = 0; i < check->config->n_upstreams; i++)
		check_protocols(check, i, uses[i].protocols >> PROTOCOL_TCP & 1, uses[i].protocols >> PROTOCOL_UDP & 1);
	free(uses);
	names_fini(&names);
}

static void check_resolver(const struct check *check, const struct node *node)
{
	const struct config *config = check->config;

	if (config->resolver.min_ttl_ns <= config->resolver.max_ttl_ns)
		return;
	if (node_find(node, "min_ttl") != NULL)
		check_complain(check, node, "resolver", "min_ttl", "is more than max_ttl; write less, or a longer max_ttl");
	else
		check_complain(check, node, "resolver", "max_ttl", "is less than min_ttl; write more, or a shorter min_ttl");
}

static bool listens_there(const struct endpoint *admin, const struct endpoint *other)
{
	return admin->kind == ENDPOINT_ADDRESS && other->kind == ENDPOINT_ADDRESS && same_place(admin, other);
}

/* One of the two addresses of the admin API: nobody else's, and not open to the world. */
static void check_admin_address(const struct check *check, const struct node *node, const char *key, const struct endpoint *endpoint)
{
	const struct config *config = check->config;

	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].protocol == PROTOCOL_TCP && listens_there(endpoint, &config->listeners[i].endpoint))
			check_complain(check, node, "admin", key, "is where listeners[%zu] (\"%.64s\") listens; change one of the two", i,
			        config->listeners[i].address);
	if (endpoint->kind == ENDPOINT_ADDRESS && !addr_is_loopback(&endpoint->addr) && config->admin.token_file[0] == '\0')
		check_complain(check, node, "admin", key,
		        "is open to other machines, and nothing protects it; set admin.token_file, or write an address of this machine "
		        "(127.0.0.1, [::1])");
}

static void check_admin(const struct check *check, const struct node *node)
{
	const struct config *config = check->config;

	if (node == NULL || config->admin.token_file == NULL)
		return;
	check_admin_address(check, node, "address", &config->admin.endpoint);
	check_admin_address(check, node, "metrics_address", &config->admin.metrics_endpoint);
	if (listens_there(&config->admin.metrics_endpoint, &config->admin.endpoint))
		check_complain(check, node, "admin", "metrics_address",
		        "is the address of the admin API, which has the metrics, too; leave it out, or write another one");
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
	check_resolver(&check, node_find(root, "resolver"));
	check_admin(&check, node_find(root, "admin"));
	names_fini(&upstreams);
}
