#include "master/places.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "master/segment.h"
#include "shm/sums.h"

static int claim_servers(struct places *places, struct shm *shm, const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *upstream = &config->upstreams[i];
		places->servers[i] = calloc(upstream->n_servers, sizeof(uint32_t));
		if (!places->servers[i])
			return -ENOMEM;
		for (size_t j = 0; j < upstream->n_servers; j++) {
			int error = shm_claim_server(shm, upstream->name, upstream->servers[j].name, &places->servers[i][j]);
			if (error)
				return error;
		}
	}
	return 0;
}

static int claim_boxes(struct places *places, struct boxes *boxes, const struct config *config)
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
			int error = boxes_claim(boxes, places->servers[i][j], upstream->pool.framing, &places->boxes[i][j]);
			if (error)
				return error;
		}
	}
	return 0;
}

int places_claim(struct places *out, struct shm *shm, struct boxes *boxes, const struct config *config)
{
	struct places places = { .n_upstreams = config->n_upstreams };
	uint32_t n_servers = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		n_servers += (uint32_t)config->upstreams[i].n_servers;
	int no_room = segment_make_room(shm, (uint32_t)config->n_listeners, n_servers);
	if (no_room)
		return -EDQUOT;
	places.listeners = calloc(config->n_listeners, sizeof *places.listeners);
	places.servers = calloc(config->n_upstreams, sizeof *places.servers);
	places.boxes = calloc(config->n_upstreams, sizeof *places.boxes);
	places.n_servers = calloc(config->n_upstreams, sizeof *places.n_servers);
	int error = places.listeners && places.servers && places.boxes && places.n_servers ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < config->n_listeners; i++)
		error = shm_claim_listener(shm, config->listeners[i].name, &places.listeners[i]);
	if (!error)
		error = claim_servers(&places, shm, config);
	if (!error)
		error = claim_boxes(&places, boxes, config);
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
	free(places->listeners);
	*places = (struct places){ 0 };
}

static void retire_all(struct shm *shm)
{
	for (uint32_t i = 0; i < sums_n_listeners(shm); i++)
		atomic_store(&shm->listeners[i].in_use, 0);
	for (uint32_t i = 0; i < sums_n_servers(shm); i++)
		atomic_store(&shm->servers[i].in_use, 0);
}

static void publish_server(struct shm_server *row, const struct server_config *server)
{
	(void)text_copy(row->address, sizeof row->address, server->address);
	atomic_store(&row->weight, server->weight);
	atomic_store(
	        &row->flags, (server->backup ? (uint32_t)SHM_SERVER_BACKUP : 0) | (server->disabled ? (uint32_t)SHM_SERVER_DISABLED : 0));
	atomic_store(&row->in_use, 1);
}

void places_publish(const struct places *places, struct shm *shm, const struct config *config, struct listener *const *listeners)
{
	retire_all(shm);
	atomic_store(&shm_limit(shm, limit_global())->max, config->max_connections);
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		struct shm_listener *row = &shm->listeners[places->listeners[i]];
		addr_format(&listeners[i]->bound, row->address, sizeof row->address);
		(void)text_copy(row->upstream, sizeof row->upstream, config->upstreams[listener->upstream].name);
		atomic_store(&shm_limit(shm, limit_listener(places->listeners[i]))->max, listener->max_connections);
		atomic_store(&row->in_use, 1);
	}
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			publish_server(&shm->servers[places->servers[i][j]], &config->upstreams[i].servers[j]);
}
