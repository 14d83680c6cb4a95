#include "config/complete.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/host_name.h"
#include "config/value.h"
#include "os/runtime_dir.h"

#define FAST_INTERVAL_LEAST (100 * NS_PER_MS)
#define UDP_IDLE_NS (60 * NS_PER_S)

enum { LABEL_SIZE = 512, ADDRESS_TEXT_SIZE = 256 };

static unsigned digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

/* What was written as text, or in hexadecimal digits. */
static struct config_bytes bytes_of(const char *text, const char *hex, struct arena *arena)
{
	struct config_bytes out = { .bytes = text, .count = strlen(text) };
	if (hex[0] == '\0' || strcmp(hex, VALUE_HIDDEN) == 0)
		return out;
	unsigned char *bytes = arena_take(arena, strlen(hex) / 2 + 1);
	out = (struct config_bytes){ .bytes = bytes };
	for (; *hex != '\0'; hex++)
		if (*hex != ' ') {
			bytes[out.count++] = (unsigned char)(digit(hex[0]) << 4 | digit(hex[1]));
			hex++;
		}
	return out;
}

/* What clients get is what is checked. */
static bool is_checked_by_tls(const struct upstream_config *upstream, const struct node *health)
{
	const enum health_type type = upstream->health.type;

	if (type == HEALTH_TYPE_NONE || type == HEALTH_TYPE_HTTPS || type == HEALTH_TYPE_UDP)
		return false;
	return node_find(health, "tls") ? upstream->health.tls : upstream->tls.enabled;
}

static void complete_health(struct health_config *health, const struct node *node, struct arena *arena)
{
	const uint64_t least = health->interval_ns < FAST_INTERVAL_LEAST ? health->interval_ns : FAST_INTERVAL_LEAST;

	if (node_find(node, "fast_interval") == NULL)
		health->fast_interval_ns = health->interval_ns / 5 > least ? health->interval_ns / 5 : least;
	if (node_find(node, "expect") == NULL && (health->type == HEALTH_TYPE_HTTP || health->type == HEALTH_TYPE_HTTPS))
		health->expect = "2xx";
	health->sent = bytes_of(health->send, health->send_hex, arena);
	health->expected = bytes_of(health->expect, health->expect_hex, arena);
}

/* Where the group is not there, but checks speak TLS, it is what is said of them that wants it. */
static void complete_upstream_tls(struct upstream_config *upstream, const struct node *node, const struct node *health)
{
	struct upstream_tls_config *tls = &upstream->tls;
	const struct node *wants = node ? node : health;

	upstream->health.tls = is_checked_by_tls(upstream, health);
	if (wants == NULL)
		return;
	tls->file = wants->file;
	tls->line = wants->line;
	if (node_find(node, "key") == NULL)
		tls->key = tls->cert;
}

static void complete_listener_tls(struct listener_tls_config *tls, const struct node *node)
{
	const struct node *certificates = node_find(node, "certificates");

	tls->file = node != NULL ? node->file : NULL;
	tls->line = node != NULL ? node->line : 0;
	if (tls->client_ca != NULL && tls->client_ca[0] != '\0' && node_find(node, "client_verify") == NULL)
		tls->client_verify = CLIENT_VERIFY_REQUIRED;
	for (size_t i = 0; i < tls->n_certificates; i++) {
		struct certificate_config *certificate = &tls->certificates[i];
		if (certificate->key == NULL)
			certificate->key = certificate->cert;
		certificate->file = certificates->children[i]->file;
		certificate->line = certificates->children[i]->line;
	}
}

static void complete_upstream(struct upstream_config *upstream, const struct node *node, struct arena *arena)
{
	const struct node *servers = node_find(node, "servers");

	if (node->type == NODE_GROUP)
		complete_health(&upstream->health, node_find(node, "health"), arena);
	if (node->type == NODE_GROUP)
		complete_upstream_tls(upstream, node_find(node, "tls"), node_find(node, "health"));
	for (size_t i = 0; i < upstream->n_servers; i++) {
		struct server_config *server = &upstream->servers[i];
		if (server->name == NULL)
			server->name = server->address;
		server->file = servers->children[i]->file;
		server->line = servers->children[i]->line;
	}
}

/* A TCP and a UDP listener with one address are two listeners. */
static const char *default_name(const struct listener_config *listener, struct arena *arena)
{
	char name[ADDRESS_TEXT_SIZE + sizeof "/udp"];

	if (listener->address == NULL || listener->protocol != PROTOCOL_UDP)
		return listener->address;
	snprintf(name, sizeof name, "%.*s/udp", ADDRESS_TEXT_SIZE, listener->address);
	return arena_copy(arena, name, strlen(name));
}

/* As clients send it; what is none is for the check to tell. */
static const char *folded(const char *name, struct arena *arena)
{
	size_t stars = strncmp(name, "*.", 2) == 0 ? 2 : 0;
	char *copy = arena_copy(arena, name, strlen(name));
	size_t length = host_name_fold(copy + stars, strlen(copy + stars));

	if (length == 0)
		return name;
	copy[stars + length] = '\0';
	return copy;
}

static void complete_route(struct route_config *route, struct arena *arena)
{
	char label[LABEL_SIZE];

	if (route->name == NULL || route->alpn == NULL)
		return; /* told already */
	route->name = folded(route->name, arena);
	snprintf(label, sizeof label, "%s (%s)", route->name[0] != '\0' ? route->name : "*", route->alpn);
	route->label = route->alpn[0] != '\0' ? arena_copy(arena, label, strlen(label)) : route->name;
}

static void complete_listener(struct listener_config *listener, const struct node *node, struct arena *arena)
{
	bool in_timeout = node_find(node_find(node, "timeout"), "idle") != NULL;

	if (listener->name == NULL)
		listener->name = default_name(listener, arena);
	complete_listener_tls(&listener->tls, node_find(node, "tls"));
	for (size_t i = 0; i < listener->n_routes; i++)
		complete_route(&listener->routes[i], arena);
	if (listener->protocol != PROTOCOL_UDP)
		return;
	if (node_find(node_find(node, "udp"), "idle") == NULL)
		listener->udp.idle_ns = in_timeout ? listener->timeout.idle_ns : UDP_IDLE_NS;
	if (!in_timeout)
		listener->timeout.idle_ns = listener->udp.idle_ns;
}

void complete_config(struct config *config, const struct node *root, struct arena *arena)
{
	char directory[PATH_MAX];
	const struct node *listeners = node_find(root, "listeners");
	const struct node *upstreams = node_find(root, "upstreams");

	if (config->runtime_dir == NULL) {
		runtime_dir_default(directory, sizeof directory);
		config->runtime_dir = arena_copy(arena, directory, strlen(directory));
	}
	for (size_t i = 0; i < config->n_upstreams; i++)
		complete_upstream(&config->upstreams[i], upstreams->children[i], arena);
	for (size_t i = 0; i < config->n_listeners; i++) {
		struct listener_config *listener = &config->listeners[i];
		complete_listener(listener, listeners->children[i], arena);
		if (listener->upstream_name == NULL && config->n_upstreams == 1 && listener->n_routes == 0 && !listener->acme.only)
			listener->upstream_name = config->upstreams[0].name;
	}
}
