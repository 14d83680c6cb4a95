#include "master/places.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "control/control.h"
#include "master/segment.h"
#include "shm/sums.h"

static int claim_servers(struct places *places, struct shm *shm, const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *upstream = &config->upstreams[i];
		int error = shm_claim_upstream(shm, upstream->name, &places->upstreams[i]);
		if (error)
			return error;
		places->servers[i] = calloc(upstream->n_servers, sizeof(uint32_t));
		if (!places->servers[i])
			return -ENOMEM;
		for (size_t j = 0; j < upstream->n_servers; j++) {
			error = shm_claim_server(shm, upstream->name, upstream->servers[j].name, &places->servers[i][j]);
			if (error)
				return error;
		}
	}
	return 0;
}

static int claim_boxes(struct places *places, const struct shm *shm, struct boxes *boxes, const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *upstream = &config->upstreams[i];
		places->n_servers[i] = upstream->n_servers;
		if (!upstream->pool.share)
			continue;
		places->boxes[i] = calloc(upstream->n_servers, sizeof(struct box));
		if (!places->boxes[i])
			return -ENOMEM;
		for (size_t j = 0; j < upstream->n_servers; j++)
			places->boxes[i][j] = (struct box){ -1, -1 };
		for (size_t j = 0; j < upstream->n_servers; j++) {
			int error = boxes_claim(boxes, shm, places->servers[i][j], upstream->pool.framing, &places->boxes[i][j]);
			if (error)
				return error;
		}
	}
	return 0;
}

static int make_room_for_tables(struct shm *shm, const struct config *config)
{
	bool rates = false, affinities = false;
	for (size_t i = 0; i < config->n_listeners; i++)
		rates = rates || (config->listeners[i].rate_limit.connections_per_second &&
		                         config->listeners[i].rate_limit.per != RATE_LIMIT_PER_LISTENER);
	for (size_t i = 0; i < config->n_upstreams; i++)
		affinities = affinities || config->upstreams[i].affinity.ttl_ns;
	return segment_make_room_for_tables(shm, rates, affinities);
}

int places_claim(struct places *out, struct shm *shm, struct boxes *boxes, const struct config *config)
{
	struct places places = { .n_upstreams = config->n_upstreams };
	uint32_t n_servers = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		n_servers += (uint32_t)config->upstreams[i].n_servers;
	if (segment_make_room(shm, (uint32_t)config->n_listeners, n_servers, (uint32_t)config->n_upstreams) ||
	        make_room_for_tables(shm, config))
		return -EDQUOT;
	places.listeners = calloc(config->n_listeners, sizeof *places.listeners);
	places.servers = calloc(config->n_upstreams, sizeof *places.servers);
	places.upstreams = calloc(config->n_upstreams, sizeof *places.upstreams);
	places.boxes = calloc(config->n_upstreams, sizeof *places.boxes);
	places.n_servers = calloc(config->n_upstreams, sizeof *places.n_servers);
	int error = places.listeners && places.servers && places.upstreams && places.boxes && places.n_servers ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < config->n_listeners; i++)
		error = shm_claim_listener(shm, config->listeners[i].name, &places.listeners[i]);
	if (!error)
		error = claim_servers(&places, shm, config);
	if (!error)
		error = claim_boxes(&places, shm, boxes, config);
	/* Sums and reclaims look at the new rows in the seats of workers that run already, too. */
	for (uint32_t seat = 0; !error && seat < shm->dims.seats; seat++)
		if (shm_seat_ever_used(shm, seat) && segment_make_room_for_seat(shm, seat))
			error = -EDQUOT;
	if (error)
		places_free(&places, shm, boxes);
	else
		*out = places;
	return error;
}

static void drop_boxes(struct places *places, struct shm *shm, struct boxes *boxes)
{
	for (size_t i = 0; places->boxes && i < places->n_upstreams; i++) {
		for (size_t j = 0; places->boxes[i] && j < places->n_servers[i]; j++)
			boxes_drop(boxes, shm, &places->boxes[i][j]);
		free(places->boxes[i]);
	}
	free(places->boxes);
	free(places->n_servers);
}

void places_free(struct places *places, struct shm *shm, struct boxes *boxes)
{
	drop_boxes(places, shm, boxes);
	for (size_t i = 0; places->servers && i < places->n_upstreams; i++)
		free(places->servers[i]);
	free(places->servers);
	free(places->upstreams);
	free(places->listeners);
	*places = (struct places){ 0 };
}

/* Of what it was nothing holds for what it is now. While no control process writes to the rows. */
static void forget_server(struct shm_server *row, const struct condition_rules *rules)
{
	condition_reset(&row->condition, rules);
	addresses_publish(&row->addresses, NULL, 0);
}

