#include "udp/udp.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/hash.h"
#include "os/machine.h"
#include "os/region.h"

enum { LAST_BATCHES = 64 }; /* what waits in a socket when the end has come: more than any buffer holds, unless more comes all the time */
/* A new session costs many times as much as a datagram of one that there is. Where many come, fewer are taken at once, so that a turn is
 * short for everybody else. */
enum { CROWD = 16 };
enum { LEAVES = 4 }; /* where there are TCP listeners a part of max_connections is theirs alone */

/* --- from clients -------------------------------------------------------------------------------------------------------------- */

static void log_full(struct udp *udp, const struct udp_socket *socket)
{
	uint64_t held_back;
	if (log_gate_open(&udp->full_gate, loop_now_ns(udp->loop), &held_back))
		log_warn("listener %s: this worker is full with %zu UDP sessions; datagrams of others are dropped (max_connections, "
		         "LimitNOFILE)",
		        socket->entrance->config->name, udp->flows.in_use);
}

/* Does it seem to come from the very socket that it was sent to? Its answers would, too, and be taken for questions for ever. A socket for
 * all addresses of the machine is behind each of them. */
static bool is_from_here(const struct udp_socket *socket, const struct arrival *arrival)
{
	const struct flow_key *key = &arrival->key;
	struct flow_key own;
	struct addr peer;
	flow_key_make(&own, key->listener, &socket->own.in6, NULL);
	if (likely(key->port != own.port))
		return false;
	if ((key->local[0] | key->local[1]) == 0)
		return memcmp(key->client, own.client, sizeof key->client) == 0;
	addr_from_sockaddr(&peer, (const struct sockaddr *)arrival->peer, sizeof *arrival->peer);
	return machine_has_address(&peer);
}

static struct flow *begin(struct udp_socket *socket, const struct arrival *arrival, uint32_t datagrams, const struct transfer_found *found)
{
	struct udp *udp = socket->udp;
	struct listener_row *row = socket->entrance->row;
	if (unlikely(udp->flows.in_use >= udp->flows.capacity)) {
		counter_add(&row->udp_drop_table_full, datagrams);
		log_full(udp, socket);
		return NULL;
	}
	if (unlikely(is_from_here(socket, arrival))) {
		counter_add(&row->udp_drop_refused, datagrams);
		return NULL;
	}
	struct flow *flow = flow_begin(udp, socket, arrival->peer, &arrival->key, arrival->hash, found);
	if (!flow)
		counter_add(&row->udp_drop_refused, datagrams);
	else if (found->died && flow->had)
		counter_add(&row->udp_recovered, 1);
	return flow;
}

/* The session of a client, or a new one. NULL when there is none: then *owner is the worker that has it, or it is counted. One that drains
 * begins none but for what was handed over to it: for a session that had ended meanwhile. */
static struct flow *flow_for(
        struct udp_socket *socket, const struct arrival *arrival, uint32_t datagrams, bool elsewhere, struct udp_owner **owner)
{
	struct udp *udp = socket->udp;
	struct transfer_found found;
	struct flow *flow = flow_find(udp, &arrival->key, arrival->hash);
	if (likely(flow) && flow_goes_on(flow))
		return flow;
	transfer_find(udp, arrival->hash, &found);
	if (found.owner && elsewhere) {
		*owner = found.owner;
		return NULL;
	}
	if (unlikely(udp->refuses && elsewhere)) {
		counter_add(&socket->entrance->row->udp_drop_stopping, datagrams);
		return NULL;
	}
	return begin(socket, arrival, datagrams, &found);
}

/* The first datagrams of a parcel; what is left stays in it. */
static struct parcel split(struct parcel *parcel, uint32_t datagrams)
{
	struct parcel first = *parcel;
	first.length = datagrams * parcel->segment;
	parcel->bytes += first.length;
	parcel->length -= first.length;
	if (parcel->length <= parcel->segment)
		parcel->segment = 0;
	if (datagrams == 1)
		first.segment = 0;
	return first;
}

