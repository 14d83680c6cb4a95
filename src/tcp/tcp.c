#include "tcp/tcp.h"

#include <errno.h>
#include <string.h>

#include "os/region.h"
#include "tcp/flight.h"
#include "tcp/pace.h"
#include "tcp/reuse.h"
#include "tcp/wait.h"

/* Connections that are being closed have their places for a turn; hot ones leave some more for the clients of a turn. */
enum { CLOSING_SPARE = 64, CONNS_SPARE = 2 * CLOSING_SPARE, HOT_SPARE = 64 };

static struct tcp *tcp_of(struct acceptor *acceptor)
{
	return container_of(acceptor, struct tcp, acceptor);
}

/* --- admission ----------------------------------------------------------------------------------------------------------- */

bool tcp_reserve(struct tcp *tcp, const struct tcp_listener *listener, enum reason *why_not)
{
	if (!limit_reserve(tcp->shm, tcp->seat, limit_global())) {
		*why_not = REASON_FULL;
		return false;
	}
	if (!limit_reserve(tcp->shm, tcp->seat, listener->limit)) {
		limit_release(tcp->shm, tcp->seat, limit_global());
		*why_not = REASON_LISTENER_FULL;
		return false;
	}
	return true;
}

void tcp_release(struct tcp *tcp, const struct tcp_listener *listener)
{
	limit_release(tcp->shm, tcp->seat, listener->limit);
	limit_release(tcp->shm, tcp->seat, limit_global());
}

static bool waits_when_full(const struct tcp_listener *listener)
{
	return listener->config->on_full == ON_FULL_WAIT;
}

bool tcp_make_room(struct tcp *tcp)
{
	return pools_evict(&tcp->pools, HOT_SPARE) > 0;
}

/* A session needs two connections; hot ones make way. */
static bool is_full(struct tcp *tcp)
{
	if (conns_room(&tcp->conns) < CONNS_SPARE + HOT_SPARE / 2)
		(void)tcp_make_room(tcp);
	return tcp->sessions.in_use >= tcp->sessions.capacity || conns_room(&tcp->conns) < 2;
}

static enum admission on_admit(struct acceptor *acceptor, uint32_t index)
{
	struct tcp *tcp = tcp_of(acceptor);
	const struct tcp_listener *listener = &tcp->listeners[index];
	enum reason why_not;
	if (is_full(tcp))
		return WORKER_FULL;
	return !waits_when_full(listener) || tcp_reserve(tcp, listener, &why_not) ? ADMITTED : LISTENER_FULL;
}

static void on_not_accepted(struct acceptor *acceptor, uint32_t index)
{
	struct tcp *tcp = tcp_of(acceptor);
	if (waits_when_full(&tcp->listeners[index]))
		tcp_release(tcp, &tcp->listeners[index]);
}

static void link_newest(struct tcp *tcp, struct session *session)
{
	session->prev = tcp->newest;
	session->next = NULL;
	*(tcp->newest ? &tcp->newest->next : &tcp->oldest) = session;
	tcp->newest = session;
}

static void on_accepted(struct acceptor *acceptor, uint32_t index, int fd, const struct sockaddr_in6 *peer)
{
	struct tcp *tcp = tcp_of(acceptor);
	struct tcp_listener *listener = &tcp->listeners[index];
	struct session *session = slab_take(&tcp->sessions);
	struct conn *client = conn_adopt(&tcp->conns, fd, peer->sin6_family == AF_UNSPEC);
	ensure(session && client); /* on_admit() looked */
	memset(session, 0, sizeof *session);
	link_newest(tcp, session);
	counter_add(&tcp->seat_row->accepts, 1);
	session->serial = record_serial(counter_get(&tcp->seat_row->accepts));
	atomic_store_explicit(&tcp->seat_row->sessions, tcp_active(tcp), memory_order_relaxed);
	session_begin(session, tcp, listener, client, peer, waits_when_full(listener));
}

