#include "tcp/tcp.h"

#include <errno.h>
#include <string.h>

#include "house/caller.h"
#include "os/region.h"
#include "policy/routes.h"
#include "tcp/hello.h"
#include "tcp/introduce.h"
#include "tcp/pace.h"
#include "tcp/proxied.h"
#include "tcp/reuse.h"
#include "tcp/secure.h"
#include "tcp/wait.h"

/* Connections that are being closed have their places for a turn; hot ones leave some more for the clients of a turn. */
enum { CLOSING_SPARE = 64, CONNS_SPARE = 2 * CLOSING_SPARE, HOT_SPARE = 64 };

static struct tcp *tcp_of(struct acceptor *acceptor)
{
	return container_of(acceptor, struct tcp, acceptor);
}

/* --- admission ----------------------------------------------------------------------------------------------------------- */

static bool waits_when_full(const struct tcp_listener *listener)
{
	return listener->entrance.config->on_full == ON_FULL_WAIT;
}

bool tcp_make_room(struct tcp *tcp)
{
	return pools_evict(&tcp->house->pools, HOT_SPARE) > 0;
}

/* A session needs two connections; hot ones make way. */
static bool is_full(struct tcp *tcp)
{
	if (conns_room(&tcp->house->conns) < CONNS_SPARE + HOT_SPARE / 2)
		(void)tcp_make_room(tcp);
	return tcp->sessions.in_use >= tcp->sessions.capacity || conns_room(&tcp->house->conns) < 2;
}

static enum admission on_admit(struct acceptor *acceptor, uint32_t index)
{
	struct tcp *tcp = tcp_of(acceptor);
	const struct tcp_listener *listener = &tcp->listeners[index];
	enum reason why_not;
	if (is_full(tcp))
		return WORKER_FULL;
	return !waits_when_full(listener) || house_reserve(&listener->entrance, &why_not) ? ADMITTED : LISTENER_FULL;
}

static void on_not_accepted(struct acceptor *acceptor, uint32_t index)
{
	struct tcp *tcp = tcp_of(acceptor);
	if (waits_when_full(&tcp->listeners[index]))
		house_release(&tcp->listeners[index].entrance);
}

static void on_accepted(struct acceptor *acceptor, uint32_t index, int fd, const struct sockaddr_in6 *peer)
{
	struct tcp *tcp = tcp_of(acceptor);
	struct tcp_listener *listener = &tcp->listeners[index];
	struct session *session = slab_take(&tcp->sessions);
	struct conn *client = conn_adopt(&tcp->house->conns, fd, peer->sin6_family == AF_UNSPEC);
	ensure(session && client); /* on_admit() looked */
	memset(session, 0, sizeof *session);
	session->visit.entrance = &listener->entrance;
	session->visit.peer = *peer;
	house_enter(tcp->house, &session->visit);
	session_begin(session, client, waits_when_full(listener));
}

static void on_paused(struct acceptor *acceptor, uint32_t index, int error)
{
	struct tcp *tcp = tcp_of(acceptor);
	uint64_t held_back;
	counter_add(&tcp->seat_row->accept_pauses, 1);
	if (!log_gate_open(&tcp->pause_gate, loop_now_ns(tcp->loop), &held_back))
		return;
	const char *name = tcp->listeners[index].entrance.config->name;
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

void tcp_before_sleep(struct tcp *tcp, bool at_once)
{
	uint64_t now_ns = loop_now_ns(tcp->loop);
	uint64_t next_ns = at_once ? now_ns : wheel_next_ns(&tcp->wheel);
	relay_engine_hold_back(&tcp->engine);
	if (next_ns >= tcp->wheel_timer_ns)
		return; /* fires early enough, or nothing to wait for; an early one does no harm */
	tcp->wheel_timer_ns = next_ns;
	loop_timer_start(tcp->loop, &tcp->wheel_timer, next_ns > now_ns ? next_ns - now_ns : 0);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------ */

static int init_listeners(struct tcp *tcp, const struct config *config, const struct house_places *places)
{
	tcp->listeners = calloc(config->n_listeners, sizeof *tcp->listeners);
	if (!tcp->listeners)
		return -ENOMEM;
	tcp->n_listeners = (uint32_t)config->n_listeners;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		uint32_t row = places->listeners[i];
		if (listener->protocol != PROTOCOL_TCP)
			continue;
		int error = entrance_init(&tcp->listeners[i].entrance, tcp->house, &session_kind, listener, row);
		if (!error)
			error = proxied_peers(listener, &tcp->listeners[i].proxies);
		if (!error)
			error = routes_new(listener->routes, listener->n_routes, &tcp->listeners[i].routes);
		if (error)
			return error;
		tcp->listeners[i].tcp = tcp;
		tcp->listeners[i].tls = tls_server_of(tcp->house->tls, (uint32_t)i);
		tcp->listeners[i].paced = pace_is_wanted(listener);
		bandwidth_init(&tcp->listeners[i].bandwidth, listener, &tcp->house->shm->listeners[row]);
	}
	return 0;
}

/* While a connection is being closed it still has its place: that of another session's worth is kept for those. */
static size_t conn_capacity(uint32_t sessions, uint32_t hot)
{
	return 2 * (size_t)sessions + hot + CONNS_SPARE;
}

bool tcp_has_plain(const struct config *config)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		bool leads_to_tls = listener->upstream != CONFIG_NO_UPSTREAM && config->upstreams[listener->upstream].tls.enabled;
		if (listener->protocol == PROTOCOL_TCP && !listener->tls.enabled && !leads_to_tls)
			return true;
	}
	return false;
}

uint32_t tcp_hot_most(const struct config *config)
{
	uint32_t most = house_hot_most(config);
	return most ? most + HOT_SPARE : 0;
}