/* As many parcels as one session takes. Returns how many are done with; the next one may be so in part. */
static uint32_t take(struct flow *flow, struct parcel *parcels, uint32_t n)
{
	uint64_t takes = flow_takes(flow);
	uint32_t datagrams = 0, i = 0;
	while (i < n && datagrams + (uint64_t)parcel_datagrams(&parcels[i]) <= takes)
		datagrams += parcel_datagrams(&parcels[i++]);
	if (i == n || datagrams == takes) {
		flow_send(flow, parcels, i, datagrams);
		return i;
	}
	struct parcel rest = parcels[i];
	parcels[i] = split(&rest, (uint32_t)takes - datagrams);
	flow_send(flow, parcels, i + 1, (uint32_t)takes);
	parcels[i] = rest;
	return i;
}

static uint32_t count_datagrams(const struct parcel *parcels, uint32_t n)
{
	uint32_t datagrams = 0;
	for (uint32_t i = 0; i < n; i++)
		datagrams += parcel_datagrams(&parcels[i]);
	return datagrams;
}

void udp_pass_on(struct udp_socket *socket, const struct arrival *arrival, struct parcel *parcels, bool elsewhere)
{
	struct udp_owner *owner = NULL;
	for (uint32_t done = 0; done < arrival->n;) {
		struct parcel *rest = &parcels[arrival->index + done];
		struct flow *flow = flow_for(socket, arrival, count_datagrams(rest, arrival->n - done), elsewhere, &owner);
		if (!flow) {
			struct arrival left = *arrival;
			left.index += done;
			left.n -= done;
			if (owner)
				transfer_add(socket->udp, owner, &left, parcels);
			return;
		}
		done += take(flow, rest, arrival->n - done);
	}
}

/* The row of a listener is another one with another segment: it is no part of the hash, by which sessions are found over upgrades. */
void udp_finish_key(const struct udp_socket *socket, struct arrival *arrival)
{
	arrival->hash = flow_hash(socket->seed, &arrival->key);
	arrival->key.listener = (uint16_t)socket->entrance->shm_row;
}

/* Who sent what: the parcels of the batch, and whose they are. Returns how many clients in a row. */
static uint32_t sort_out(const struct udp_socket *socket, struct parcel *parcels, struct arrival *arrivals)
{
	const struct udp *udp = socket->udp;
	const struct batch *batch = &udp->arrivals;
	struct local_address local = { .interface = 0 }, last_local = local;
	uint32_t n = 0, datagrams = 0;
	for (uint32_t i = 0; i < batch->n; i++) {
		batch_parcel(batch, i, &parcels[i], socket->any_address ? &local : NULL);
		if (unlikely(local.to_all) && socket->gets_copies)
			continue;
		datagrams += parcel_datagrams(&parcels[i]);
		bool same = n > 0 && arrivals[n - 1].index + arrivals[n - 1].n == i &&
		            arrival_same_peer(&batch->peers[i], &batch->peers[i - 1]) &&
		            (!socket->any_address || memcmp(&local, &last_local, sizeof local) == 0);
		if (same) {
			arrivals[n - 1].n++;
			continue;
		}
		struct arrival *arrival = &arrivals[n++];
		last_local = socket->any_address ? local : last_local;
		flow_key_make(&arrival->key, 0, &batch->peers[i], socket->any_address ? &local : NULL);
		udp_finish_key(socket, arrival);
		arrival->peer = &batch->peers[i];
		arrival->index = i;
		arrival->n = 1;
		flow_table_prefetch(&udp->table, arrival->hash);
	}
	counter_add(&socket->entrance->row->udp_from_client, datagrams);
	return n;
}