static void on_paused(struct acceptor *acceptor, uint32_t index, int error)
{
	struct tcp *tcp = tcp_of(acceptor);
	uint64_t held_back;
	counter_add(&tcp->seat_row->accept_pauses, 1);
	if (!log_gate_open(&tcp->pause_gate, loop_now_ns(tcp->loop), &held_back))
		return;
	const char *name = tcp->listeners[index].config->name;
	if (error)
		log_warn("listener %s: cannot accept: %s; clients wait until there is room (raise LimitNOFILE or `ulimit -n` where it is "
		         "descriptors)",
		        name, strerror(error));
	else if (is_full(tcp))
		log_warn("listener %s: this worker is full with %u connections (its share of the descriptor limit); clients wait", name,
		        tcp_active(tcp));
	else
		log_info("listener %s: max_connections reached; clients wait (on_full = \"wait\")", name);
}

static const struct acceptor_owner acceptor_owner = {
	.admit = on_admit, .not_accepted = on_not_accepted, .accepted = on_accepted, .paused = on_paused
};

/* --- servers that went down ------------------------------------------------------------------------------------------------- */

void tcp_published(struct tcp *tcp)
{
	tcp->shared.published = true;
	for (uint32_t i = 0; i < tcp->n_upstreams; i++)
		upstream_follow(&tcp->upstreams[i], loop_now_ns(tcp->loop));
}

void tcp_beat(struct tcp *tcp)
{
	for (uint32_t i = 0; i < tcp->n_upstreams; i++)
		upstream_look(&tcp->upstreams[i], loop_now_ns(tcp->loop));
}

/* Those that held one go on to others, and may find out that yet another one went down: hence again and again. */
static void leave_fallen(struct tcp *tcp)
{
	while (tcp->shared.fell) {
		tcp->shared.fell = false;
		for (uint32_t i = 0; i < tcp->n_upstreams; i++)
			upstream_leave_fallen(&tcp->upstreams[i]);
		for (struct session *session = tcp->oldest, *next; session; session = next) {
			next = session->next;
			if (session->server && session->server->leaving)
				session_server_fell(session);
		}
		for (uint32_t i = 0; i < tcp->n_upstreams; i++)
			upstream_left_fallen(&tcp->upstreams[i]);
	}
}

/* --- deadlines ----------------------------------------------------------------------------------------------------------- */

static void on_due(struct wheel_entry *entry, void *arg)
{
	(void)arg;
	session_due(container_of(entry, struct session, timer));
}

static void on_wheel_timer(struct loop_timer *timer)
{
	struct tcp *tcp = container_of(timer, struct tcp, wheel_timer);
	tcp->wheel_timer_ns = WHEEL_NEVER;
	wheel_advance(&tcp->wheel, loop_now_ns(tcp->loop), on_due, NULL);
}

void tcp_before_sleep(struct tcp *tcp)
{
	uint64_t now_ns = loop_now_ns(tcp->loop);
	if (unlikely(tcp->shared.fell))
		leave_fallen(tcp);
	lines_before_sleep(&tcp->lines); /* clients first */
	pools_before_sleep(&tcp->pools);
	uint64_t next_ns = upstreams_work(&tcp->shared) ? now_ns : wheel_next_ns(&tcp->wheel);
	relay_engine_before_sleep(&tcp->engine);
	if (next_ns >= tcp->wheel_timer_ns)
		return; /* fires early enough, or nothing to wait for; an early one does no harm */
	tcp->wheel_timer_ns = next_ns;
	loop_timer_start(tcp->loop, &tcp->wheel_timer, next_ns > now_ns ? next_ns - now_ns : 0);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------ */

static void on_rung(struct lines *lines)
{
	clerk_answer(container_of(lines, struct tcp, lines));
}

static const struct line_ops line_ops = { .serve = wait_serve, .spare = upstream_spare, .rung = on_rung };

static int init_listeners(struct tcp *tcp, const struct config *config, const struct tcp_places *places)
{
	tcp->listeners = calloc(config->n_listeners, sizeof *tcp->listeners);
	if (!tcp->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		uint32_t row = places->listeners[i];
		tcp->listeners[i] = (struct tcp_listener){ .config = listener,
			.upstream = &tcp->upstreams[listener->upstream],
			.row = shm_listener_row(tcp->shm, tcp->seat, row),
			.shm_row = row,
			.limit = limit_listener(row),
			.paced = pace_is_wanted(listener) };
		bandwidth_init(&tcp->listeners[i].bandwidth, listener, &tcp->shm->listeners[row]);
		int error = door_init(&tcp->listeners[i].door, listener, tcp->shm, row);
		if (error)
			return error;
		tcp->n_listeners++;
	}
	return 0;
}

static int init_upstreams(struct tcp *tcp, const struct config *config, const struct tcp_places *places, uint32_t start)
{
	tcp->shared = (struct upstreams){ .shm = tcp->shm, .seat = tcp->seat, .start = start, .pools = &tcp->pools, .lines = &tcp->lines };
	tcp->upstreams = calloc(config->n_upstreams, sizeof *tcp->upstreams);
	if (!tcp->upstreams)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_places own = {
			.row = places->upstreams[i], .servers = places->servers[i], .boxes = places->boxes ? places->boxes[i] : NULL
		};
		int error = upstream_init(&tcp->upstreams[i], &tcp->shared, &config->upstreams[i], &own);
		if (error)
			return error;
		tcp->n_upstreams++;
		upstream_look(&tcp->upstreams[i], loop_now_ns(tcp->loop)); /* before anything is dialled */
	}
	return 0;
}