static void forget_retired(struct shm *shm)
{
	static const struct condition_rules nobody_to_tell;
	for (uint32_t i = 0; i < sums_n_servers(shm); i++) {
		struct shm_server *row = &shm->servers[i];
		/* Also one that a reload that failed had checked. */
		if (atomic_load(&row->in_use) || (!row->address[0] && health_state(&row->condition.health) == HEALTH_UNKNOWN))
			continue;
		row->address[0] = '\0';
		forget_server(row, &nobody_to_tell);
	}
}

static void retire_all(struct shm *shm)
{
	for (uint32_t i = 0; i < sums_n_listeners(shm); i++)
		atomic_store(&shm->listeners[i].in_use, 0);
	for (uint32_t i = 0; i < sums_n_servers(shm); i++)
		atomic_store(&shm->servers[i].in_use, 0);
	for (uint32_t i = 0; i < sums_n_upstreams(shm); i++)
		atomic_store(&shm->upstreams[i].in_use, 0);
}

static void publish_server(struct shm_server *row, const struct upstream_config *upstream, const struct server_config *server,
        const struct condition_rules *rules)
{
	char address[SHM_ADDRESS_SIZE];
	(void)text_copy(address, sizeof address, server->address);
	bool other = strcmp(row->address, address) != 0;
	if (other && row->address[0])
		forget_server(row, rules);
	if (!control_checks(upstream, server))
		health_forget(&row->condition.health);
	if (other && server->endpoint.kind == ENDPOINT_NAME)
		addresses_publish(&row->addresses, server->addrs, server->n_addrs);
	else if (other)
		addresses_publish(&row->addresses, NULL, 0); /* those were of a name */
	memcpy(row->address, address, sizeof address);
	atomic_store(&row->weight, server->weight);
	atomic_store(&row->soft_limit, server->soft_limit);
	atomic_store(
	        &row->flags, (server->backup ? (uint32_t)SHM_SERVER_BACKUP : 0) | (server->disabled ? (uint32_t)SHM_SERVER_DISABLED : 0));
	atomic_store(&row->in_use, 1);
}

/* For aegis-stat, which reads no settings. */
static void publish_rules(struct shm_upstream *row, const struct upstream_config *upstream)
{
	atomic_store(&row->is_checked, upstream->health.type != HEALTH_TYPE_NONE);
	atomic_store(&row->breaker_threshold, upstream->circuit_breaker.error_threshold);
	atomic_store(&row->breaker_probes, upstream->circuit_breaker.probes);
	atomic_store(&row->breaker_timeout_ns, upstream->circuit_breaker.timeout_ns);
	atomic_store(&row->outlier_failures, upstream->outlier.failures);
	atomic_store(&row->slow_start_ns, upstream->slow_start_ns);
}

static void publish_upstream(const struct places *places, struct shm *shm, size_t index, const struct upstream_config *upstream)
{
	struct shm_upstream *row = &shm->upstreams[places->upstreams[index]];
	const struct condition_rules rules = { .epoch = &row->epoch };
	for (size_t i = 0; i < upstream->n_servers; i++) {
		uint32_t server = places->servers[index][i];
		publish_server(&shm->servers[server], upstream, &upstream->servers[i], &rules);
		atomic_store(&shm_limit(shm, limit_server(shm, server))->max, upstream->servers[i].max_connections);
	}
	atomic_store(&shm_limit(shm, limit_upstream(shm, places->upstreams[index]))->max, upstream->queue.size);
	publish_rules(row, upstream);
	atomic_store(&row->in_use, 1);
	atomic_fetch_add_explicit(&row->epoch, 1, memory_order_release);
}

void places_publish_again(const struct places *places, struct shm *shm, const struct config *config, struct listener *const *listeners)
{
	atomic_store(&shm_limit(shm, limit_global())->max, config->max_connections);
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		struct shm_listener *row = &shm->listeners[places->listeners[i]];
		addr_format(&listeners[i]->bound, row->address, sizeof row->address);
		(void)text_copy(row->upstream, sizeof row->upstream, listener->upstream_name ? listener->upstream_name : "");
		atomic_store(&row->is_udp, listener->protocol == PROTOCOL_UDP);
		atomic_store(&shm_limit(shm, limit_listener(places->listeners[i]))->max, listener->max_connections);
		atomic_store(&row->in_use, 1);
	}
	for (size_t i = 0; i < config->n_upstreams; i++)
		publish_upstream(places, shm, i, &config->upstreams[i]);
}

void places_publish(const struct places *places, struct shm *shm, const struct config *config, struct listener *const *listeners)
{
	retire_all(shm);
	places_publish_again(places, shm, config, listeners);
	forget_retired(shm);
}
