/* What passes through a session: from its client to the server, and back. */
#include <errno.h>
#include <netinet/udp.h>

#include "house/flight.h"
#include "proto/proxy_write.h"
#include "udp/flow_own.h"

enum { BURST = 16, BURST_AFTER = 2, SINGLE_AFTER = 16, GRO_AFTER = 4, LAST_TURNS = 64 };

/* What a datagram may meet with that says nothing about the server. */
static bool is_ours(int error)
{
	return error == EMSGSIZE || error == ENOMEM || error == ENOBUFS;
}

/* --- from the client to the server --------------------------------------------------------------------------------------------- */

/* On this machine it is known at once that nobody is there, and what was just sent can be sent to another one. */
static int early_error(struct flow *flow)
{
	int error = 0;
	socklen_t length = sizeof error;
	if (likely(!flow->unproven))
		return 0;
	flow->unproven = false;
	return getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && !is_ours(error) ? -error : 0;
}

static void fill(struct flow *flow, const struct parcel *parcels, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		outbox_add(&flow->udp->run, &parcels[i], NULL, NULL, i > 0 && !flow->unsplit);
}

/* The address that was asked is what the client takes for the server. */
static struct proxy_ends ends_of(const struct flow *flow)
{
	struct proxy_ends ends = { .known = true, .datagrams = true, .destination = flow->socket->own };
	struct local_address local;
	addr_from_sockaddr(&ends.source, (const struct sockaddr *)&flow->visit.peer, sizeof flow->visit.peer);
	if (flow_key_local(&flow->key, &local))
		ends.destination = (struct addr){ .length = sizeof ends.destination.in6,
			.in6 = { .sin6_family = AF_INET6, .sin6_addr = local.address, .sin6_port = htons(addr_port(&flow->socket->own)) } };
	return ends;
}

static int send_introduced(struct flow *flow, struct sending *out)
{
	const struct proxy_ends ends = ends_of(flow);
	const struct upstream_config *config = flow->visit.upstream->config;
	uint8_t header[PROXY_V2_BARE_MOST + PROXY_CRC_BYTES];
	int length = proxy_write_v2(&ends, NULL, 0, config->send_proxy_check_sum, header, sizeof header);
	ensure(length > 0);
	struct datagram_head head = { .bytes = header, .length = (uint32_t)length, .each = config->send_proxy == SEND_PROXY_V2_EACH };
	int error = outbox_send_headed(&flow->udp->run, flow->fd, &head, out);
	flow->introduces = head.length > 0;
	return error;
}

static int send_run(struct flow *flow, struct sending *out)
{
	return likely(!flow->introduces) ? outbox_send(&flow->udp->run, flow->fd, true, out) : send_introduced(flow, out);
}

/* One that was passed on is gone, as a router or the server's machine says: too large for the way, which the kernel knows from now on, or
 * nobody was there. A firewall of our own speaks of the one at hand. */
static void count_lost(const struct flow *flow, int error)
{
	struct listener_row *row = flow->visit.entrance->row;
	if (error == EPERM || (error != EMSGSIZE && is_ours(error)))
		return;
	counter_add(error == EMSGSIZE ? &row->udp_drop_too_large : &row->udp_drop_unreachable, 1);
	counter_add(&row->udp_returned, 1);
}

static void take_rest(struct flow *flow);

/* False when it is to end. */
static bool send_all(struct flow *flow, const struct parcel *parcels, uint32_t n, struct sending *out, enum reason *why_not)
{
	fill(flow, parcels, n);
	for (;;) {
		if (unlikely(flow->fd < 0) && !flow_dial(flow, why_not))
			return false;
		bool unproven = flow->unproven;
		int error = send_run(flow, out);
		error = likely(!error) ? early_error(flow) : error;
		if (likely(!error))
			return true;
		if (unproven) { /* nobody has taken any of it */
			(void)outbox_drop(&flow->udp->run);
			*out = (struct sending){ 0 };
			fill(flow, parcels, n);
		} else {
			count_lost(flow, -error);
			take_rest(flow);
		}
		if (!flow_leave_server(flow, -error, why_not))
			return false;
	}
}

static void count_datagrams(struct flow *flow, unsigned from, uint64_t datagrams)
{
	uint64_t before = flow_awaits(flow);
	flow->datagrams[from] += datagrams;
	counter_add(&flow->visit.entrance->row->udp_awaited, flow_awaits(flow) - before); /* it may be fewer */
}

static void count_up(struct flow *flow, const struct sending *out)
{
	struct listener_row *row = flow->visit.entrance->row;
	flow->visit.bytes[FROM_CLIENT] += out->sent_bytes;
	counter_add(&row->udp_to_server, out->sent);
	counter_add(&row->received_bytes, out->sent_bytes);
	if (likely(flow->visit.server))
		counter_add(&flow->visit.server->row->sent_bytes, out->sent_bytes);
	if (unlikely(out->full + out->too_large + out->unreachable > 0)) {
		counter_add(&row->udp_drop_send_full, out->full);
		counter_add(&row->udp_drop_too_large, out->too_large);
		counter_add(&row->udp_returned, out->returned);
		counter_add(&row->udp_drop_unreachable, out->unreachable);
	}
}

uint64_t flow_takes(const struct flow *flow)
{
	uint32_t requests = flow->visit.entrance->config->udp.requests;
	return requests ? requests - flow->datagrams[FROM_CLIENT] : UINT64_MAX;
}