/* While a connection is being closed it still has its place: that of another session's worth is kept for those. */
static size_t conn_capacity(uint32_t sessions, uint32_t hot)
{
	return 2 * (size_t)sessions + hot + CONNS_SPARE;
}

uint32_t tcp_hot_most(const struct config *config)
{
	uint32_t most = 0;
	for (size_t i = 0; i < config->n_upstreams && most < CONFIG_MAX_HOT; i++)
		most += pool_most(&config->upstreams[i]);
	if (most > CONFIG_MAX_HOT)
		most = CONFIG_MAX_HOT;
	return most ? most + HOT_SPARE : 0;
}

uint32_t tcp_box_descriptors(const struct config *config)
{
	size_t count = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		count += config->upstreams[i].pool.share ? 2 * config->upstreams[i].n_servers : 0;
	return (uint32_t)count;
}

static int reserve_slab(struct slab *slab, size_t object_bytes, size_t capacity)
{
	void *region;
	int error = region_reserve(slab_region_bytes(object_bytes, capacity), &region);
	if (!error)
		slab_init(slab, region, object_bytes, capacity);
	return error;
}

static void close_slab(const struct slab *slab)
{
	if (slab->region)
		region_close(slab->region, slab_region_bytes(slab->object_bytes, slab->capacity));
}

static bool is_paced(const struct config *config)
{
	bool paced = false;
	for (size_t i = 0; i < config->n_listeners; i++)
		paced = paced || pace_is_wanted(&config->listeners[i]);
	return paced;
}

uint64_t tcp_connection_bytes(const struct config *config)
{
	return sizeof(struct session) + 2 * sizeof(struct conn) + (is_paced(config) ? sizeof(struct pace) : 0) +
	       (tcp_hot_most(config) ? sizeof(struct reuse) : 0);
}

uint64_t tcp_hot_bytes(uint32_t hot)
{
	return hot * (uint64_t)(sizeof(struct hot) + sizeof(struct conn));
}

static int init_pools(struct tcp *tcp, const struct config *config, uint32_t workers, uint32_t capacity)
{
	uint32_t most = tcp_hot_most(config);
	int error = pools_init(&tcp->pools, tcp->loop, &tcp->conns, tcp->shm, tcp->seat, workers, most, CONNS_SPARE + HOT_SPARE);
	if (!error && most)
		error = reserve_slab(&tcp->reuses, sizeof(struct reuse), capacity);
	return error;
}