static void on_client(struct loop_io *io, int events)
{
	struct udp_socket *socket = container_of(io, struct udp_socket, io);
	struct udp *udp = socket->udp;
	struct parcel parcels[DATAGRAM_BATCH];
	struct arrival arrivals[DATAGRAM_BATCH];
	(void)events;
	if (batch_receive(&udp->arrivals, socket->fd, socket->crowded ? CROWD : DATAGRAM_BATCH) <= 0)
		return;
	uint64_t began = counter_get(&udp->house->seat_row->accepts);
	uint32_t n = sort_out(socket, parcels, arrivals);
	for (uint32_t i = 0; i < n; i++)
		udp_pass_on(socket, &arrivals[i], parcels, true);
	if (unlikely(udp->transfer.n > 0))
		transfer_send(socket);
	batch_clear(&udp->arrivals);
	socket->crowded = counter_get(&udp->house->seat_row->accepts) - began >= CROWD / 2;
}

/* --- to clients ---------------------------------------------------------------------------------------------------------------- */

void udp_make_due(struct udp_socket *socket)
{
	struct udp *udp = socket->udp;
	if (socket->is_due)
		return;
	socket->is_due = true;
	socket->next_due = udp->due;
	udp->due = socket;
}

static void flush_socket(struct udp_socket *socket)
{
	struct listener_row *row = socket->entrance->row;
	struct sending out = { 0 };
	(void)!outbox_send(&socket->outbox, socket->fd, false, &out); /* it drops what cannot be sent */
	counter_add(&row->udp_to_client, out.sent);
	counter_add(&row->sent_bytes, out.sent_bytes);
	if (unlikely(out.full + out.too_large + out.unreachable > 0)) {
		counter_add(&row->udp_drop_send_full, out.full);
		counter_add(&row->udp_drop_too_large, out.too_large);
		counter_add(&row->udp_drop_unreachable, out.unreachable);
	}
}

void udp_flush(struct udp *udp)
{
	while (udp->due) {
		struct udp_socket *socket = udp->due;
		udp->due = socket->next_due;
		socket->is_due = false;
		flush_socket(socket);
	}
	batch_clear(&udp->replies);
}

/* --- deadlines ----------------------------------------------------------------------------------------------------------------- */

static void on_due(struct wheel_entry *entry, void *arg)
{
	(void)arg;
	flow_due(container_of(entry, struct flow, timer));
}

static void on_wheel_timer(struct loop_timer *timer)
{
	struct udp *udp = container_of(timer, struct udp, wheel_timer);
	udp->wheel_timer_ns = WHEEL_NEVER;
	wheel_advance(&udp->wheel, loop_now_ns(udp->loop), on_due, NULL);
}

void udp_before_sleep(struct udp *udp)
{
	uint64_t now_ns = loop_now_ns(udp->loop), next_ns = wheel_next_ns(&udp->wheel);
	if (udp->due)
		udp_flush(udp);
	if (next_ns >= udp->wheel_timer_ns)
		return;
	udp->wheel_timer_ns = next_ns;
	loop_timer_start(udp->loop, &udp->wheel_timer, next_ns > now_ns ? next_ns - now_ns : 0);
}

static bool is_read(const struct udp_socket *socket)
{
	return loop_io_events(&socket->io) != 0;
}

/* What clients sent faster than it was read. The number is the socket's, which outlives its workers: who sees it first has it counted. */
static void count_queue_drops(const struct udp_socket *socket)
{
	struct shm_listener *shared = &socket->udp->house->shm->listeners[socket->entrance->shm_row];
	uint32_t numbers[SK_MEMINFO_VARS];
	socklen_t length = sizeof numbers;
	if (socket->index >= SHM_SLOTS || getsockopt(socket->fd, SOL_SOCKET, SO_MEMINFO, numbers, &length) < 0 ||
	        length <= SK_MEMINFO_DROPS * sizeof *numbers)
		return;
	uint32_t now = numbers[SK_MEMINFO_DROPS];
	uint32_t before = atomic_exchange_explicit(&shared->queue_drops[socket->index], now, memory_order_relaxed);
	counter_add(&socket->entrance->row->udp_drop_client_queue, now >= before ? now - before : now); /* a new socket begins at 0 */
}

