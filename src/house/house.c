#include "house/house.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "house/flight.h"

/* --- limits, and who is there ------------------------------------------------------------------------------------------------- */

bool house_reserve(const struct entrance *entrance, enum reason *why_not)
{
	const struct house *house = entrance->house;
	if (!limit_reserve_leaving(house->shm, house->seat, limit_global(), entrance->leaves)) {
		*why_not = REASON_FULL;
		return false;
	}
	if (!limit_reserve(house->shm, house->seat, entrance->limit)) {
		limit_release(house->shm, house->seat, limit_global());
		*why_not = REASON_LISTENER_FULL;
		return false;
	}
	return true;
}

void house_release(const struct entrance *entrance)
{
	const struct house *house = entrance->house;
	limit_release(house->shm, house->seat, entrance->limit);
	limit_release(house->shm, house->seat, limit_global());
}

static void set_count(struct house *house, uint32_t count)
{
	house->n_visits = count;
	atomic_store_explicit(&house->seat_row->sessions, count, memory_order_relaxed);
}

void house_enter(struct house *house, struct visit *visit)
{
	visit->prev = house->newest;
	visit->next = NULL;
	*(house->newest ? &house->newest->next : &house->oldest) = visit;
	house->newest = visit;
	counter_add(&house->seat_row->accepts, 1);
	visit->serial = record_serial(counter_get(&house->seat_row->accepts));
	visit->upstream = visit->entrance->upstream;
	set_count(house, house->n_visits + 1);
}

void house_leave(struct house *house, struct visit *visit)
{
	clerk_forget(&house->clerk, visit);
	*(visit->prev ? &visit->prev->next : &house->oldest) = visit->next;
	*(visit->next ? &visit->next->prev : &house->newest) = visit->prev;
	set_count(house, house->n_visits - 1);
	if (house->n_visits == 0 && house->empty)
		house->empty(house->empty_arg);
}

uint32_t house_end_idle(struct house *house, uint32_t count, uint64_t quiet_ns, enum reason reason)
{
	uint64_t now_ns = loop_now_ns(house->loop);
	uint32_t ended = 0;
	for (struct visit *visit = house->oldest, *next; visit && ended < count; visit = next) {
		next = visit->next;
		if (!visit->entrance->kind->is_idle(visit, now_ns, quiet_ns))
			continue;
		visit->entrance->kind->end(visit, reason);
		ended++;
	}
	return ended;
}

void house_end_all(struct house *house, enum reason reason)
{
	while (house->oldest)
		house->oldest->entrance->kind->end(house->oldest, reason);
}

void house_log_end(const struct visit *visit, enum reason reason)
{
	char peer[ADDR_TEXT_SIZE];
	struct addr addr;
	addr_from_sockaddr(&addr, (const struct sockaddr *)&visit->peer, visit->peer.sin6_family ? sizeof visit->peer : 0);
	log_debug("listener %s: client %s: %s in step %s: %s", visit->entrance->config->name, addr_format(&addr, peer, sizeof peer),
	        reason_name(reason), step_name(visit->step), reason_text(reason));
}

void house_log_connect_failure(const struct visit *visit, int error, const char *text, bool last)
{
	struct server *server = visit->server;
	uint64_t held_back;
	if (!log_gate_open(&server->gate, loop_now_ns(visit->entrance->house->loop), &held_back))
		return;
	char address[ADDR_TEXT_SIZE] = "no address";
	const struct addr *addr = server_addr(server);
	if (addr)
		addr_format(addr, address, sizeof address);
	log_warn("upstream %s: server %s (%s): cannot connect: %s; %s (%llu more failures not logged)", visit->upstream->config->name,
	        server->config->name, address, text ? text : reason_connect_words(error),
	        last ? "giving the client up" : "trying another server", (unsigned long long)held_back);
}

/* --- servers that went down --------------------------------------------------------------------------------------------------- */

void house_published(struct house *house)
{
	house->shared.published = true;
	for (uint32_t i = 0; i < house->n_upstreams; i++)
		upstream_follow(&house->upstreams[i], loop_now_ns(house->loop));
}

void house_beat(struct house *house)
{
	for (uint32_t i = 0; i < house->n_upstreams; i++)
		upstream_look(&house->upstreams[i], loop_now_ns(house->loop));
}