void flow_send(struct flow *flow, const struct parcel *parcels, uint32_t n, uint32_t datagrams)
{
	struct visit *visit = &flow->visit;
	const struct udp_config *config = &visit->entrance->config->udp;
	struct sending out = { 0 };
	enum reason why_not;
	bool goes_on = send_all(flow, parcels, n, &out, &why_not);
	flow->active_ns = flow_now_ns(flow);
	count_datagrams(flow, FROM_CLIENT, datagrams);
	flow->unasked = false;
	flow->unsplit = flow->unsplit || out.unsplit;
	visit->client_spoke = true;
	count_up(flow, &out);
	if (unlikely(!goes_on)) {
		counter_add(&visit->entrance->row->udp_drop_unreachable, outbox_drop(&flow->udp->run));
		flow_end(flow, why_not);
		return;
	}
	if (datagrams > 1 && flow->burst == 1) {
		flow->burst = BURST;
		flow->streak = 0;
	}
	if (likely(!config->requests || flow->datagrams[FROM_CLIENT] < config->requests))
		return;
	flow_leave_table(flow);
	if (config->responses == 0)
		flow_end(flow, REASON_REQUESTS_REACHED);
}

/* --- from the server to the client --------------------------------------------------------------------------------------------- */

static void use_gro(struct flow *flow)
{
	int on = 1;
	flow->gro = flow->udp->features.gro && setsockopt(flow->fd, SOL_UDP, UDP_GRO, &on, sizeof on) == 0;
}

/* One datagram for each that was sent is read by itself, what comes in bursts in bursts: a guess from how it was last. */
static void note_burst(struct flow *flow, uint32_t n)
{
	bool wrong = flow->burst == 1 ? flow->unasked : n == 1 && !flow->gro;
	flow->unasked = true;
	if (n >= GRO_AFTER && !flow->gro)
		use_gro(flow);
	flow->streak = wrong ? (uint8_t)(flow->streak + 1) : 0;
	if (flow->streak < (flow->burst == 1 ? BURST_AFTER : SINGLE_AFTER))
		return;
	flow->burst = flow->burst == 1 ? BURST : 1;
	flow->streak = 0;
}

static void server_spoke(struct flow *flow)
{
	struct visit *visit = &flow->visit;
	visit->n_tried = 0;
	flow->unproven = false;
	flow_report(flow, true);
	if (visit->server_spoke)
		return;
	visit->server_spoke = true;
	flow->first_byte_ns = flow_now_ns(flow);
	flight_first_byte(visit);
	histogram_record(&visit->entrance->row->first_byte, flow->first_byte_ns - visit->accepted_ns);
}

static void collect(struct flow *flow, uint32_t first, uint32_t n)
{
	struct listener_row *row = flow->visit.entrance->row;
	struct udp_socket *socket = flow->socket;
	struct local_address local;
	bool from_asked = flow_key_local(&flow->key, &local);
	uint64_t datagrams = 0, bytes = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct parcel parcel;
		batch_parcel(&flow->udp->replies, first + i, &parcel, NULL);
		datagrams += parcel_datagrams(&parcel);
		bytes += parcel.length;
		outbox_add(&socket->outbox, &parcel, &flow->visit.peer, from_asked ? &local : NULL, i > 0);
	}
	udp_make_due(socket);
	count_datagrams(flow, FROM_SERVER, datagrams);
	flow->visit.bytes[FROM_SERVER] += bytes;
	counter_add(&row->udp_from_server, datagrams);
	counter_add(&flow->visit.server->row->received_bytes, bytes);
}

static bool all_answers_came(const struct flow *flow)
{
	uint32_t responses = flow->visit.entrance->config->udp.responses;
	return responses && flow->datagrams[FROM_SERVER] >= responses * flow->datagrams[FROM_CLIENT];
}

/* Up to a burst, behind what the batch of replies holds from *first on. As batch_receive(). */
static int receive(struct flow *flow, uint32_t *first)
{
	struct batch *replies = &flow->udp->replies;
	if (batch_room(replies) < flow->burst)
		udp_flush(flow->udp);
	*first = replies->n;
	return flow->burst == 1 && !flow->gro ? batch_receive_one(replies, flow->fd) : batch_receive(replies, flow->fd, flow->burst);
}

static void take(struct flow *flow, uint32_t first, uint32_t n)
{
	flow->active_ns = flow_now_ns(flow);
	note_burst(flow, n);
	if (unlikely(!flow->visit.server_spoke || flow->visit.judged || flow->visit.n_tried > 0))
		server_spoke(flow);
	collect(flow, first, n);
}

/* The kernel tells of an error before what the server said before it. */
static void take_rest(struct flow *flow)
{
	uint32_t first;
	int n = 1;
	for (uint32_t turn = 0; n != 0 && turn < LAST_TURNS; turn++) {
		n = receive(flow, &first);
		if (n > 0)
			take(flow, first, (uint32_t)n);
		else if (n < 0)
			count_lost(flow, -n);
	}
}

/* False when that ended it. */
static bool server_is_gone(struct flow *flow, int error)
{
	enum reason why_not = REASON_ANSWERED;
	count_lost(flow, error);
	if (is_ours(error))
		return true;
	take_rest(flow);
	if (!all_answers_came(flow) && flow_leave_server(flow, error, &why_not))
		return true;
	flow_end(flow, why_not);
	return false;
}

int flow_take_replies(struct flow *flow)
{
	uint32_t first;
	int n = receive(flow, &first);
	if (unlikely(n <= 0))
		return n == 0 || server_is_gone(flow, -n) ? 0 : -1;
	take(flow, first, (uint32_t)n);
	if (likely(!all_answers_came(flow)))
		return n;
	flow_end(flow, REASON_ANSWERED);
	return -1;
}

void flow_on_server(struct loop_io *io, int events)
{
	(void)events;
	(void)!flow_take_replies(container_of(io, struct flow, io));
}