void udp_beat(struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_read(&udp->sockets[i]))
			count_queue_drops(&udp->sockets[i]);
	batch_trim(&udp->arrivals);
	batch_trim(&udp->replies);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------------ */

void udp_count_sessions(const struct udp *udp)
{
	atomic_store_explicit(&udp->house->seat_row->udp_sessions, (uint32_t)udp->flows.in_use, memory_order_relaxed);
}

uint64_t udp_session_bytes(void)
{
	return sizeof(struct flow) + 2 * sizeof(struct flow_place);
}

bool udp_is_wanted(const struct config *config, enum protocol protocol)
{
	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].protocol == protocol)
			return true;
	return false;
}

static int init_listeners(struct udp *udp, const struct config *config, const struct house_places *places)
{
	udp->entrances = calloc(config->n_listeners, sizeof *udp->entrances);
	if (!udp->entrances)
		return -ENOMEM;
	udp->n_listeners = (uint32_t)config->n_listeners;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		if (listener->protocol != PROTOCOL_UDP)
			continue;
		int error = entrance_init(&udp->entrances[i], udp->house, &flow_kind, listener, places->listeners[i]);
		if (error)
			return error;
		udp->entrances[i].leaves = udp_is_wanted(config, PROTOCOL_TCP) ? LEAVES : 0;
	}
	return 0;
}

static struct addr bound_to(int fd)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	struct addr own = { 0 };
	if (getsockname(fd, (struct sockaddr *)&name, &length) == 0)
		addr_from_sockaddr(&own, (const struct sockaddr *)&name, length);
	return own;
}

static int init_sockets(struct udp *udp, const struct udp_place *places, uint32_t n)
{
	udp->sockets = calloc(n, sizeof *udp->sockets);
	if (!udp->sockets)
		return -ENOMEM;
	for (; udp->n_sockets < n; udp->n_sockets++) {
		struct udp_socket *socket = &udp->sockets[udp->n_sockets];
		const struct udp_place *place = &places[udp->n_sockets];
		*socket = (struct udp_socket){ .udp = udp,
			.entrance = &udp->entrances[place->listener],
			.fd = place->fd,
			.own = bound_to(place->fd),
			.index = place->index,
			.listener_hash = place->listener_hash,
			.seed = { udp->seed[0] ^ place->listener_hash, udp->seed[1] },
			.any_address = place->any_address,
			.gets_copies = place->gets_copies };
		loop_io_init(&socket->io, on_client);
		int error = outbox_init(&socket->outbox, &udp->features);
		if (error)
			return error;
	}
	return 0;
}

static int init_memory(struct udp *udp, uint32_t capacity)
{
	void *region;
	int error = region_reserve(slab_region_bytes(sizeof(struct flow), capacity), &region);
	if (error)
		return error;
	slab_init(&udp->flows, region, sizeof(struct flow), capacity);
	error = flow_table_init(&udp->table, capacity);
	if (!error)
		error = batch_init(&udp->arrivals, &udp->features, true);
	if (!error)
		error = batch_init(&udp->replies, &udp->features, false);
	if (!error)
		error = outbox_init(&udp->run, &udp->features);
	return error;
}

/* Nobody outside shall be able to tell which sessions share a place. */
static void make_seed(uint64_t seed[2])
{
	if (getrandom(seed, 2 * sizeof *seed, GRND_NONBLOCK) == 2 * (ssize_t)sizeof *seed)
		return;
	uint64_t state = clock_now_ns();
	seed[0] = hash_next(&state);
	seed[1] = hash_next(&state);
}