int tcp_init(struct tcp *tcp, struct loop *loop, struct ring *ring, const struct config *config, const struct tcp_places *places,
        struct shm *shm, uint32_t seat, uint32_t capacity, uint32_t hot, size_t buffers, unsigned pipes, uint32_t start,
        struct accept_socket *sockets, uint32_t n_sockets)
{
	*tcp = (struct tcp){ .loop = loop, .shm = shm, .seat = seat, .seat_row = &shm->seats[seat], .wheel_timer_ns = WHEEL_NEVER };
	wheel_init(&tcp->wheel, loop_now_ns(loop));
	access_init(&tcp->access, config, shm, seat, places->log_bell);
	loop_timer_init(&tcp->wheel_timer, on_wheel_timer);
	tcp->engine.loop = loop;
	tcp->engine.conns = &tcp->conns;
	tcp->engine.session = &session_relay_ops;
	tcp->engine.buffer_exhausted = &tcp->seat_row->buffer_exhausted;
	tcp->engine.pipes = &tcp->pipes;
	tcp->engine.spliced_bytes = &tcp->seat_row->spliced_bytes;
	tcp->engine.pipe_exhausted = &tcp->seat_row->pipe_exhausted;
	int error = buffers_init(&tcp->engine.buffers, buffers, ring ? RELAY_PIECES * (size_t)ring_buffers(ring) : 0);
	if (!error)
		error = pipes_init(&tcp->pipes, pipes);
	if (!error)
		error = conns_init(&tcp->conns, loop, ring, conn_capacity(capacity, hot), &tcp->seat_row->buffer_exhausted);
	if (!error)
		error = reserve_slab(&tcp->sessions, sizeof(struct session), capacity);
	if (!error && is_paced(config))
		error = reserve_slab(&tcp->paces, sizeof(struct pace), capacity);
	if (!error)
		error = init_pools(tcp, config, places->workers, capacity);
	if (!error)
		error = lines_init(&tcp->lines, loop, shm, seat, places->bells, &line_ops);
	if (!error)
		error = init_upstreams(tcp, config, places, start);
	if (!error)
		error = init_listeners(tcp, config, places);
	if (error) {
		tcp_fini(tcp);
		return error;
	}
	flight_begin(tcp, places->generation, config->flight_recorder_bytes);
	acceptor_init(&tcp->acceptor, loop, &acceptor_owner, sockets, n_sockets);
	return 0;
}

void tcp_close_pools(struct tcp *tcp)
{
	pools_close(&tcp->pools);
}

void tcp_fini(struct tcp *tcp)
{
	lines_fini(&tcp->lines);
	pools_fini(&tcp->pools);
	for (uint32_t i = 0; i < tcp->n_upstreams; i++)
		upstream_fini(&tcp->upstreams[i]);
	free(tcp->upstreams);
	for (uint32_t i = 0; i < tcp->n_listeners; i++)
		door_fini(&tcp->listeners[i].door);
	free(tcp->listeners);
	close_slab(&tcp->sessions);
	close_slab(&tcp->reuses);
	close_slab(&tcp->paces);
	conns_fini(&tcp->conns);
	buffers_fini(&tcp->engine.buffers);
	pipes_fini(&tcp->pipes);
	*tcp = (struct tcp){ 0 };
}

void tcp_forget(struct tcp *tcp, struct session *session)
{
	clerk_forget(&tcp->clerk, session);
	*(session->prev ? &session->prev->next : &tcp->oldest) = session->next;
	*(session->next ? &session->next->prev : &tcp->newest) = session->prev;
	slab_give_back(&tcp->sessions, session);
	atomic_store_explicit(&tcp->seat_row->sessions, tcp_active(tcp), memory_order_relaxed);
	if (tcp->sessions.in_use == 0 && tcp->empty)
		tcp->empty(tcp->empty_arg);
}

uint32_t tcp_end_idle(struct tcp *tcp, uint32_t count, uint64_t quiet_ns, enum reason reason)
{
	uint64_t now_ns = loop_now_ns(tcp->loop);
	uint32_t ended = 0;
	for (struct session *session = tcp->oldest, *next; session && ended < count; session = next) {
		next = session->next;
		if (!session_is_idle(session, now_ns, quiet_ns))
			continue;
		session_end(session, reason);
		ended++;
	}
	return ended;
}

void tcp_end_all(struct tcp *tcp, enum reason reason)
{
	while (tcp->oldest)
		session_end(tcp->oldest, reason);
}
