#include "policy/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* A name is hashed from its end, so that one pass has the hash of what follows its first label, too. A wildcard has the hash of what
 * follows its star, with the dot. Routes with alpn begin with the hash of that. */
#define HASH_BEGIN UINT64_C(0xcbf29ce484222325)
#define HASH_PRIME UINT64_C(0x100000001b3) /* FNV-1a, 64 bits */

struct slot {
	uint64_t hash;
	const struct route_config *route; /* NULL: free */
};

struct routes {
	size_t mask;
	bool any_alpn; /* some route has one */
	struct slot slots[];
};

static uint64_t hash_byte(uint64_t hash, char byte)
{
	return (hash ^ (unsigned char)byte) * HASH_PRIME;
}

static uint64_t hash_back(uint64_t hash, const char *bytes, size_t length)
{
	while (length > 0)
		hash = hash_byte(hash, bytes[--length]);
	return hash;
}

static uint64_t begin_with(const char *alpn, size_t length)
{
	return hash_back(HASH_BEGIN, alpn, length);
}

/* --- making them ------------------------------------------------------------------------------------------------------------- */

/* What of the name is in the hash: of a wildcard all behind its star. */
static const char *hashed_part(const struct route_config *route)
{
	return route->name + (route->name[0] == '*');
}

static void add(struct routes *routes, const struct route_config *route)
{
	const char *part = hashed_part(route);
	uint64_t hash = hash_mix(hash_back(begin_with(route->alpn, strlen(route->alpn)), part, strlen(part)));
	size_t at = hash & routes->mask;
	while (routes->slots[at].route)
		at = (at + 1) & routes->mask;
	routes->slots[at] = (struct slot){ .hash = hash, .route = route };
	routes->any_alpn = routes->any_alpn || route->alpn[0] != '\0';
}

int routes_new(const struct route_config *configs, size_t count, struct routes **out)
{
	size_t size = 4;
	while (size < 2 * count)
		size *= 2;
	if (count == 0) {
		*out = NULL;
		return 0;
	}
	struct routes *routes = calloc(1, sizeof *routes + size * sizeof *routes->slots);
	if (!routes)
		return -ENOMEM;
	routes->mask = size - 1;
	for (size_t i = 0; i < count; i++)
		add(routes, &configs[i]);
	*out = routes;
	return 0;
}

void routes_free(struct routes *routes)
{
	free(routes);
}

/* --- finding one ------------------------------------------------------------------------------------------------------------- */

struct offered {
	const char *name;
	size_t length;
};

static const struct route_config *look(
        const struct routes *routes, uint64_t hash, const struct offered *protocol, const char *part, size_t length)
{
	hash = hash_mix(hash);
	for (size_t at = hash & routes->mask; routes->slots[at].route; at = (at + 1) & routes->mask) {
		const struct route_config *route = routes->slots[at].route;
		if (routes->slots[at].hash != hash)
			continue;
		const char *own = hashed_part(route);
		if (strlen(own) == length && memcmp(own, part, length) == 0 && strlen(route->alpn) == protocol->length &&
		        memcmp(route->alpn, protocol->name, protocol->length) == 0)
			return route;
	}
	return NULL;
}

static const struct route_config *find(const struct routes *routes, const struct route_client *client, const struct offered *protocol)
{
	uint64_t hash = begin_with(protocol->name, protocol->length);
	const struct route_config *best = look(routes, hash, protocol, client->name, 0);
	const char *dot = memchr(client->name, '.', client->name_length);
	size_t label = dot ? (size_t)(dot - client->name) : 0; /* a star stands for the first one */
	for (size_t i = client->name_length; i-- > 0;) {
		hash = hash_byte(hash, client->name[i]);
		if (i != label && i > 0)
			continue;
		const struct route_config *route = look(routes, hash, protocol, client->name + i, client->name_length - i);
		if (route)
			best = route;
	}
	return best;
}

const struct route_config *routes_find(const struct routes *routes, const struct route_client *client)
{
	struct offered protocol = { .name = "" };
	const uint8_t *bytes;
	for (size_t n = 0; routes->any_alpn && (bytes = client->protocol(client->from, n, &protocol.length)); n++) {
		protocol.name = (const char *)bytes;
		const struct route_config *route = find(routes, client, &protocol);
		if (route)
			return route;
	}
	protocol = (struct offered){ .name = "" };
	return find(routes, client, &protocol);
}