/* Those that held one go on to others, and may find out that yet another one went down: hence again and again. */
static void leave_fallen(struct house *house)
{
	while (house->shared.fell) {
		house->shared.fell = false;
		for (uint32_t i = 0; i < house->n_upstreams; i++)
			upstream_leave_fallen(&house->upstreams[i]);
		for (struct visit *visit = house->oldest, *next; visit; visit = next) {
			next = visit->next;
			if (visit->server && visit->server->leaving)
				visit->entrance->kind->server_fell(visit);
		}
		for (uint32_t i = 0; i < house->n_upstreams; i++)
			upstream_left_fallen(&house->upstreams[i]);
	}
}

bool house_before_sleep(struct house *house)
{
	if (unlikely(house->shared.fell))
		leave_fallen(house);
	lines_before_sleep(&house->lines); /* clients first */
	pools_before_sleep(&house->pools);
	return upstreams_work(&house->shared);
}

void house_close_pools(struct house *house)
{
	pools_close(&house->pools);
}

/* --- from the first to the last ----------------------------------------------------------------------------------------------- */

static void on_rung(struct lines *lines)
{
	clerk_answer(container_of(lines, struct house, lines));
}

int entrance_init(struct entrance *entrance, struct house *house, const struct visit_kind *kind, const struct listener_config *config,
        uint32_t shm_row)
{
	*entrance = (struct entrance){ .config = config,
		.kind = kind,
		.house = house,
		.upstream = config->upstream == CONFIG_NO_UPSTREAM ? NULL : &house->upstreams[config->upstream],
		.row = shm_listener_row(house->shm, house->seat, shm_row),
		.shm_row = shm_row,
		.limit = limit_listener(shm_row) };
	return door_init(&entrance->door, config, house->shm, shm_row);
}

void entrance_fini(struct entrance *entrance)
{
	door_fini(&entrance->door);
}

static int init_upstreams(struct house *house, const struct config *config, const struct house_places *places, uint32_t start)
{
	house->shared = (struct upstreams){
		.shm = house->shm, .seat = house->seat, .start = start, .pools = &house->pools, .lines = &house->lines
	};
	house->upstreams = calloc(config->n_upstreams, sizeof *house->upstreams);
	if (!house->upstreams)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_places own = {
			.row = places->upstreams[i], .servers = places->servers[i], .boxes = places->boxes ? places->boxes[i] : NULL
		};
		int error = upstream_init(&house->upstreams[i], &house->shared, &config->upstreams[i], &own);
		if (error)
			return error;
		house->n_upstreams++;
		upstream_look(&house->upstreams[i], loop_now_ns(house->loop)); /* before anything is dialled */
	}
	return 0;
}

uint32_t house_hot_most(const struct config *config)
{
	uint32_t most = 0;
	for (size_t i = 0; i < config->n_upstreams && most < CONFIG_MAX_HOT; i++)
		most += pool_most(&config->upstreams[i]);
	return most < CONFIG_MAX_HOT ? most : CONFIG_MAX_HOT;
}

uint32_t house_box_descriptors(const struct config *config)
{
	size_t count = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		count += config->upstreams[i].pool.share ? 2 * config->upstreams[i].n_servers : 0;
	return (uint32_t)count;
}

int house_init(struct house *house, struct loop *loop, struct ring *ring, const struct config *config, const struct house_places *places,
        struct shm *shm, uint32_t seat, const struct house_room *room, uint32_t start,
        void (*serve)(struct line *line, struct waiter *waiter, uint64_t *due_ns))
{
	*house = (struct house){ .loop = loop,
		.shm = shm,
		.seat = seat,
		.seat_row = &shm->seats[seat],
		.line_ops = { .serve = serve, .spare = upstream_spare, .rung = on_rung } };
	access_init(&house->access, config, shm, seat, places->log_bell);
	int error = conns_init(&house->conns, loop, ring, room->conns, &house->seat_row->buffer_exhausted);
	if (!error)
		error = pools_init(&house->pools, loop, &house->conns, shm, seat, places->workers, room->hot, room->spare);
	if (!error)
		error = lines_init(&house->lines, loop, shm, seat, places->bells, &house->line_ops);
	if (!error)
		error = init_upstreams(house, config, places, start);
	if (error)
		house_fini(house);
	else
		flight_begin(house, places->generation, config->flight_recorder_bytes);
	return error;
}

void house_fini(struct house *house)
{
	lines_fini(&house->lines);
	pools_fini(&house->pools);
	for (uint32_t i = 0; i < house->n_upstreams; i++)
		upstream_fini(&house->upstreams[i]);
	free(house->upstreams);
	conns_fini(&house->conns);
	*house = (struct house){ 0 };
}