struct house_room tcp_room(const struct config *config, uint32_t capacity, uint32_t hot)
{
	return (struct house_room){ .conns = conn_capacity(capacity, hot), .hot = tcp_hot_most(config), .spare = CONNS_SPARE + HOT_SPARE };
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

/* The longest hello that a listener looks at, and a byte to see that there is more; 0 = none looks at any. */
static size_t hello_most(const struct config *config)
{
	size_t most = 0;
	for (size_t i = 0; i < config->n_listeners; i++)
		if (hello_is_wanted(&config->listeners[i]) && config->listeners[i].client_hello.most_bytes + 1 > most)
			most = (size_t)config->listeners[i].client_hello.most_bytes + 1;
	return most;
}

static int init_hellos(struct tcp *tcp, const struct config *config, uint32_t capacity)
{
	tcp->hello_size = hello_most(config);
	if (tcp->hello_size == 0)
		return 0;
	tcp->hello_bytes = malloc(tcp->hello_size);
	return tcp->hello_bytes ? reserve_slab(&tcp->callers, sizeof(struct caller), capacity) : -ENOMEM;
}

uint64_t tcp_connection_bytes(const struct config *config)
{
	return sizeof(struct session) + 2 * sizeof(struct conn) + (is_paced(config) ? sizeof(struct pace) : 0) +
	       (tcp_hot_most(config) ? sizeof(struct reuse) : 0) + (hello_most(config) ? sizeof(struct caller) : 0) +
	       (introduction_is_wanted(config) ? sizeof(struct introduction) : 0) +
	       (uint64_t)secure_streams(config) * (sizeof(struct tls_stream) + TLS_SESSION_BYTES);
}

uint64_t tcp_hot_bytes(uint32_t hot)
{
	return hot * (uint64_t)(sizeof(struct hot) + sizeof(struct conn));
}

/* Where anything speaks TLS: what its sides need, in which records that were made can always be held. */
static int init_streams(struct tcp *tcp, const struct config *config, uint32_t capacity)
{
	unsigned each = secure_streams(config);
	if (each == 0)
		return 0;
	int error = tls_desk_init(&tcp->desk);
	if (error)
		return error;
	tcp->engine.desk = &tcp->desk;
	tcp->desk.able = tls_kernel_ability(tcp->house->tls);
	tcp->desk.kernel_from = config->tls.ktls_from_bytes;
	return reserve_slab(&tcp->streams, sizeof(struct tls_stream), each * (size_t)capacity);
}

int tcp_init(struct tcp *tcp, struct house *house, struct ring *ring, const struct config *config, const struct house_places *places,
        uint32_t capacity, size_t buffers, unsigned pipes, struct accept_socket *sockets, uint32_t n_sockets)
{
	*tcp = (struct tcp){ .house = house, .loop = house->loop, .seat_row = house->seat_row, .wheel_timer_ns = WHEEL_NEVER };
	wheel_init(&tcp->wheel, loop_now_ns(tcp->loop));
	loop_timer_init(&tcp->wheel_timer, on_wheel_timer);
	tcp->engine.loop = tcp->loop;
	tcp->engine.conns = &house->conns;
	tcp->engine.session = &session_relay_ops;
	tcp->engine.buffer_exhausted = &tcp->seat_row->buffer_exhausted;
	tcp->engine.pipes = &tcp->pipes;
	tcp->engine.spliced_bytes = &tcp->seat_row->spliced_bytes;
	tcp->engine.pipe_exhausted = &tcp->seat_row->pipe_exhausted;
	size_t reserves = secure_streams(config) ? 2 * (size_t)capacity : 0; /* for each direction */
	int error = buffers_init(&tcp->engine.buffers, buffers, ring ? RELAY_PIECES * (size_t)ring_buffers(ring) : 0, reserves);
	if (!error)
		error = pipes_init(&tcp->pipes, pipes);
	if (!error)
		error = reserve_slab(&tcp->sessions, sizeof(struct session), capacity);
	if (!error && is_paced(config))
		error = reserve_slab(&tcp->paces, sizeof(struct pace), capacity);
	if (!error && introduction_is_wanted(config))
		error = reserve_slab(&tcp->introductions, sizeof(struct introduction), capacity);
	if (!error && tcp_hot_most(config))
		error = reserve_slab(&tcp->reuses, sizeof(struct reuse), capacity);
	if (!error)
		error = init_hellos(tcp, config, capacity);
	if (!error)
		error = init_streams(tcp, config, capacity);
	if (!error)
		error = init_listeners(tcp, config, places);
	if (error) {
		tcp_fini(tcp);
		return error;
	}
	acceptor_init(&tcp->acceptor, tcp->loop, &acceptor_owner, sockets, n_sockets);
	return 0;
}

void tcp_fini(struct tcp *tcp)
{
	for (uint32_t i = 0; i < tcp->n_listeners; i++) {
		entrance_fini(&tcp->listeners[i].entrance);
		access_free(tcp->listeners[i].proxies);
		routes_free(tcp->listeners[i].routes);
	}
	free(tcp->hello_bytes);
	free(tcp->listeners);
	close_slab(&tcp->sessions);
	close_slab(&tcp->reuses);
	close_slab(&tcp->paces);
	close_slab(&tcp->introductions);
	close_slab(&tcp->callers);
	close_slab(&tcp->streams);
	tls_desk_fini(&tcp->desk);
	buffers_fini(&tcp->engine.buffers);
	pipes_fini(&tcp->pipes);
	*tcp = (struct tcp){ 0 };
}

void tcp_forget(struct tcp *tcp, struct session *session)
{
	house_leave(tcp->house, &session->visit);
	slab_give_back(&tcp->sessions, session);
}