int udp_init(struct udp *udp, struct house *house, const struct config *config, const struct house_places *places, uint32_t capacity,
        const struct udp_place *sockets, uint32_t n_sockets, const struct udp_post *post)
{
	*udp = (struct udp){ .house = house, .loop = house->loop, .wheel_timer_ns = WHEEL_NEVER };
	wheel_init(&udp->wheel, loop_now_ns(udp->loop));
	loop_timer_init(&udp->wheel_timer, on_wheel_timer);
	if (n_sockets == 0)
		return 0;
	datagram_probe(&udp->features);
	if (post->flows)
		memcpy(udp->seed, post->flows->shared->seed, sizeof udp->seed);
	else
		make_seed(udp->seed);
	int error = init_memory(udp, capacity);
	if (!error)
		error = transfer_init(udp, post);
	if (!error)
		error = init_listeners(udp, config, places);
	if (!error)
		error = init_sockets(udp, sockets, n_sockets);
	if (error)
		udp_fini(udp);
	return error;
}

void udp_fini(struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		outbox_fini(&udp->sockets[i].outbox);
	free(udp->sockets);
	for (uint32_t i = 0; i < udp->n_listeners; i++)
		entrance_fini(&udp->entrances[i]);
	free(udp->entrances);
	outbox_fini(&udp->run);
	transfer_fini(udp);
	batch_fini(&udp->arrivals);
	batch_fini(&udp->replies);
	flow_table_fini(&udp->table);
	if (udp->flows.region)
		region_close(udp->flows.region, slab_region_bytes(udp->flows.object_bytes, udp->flows.capacity));
	*udp = (struct udp){ 0 };
}

/* --- who reads ----------------------------------------------------------------------------------------------------------------- */

static void watch(struct udp_socket *socket)
{
	struct udp *udp = socket->udp;
	bool wanted = udp->runs && !socket->yielded && socket->fd >= 0;
	if (wanted == is_read(socket))
		return;
	if (!wanted) {
		count_queue_drops(socket);
		loop_io_stop(udp->loop, &socket->io);
		return;
	}
	int error = loop_io_set(udp->loop, &socket->io, socket->fd, LOOP_READ);
	if (error)
		log_error("listener %s: cannot wait for datagrams: %s", socket->entrance->config->name, strerror(-error));
}

void udp_start(struct udp *udp)
{
	udp->runs = true;
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		watch(&udp->sockets[i]);
}

static void take_what_waits(struct udp_socket *socket)
{
	for (uint32_t turn = 0; is_read(socket) && turn < LAST_BATCHES; turn++)
		on_client(&socket->io, LOOP_READ);
}

void udp_refuse(struct udp *udp)
{
	for (uint32_t i = 0; !udp->refuses && i < udp->n_sockets; i++)
		take_what_waits(&udp->sockets[i]);
	udp->refuses = true;
}

bool udp_reads(const struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_read(&udp->sockets[i]))
			return true;
	return false;
}

static bool is_of(const struct udp_socket *socket, uint32_t listener)
{
	return socket->entrance == &socket->udp->entrances[listener];
}

void udp_yield(struct udp *udp, uint32_t listener, bool yielded)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++) {
		if (!is_of(&udp->sockets[i], listener))
			continue;
		udp->sockets[i].yielded = yielded;
		watch(&udp->sockets[i]);
	}
}

static void end_sessions(struct udp *udp, const struct entrance *entrance)
{
	for (struct visit *visit = udp->house->oldest, *next; visit; visit = next) {
		next = visit->next;
		if (visit->entrance == entrance)
			entrance->kind->end(visit, REASON_LISTENER_CLOSED);
	}
}

void udp_close(struct udp *udp, uint32_t listener)
{
	if (udp->n_sockets == 0)
		return;
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_of(&udp->sockets[i], listener))
			take_what_waits(&udp->sockets[i]);
	end_sessions(udp, &udp->entrances[listener]);
	udp_flush(udp);
	for (uint32_t i = 0; i < udp->n_sockets; i++) {
		struct udp_socket *socket = &udp->sockets[i];
		if (!is_of(socket, listener) || socket->fd < 0)
			continue;
		socket->yielded = true;
		watch(socket);
		close(socket->fd);
		socket->fd = -1;
	}
}
