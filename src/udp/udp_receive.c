/* What clients send: a batch of parcels from one of the sockets is sorted by who sent them, and goes to the session of each, which may
 * begin with it, or to the worker that has it. */
#include <string.h>

#include "os/machine.h"
#include "udp/udp.h"

/* A new session costs many times as much as a datagram of one that there is. Where many come, fewer are taken at once, so that a turn is
 * short for everybody else. */
enum { CROWD = 16 };

static void log_full(struct udp *udp, const struct udp_socket *socket)
{
	uint64_t held_back;
	if (log_gate_open(&udp->full_gate, loop_now_ns(udp->loop), &held_back))
		log_warn("listener %s: this worker is full with %zu UDP sessions; datagrams of others are dropped (max_connections, "
		         "LimitNOFILE)",
		        socket->entrance->config->name, udp->flows.in_use);
}

static bool is_from(const struct udp_socket *other, const struct arrival *arrival)
{
	struct flow_key own;
	struct addr peer;
	if (likely(arrival->key.port != other->own.in6.sin6_port)) /* it stands at the same place in both families */
		return false;
	if (!other->any_address) {
		flow_key_make(&own, 0, &other->own.in6, NULL);
		return memcmp(arrival->key.client, own.client, sizeof own.client) == 0;
	}
	addr_from_sockaddr(&peer, (const struct sockaddr *)arrival->peer, sizeof *arrival->peer);
	return machine_has_address(&peer);
}

/* Does it seem to come from a socket that clients send to, this one or another one? Answers would go there, and be taken for questions, for
 * ever. A socket for all addresses of the machine is behind each of them. */
static bool is_from_here(const struct udp *udp, const struct arrival *arrival)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (unlikely(is_from(&udp->sockets[i], arrival)))
			return true;
	return false;
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
	if (unlikely(is_from_here(udp, arrival))) {
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

void udp_on_client(struct loop_io *io, int events)
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
