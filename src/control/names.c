#include "control/names.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

static_assert((int)SERVER_MAX_ADDRESSES == (int)ADDRESSES_MOST, "what is resolved can be published");

struct named {
	struct names *names;
	size_t upstream, server;
	struct watch *watch;
};

struct names {
	const struct control_args *args;
	struct checks *checks;
	struct resolver *resolver;
	struct named *named;
	size_t n;
};

static const struct server_config *server_of(const struct named *named)
{
	return &named->names->args->config->upstreams[named->upstream].servers[named->server];
}

static struct addresses *addresses_of(const struct named *named)
{
	const struct control_args *args = named->names->args;
	return &args->shm->servers[args->servers[named->upstream][named->server]].addresses;
}

static void on_changed(void *owner, const struct addr *addrs, size_t n)
{
	const struct named *named = owner;
	const struct control_args *args = named->names->args;

	addresses_publish(addresses_of(named), addrs, n);
	atomic_fetch_add_explicit(&args->shm->upstreams[args->upstreams[named->upstream]].epoch, 1, memory_order_release);
	checks_move(named->names->checks, named->upstream, named->server, addrs, n);
}

static void watch(struct named *named)
{
	const struct server_config *server = server_of(named);
	struct addr known[ADDRESSES_MOST];
	uint32_t sequence = 0;
	size_t n;

	if (!addresses_read(addresses_of(named), &sequence, known, &n)) {
		n = server->n_addrs;
		memcpy(known, server->addrs, n * sizeof *known);
		addresses_publish(addresses_of(named), known, n); /* a process that was killed while it wrote left none */
	}
	int error = resolver_watch(named->names->resolver, named, server->endpoint.name, server->endpoint.port, known, n, &named->watch);
	if (error)
		log_error("\"%s\" is not resolved any more: %s", server->endpoint.name, strerror(-error));
}

static size_t count_names(const struct config *config)
{
	size_t n = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			n += config->upstreams[i].servers[j].endpoint.kind == ENDPOINT_NAME;
	return n;
}

static void list_names(struct names *names)
{
	const struct config *config = names->args->config;
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			if (config->upstreams[i].servers[j].endpoint.kind == ENDPOINT_NAME)
				names->named[names->n++] = (struct named){ .names = names, .upstream = i, .server = j };
}

int names_resolver(const struct config *config, struct loop *loop, resolver_changed_fn *changed, struct resolver **out)
{
	char servers[CONFIG_MAX_RESOLVERS * (ADDR_TEXT_SIZE + 1)], address[ADDR_TEXT_SIZE];
	struct text text = text_of(servers, sizeof servers);

	for (size_t i = 0; i < config->resolver.n_servers; i++)
		text_add(&text, "%s%s", i ? "," : "", addr_format(&config->resolver.servers[i], address, sizeof address));
	const struct resolver_settings settings = { .servers = text.length ? servers : NULL,
		.min_ttl_ns = config->resolver.min_ttl_ns,
		.max_ttl_ns = config->resolver.max_ttl_ns,
		.timeout_ns = config->resolver.timeout_ns };
	return resolver_new(loop, &settings, changed, out);
}

int names_new(struct loop *loop, const struct control_args *args, struct checks *checks, struct names **out)
{
	size_t n = count_names(args->config);
	struct names *names = calloc(1, sizeof *names);
	int error = names ? 0 : -ENOMEM;

	if (!error) {
		names->args = args;
		names->checks = checks;
		names->named = calloc(n ? n : 1, sizeof *names->named);
		error = names->named ? 0 : -ENOMEM;
	}
	if (!error)
		list_names(names);
	if (!error && n)
		error = names_resolver(args->config, loop, on_changed, &names->resolver);
	for (size_t i = 0; !error && i < names->n; i++)
		watch(&names->named[i]);
	if (error)
		names_free(names);
	else
		*out = names;
	return error;
}

void names_free(struct names *names)
{
	if (!names)
		return;
	for (size_t i = 0; i < names->n; i++)
		if (names->named[i].watch)
			resolver_forget(names->resolver, names->named[i].watch);
	resolver_free(names->resolver);
	free(names->named);
	free(names);
}
