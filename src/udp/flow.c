#include "udp/flow.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "house/flight.h"
#include "net/dial.h"
#include "proto/proxy_write.h"
#include "udp/udp.h"

enum { PORT_TRIES = 16 };
enum { BURST = 16, BURST_AFTER = 2, SINGLE_AFTER = 16, GRO_AFTER = 4, HOT_SPARE = 64, LAST_READ = 64 };

#define NO_PORTS_NS (50 * NS_PER_MS)

static_assert(sizeof(struct flow) % 16 == 0, "as slabs round them");

static uint64_t now_ns(const struct flow *flow)
{
	return loop_now_ns(flow->udp->loop);
}

static struct flow *flow_of_visit(const struct visit *visit)
{
	return container_of(visit, struct flow, visit);
}

static void set_step(struct flow *flow, enum step step)
{
	flow->visit.step = step;
	flow->visit.step_ns = now_ns(flow);
}

struct flow *flow_find(const struct udp *udp, const struct flow_key *key, uint64_t hash)
{
	int64_t number;
	uint32_t at = flow_table_start(&udp->table, hash);
	while ((number = flow_table_next(&udp->table, hash, &at)) >= 0) {
		struct flow *flow = (struct flow *)(void *)udp->flows.region + number;
		if (likely(flow_key_equal(&flow->key, key)))
			return flow;
	}
	return NULL;
}

static void leave_table(struct flow *flow)
{
	struct udp *udp = flow->udp;
	if (flow->in_table)
		flow_table_remove(&udp->table, flow->hash, (uint32_t)(flow - (struct flow *)(void *)udp->flows.region));
	flow->in_table = false;
	if (flow->cell)
		flows_drop(udp->transfer.flows, flow->cell);
	flow->cell = 0;
}

/* One that drains has no session that others are to look for: it begins one only for what was late. */
static void enter_shared_table(struct flow *flow)
{
	const struct transfer *transfer = &flow->udp->transfer;
	if (!transfer->flows || flow->udp->refuses)
		return;
	uint32_t server = upstream_server_number(flow->visit.upstream, flow->visit.server);
	flow->cell = flows_put(transfer->flows, flow->hash, transfer->self, server);
	if (!flow->cell)
		counter_add(&flow->visit.entrance->row->udp_unlisted, 1);
}

static void enter_table(struct flow *flow)
{
	struct udp *udp = flow->udp;
	flow_table_add(&udp->table, flow->hash, (uint32_t)(flow - (struct flow *)(void *)udp->flows.region));
	flow->in_table = true;
	enter_shared_table(flow);
}

static void on_server(struct loop_io *io, int events);
static int take_replies(struct flow *flow);

/* --- deadlines: lazily, as those of tcp/session.c ------------------------------------------------------------------------------ */

static uint64_t idle_deadline(const struct flow *flow)
{
	return flow->active_ns + flow->visit.entrance->config->udp.idle_ns;
}

static uint64_t lifetime_deadline(const struct flow *flow)
{
	uint64_t lifetime_ns = flow->visit.entrance->config->timeout.lifetime_ns;
	return lifetime_ns ? flow->visit.accepted_ns + lifetime_ns : WHEEL_NEVER;
}

static void arm(struct flow *flow)
{
	uint64_t due_ns = idle_deadline(flow), lifetime_ns = lifetime_deadline(flow), access_ns = access_due_ns(&flow->visit);
	due_ns = lifetime_ns < due_ns ? lifetime_ns : due_ns;
	due_ns = access_ns < due_ns ? access_ns : due_ns;
	wheel_arm(&flow->udp->wheel, &flow->timer, due_ns);
}

/* What its server has said by now goes to the client first: that the worker had no time for it is no silence. False when that ended it. */
static bool take_what_waits(struct flow *flow)
{
	int n = 1;
	for (uint32_t read = 0; n > 0 && flow->fd >= 0 && read < LAST_READ; read += (uint32_t)n)
		n = take_replies(flow);
	return n >= 0;
}

void flow_due(struct flow *flow)
{
	uint64_t now = now_ns(flow);
	if (now >= idle_deadline(flow) || now >= lifetime_deadline(flow))
		if (!take_what_waits(flow))
			return;
	if (now >= idle_deadline(flow)) {
		flow_end(flow, REASON_IDLE_TIMEOUT);
		return;
	}
	if (now >= lifetime_deadline(flow)) {
		flow_end(flow, REASON_LIFETIME);
		return;
	}
	if (now >= access_due_ns(&flow->visit))
		access_lasts(&flow->visit);
	arm(flow);
}

/* --- a server: choosing it, and how it did ------------------------------------------------------------------------------------- */

static void report(struct flow *flow, bool ok)
{
	struct visit *visit = &flow->visit;
	if (visit->judged)
		upstream_report(visit->upstream, visit->server, &flow->pass, ok, now_ns(flow));
	visit->judged = false;
}

static void abandon(struct flow *flow)
{
	struct visit *visit = &flow->visit;
	if (visit->judged)
		upstream_abandon(visit->upstream, visit->server, &flow->pass);
	visit->judged = false;
}

/* It ends, and the server has said nothing. Where no answer is awaited that is well: nobody said that it is not there. */
static void judge_at_end(struct flow *flow)
{
	if (flow->visit.step == STEP_RELAY && flow->visit.entrance->config->udp.responses == 0)
		report(flow, true);
	else
		abandon(flow);
}

static struct upstream_client client_of(const struct flow *flow)
{
	return (struct upstream_client){ .peer = &flow->visit.peer,
		.tried = flow->tried,
		.n_tried = flow->visit.n_tried,
		.now_ns = now_ns(flow),
		.had = flow->had,
		.fresh = true };
}

/* Nobody waits here; but who waits, of another protocol, comes first. */
static bool choose(struct flow *flow, enum reason *why_not)
{
	static const enum reason reasons[] = {
		[UPSTREAM_FULL] = REASON_SERVERS_FULL, [UPSTREAM_LATER] = REASON_CONNECT_RATE, [UPSTREAM_NONE] = REASON_NO_SERVER
	};
	static const enum record_want wants[] = {
		[UPSTREAM_FULL] = WANT_PLACE, [UPSTREAM_LATER] = WANT_RATE, [UPSTREAM_NONE] = WANT_SERVER
	};
	struct visit *visit = &flow->visit;
	struct upstream *upstream = visit->upstream;
	const struct upstream_client client = client_of(flow);
	struct upstream_hold hold;
	set_step(flow, STEP_CHOOSE);
	bool others_wait = upstream->has_line && line_is_busy(&upstream->line);
	enum upstream_choice choice = others_wait ? UPSTREAM_FULL : upstream_take(upstream, &client, &hold);
	if (choice != UPSTREAM_TAKEN) {
		flight_not_chosen(visit, others_wait ? WANT_TURN : wants[choice]);
		*why_not = reasons[choice];
		return false;
	}
	visit->server = hold.server;
	flow->pass = hold.pass;
	visit->judged = upstream_judges(upstream);
	flight_chosen(visit);
	return true;
}

/* --- its socket ---------------------------------------------------------------------------------------------------------------- */

static int open_socket(const struct udp_config *udp, sa_family_t family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = (int)udp->buffer_bytes;
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return fd;
}

/* The kernel says EAGAIN when no port is left to send from. It has looked at all of them then, for a millisecond or two: a flood of new
 * clients does not make it do so again and again. Those of a client's own address are for that client alone. */
static int connect_socket(struct udp *udp, int fd, const struct addr *addr, const struct dial_source *source)
{
	int error = dial_bind(fd, addr->sa.sa_family, source);
	if (error || connect(fd, &addr->sa, addr->length) == 0)
		return error;
	if (errno != EAGAIN)
		return -errno;
	if (!source || !source->transparent)
		udp->no_ports_until_ns = loop_now_ns(udp->loop) + NO_PORTS_NS;
	return -EADDRNOTAVAIL;
}

static int open_connected(struct flow *flow, const struct addr *addr)
{
	const struct udp_config *config = &flow->visit.entrance->config->udp;
	struct dial_source room;
	const struct dial_source *source = dial_source(flow->visit.upstream->config, &flow->visit.peer, &room);
	if (unlikely(now_ns(flow) < flow->udp->no_ports_until_ns) && (!source || !source->transparent))
		return -EADDRNOTAVAIL;
	int fd = open_socket(config, addr->sa.sa_family);
	if (unlikely(fd == -EMFILE || fd == -ENFILE) && pools_evict(&flow->udp->house->pools, HOT_SPARE) > 0)
		fd = open_socket(config, addr->sa.sa_family);
	int error = fd < 0 ? fd : connect_socket(flow->udp, fd, addr, source);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

/* May it send from the port that the kernel chose? */
static bool take_port(struct flow *flow, int fd)
{
	const struct transfer *transfer = &flow->udp->transfer;
	struct addr own = { .length = sizeof own - offsetof(struct addr, sa) };
	if (!transfer->flows || getsockname(fd, &own.sa, &own.length) < 0)
		return true;
	flow->port = addr_port(&own);
	return flows_take_port(transfer->flows, flow->port, transfer->self, now_ns(flow));
}

/* To be called before its socket is closed: afterwards it may be another one's. */
static void leave_port(const struct flow *flow)
{
	const struct transfer *transfer = &flow->udp->transfer;
	if (transfer->flows)
		flows_leave_port(transfer->flows, flow->port, transfer->self);
}

/* A socket with a port that no worker that died a moment ago had: what its servers still answer would go to another client. Those that will
 * not do are kept until there is one, so that the kernel gives others; after some tries any will do. */
static int open_with_port(struct flow *flow, const struct addr *addr)
{
	int kept[PORT_TRIES], n = 0, fd = open_connected(flow, addr);
	while (fd >= 0 && unlikely(!take_port(flow, fd)) && n < PORT_TRIES) {
		kept[n++] = fd;
		fd = open_connected(flow, addr);
	}
	if (fd < 0 && n > 0)
		fd = kept[--n];
	if (n > 0)
		flow->udp->no_ports_until_ns = 0; /* there are those */
	while (n > 0)
		close(kept[--n]);
	return fd;
}

static int open_to_server(struct flow *flow)
{
	const struct addr *addr = server_addr(flow->visit.server);
	struct udp *udp = flow->udp;
	if (!addr)
		return -EHOSTUNREACH;
	int fd = open_with_port(flow, addr);
	if (fd < 0)
		return fd;
	int error = loop_io_set(udp->loop, &flow->io, fd, LOOP_READ);
	if (error) {
		leave_port(flow);
		close(fd);
		return error;
	}
	flow->fd = fd;
	flow->unproven = addr_is_loopback(addr);
	flow->gro = flow->unsplit = false;
	flow->introduces = flow->visit.upstream->config->send_proxy != SEND_PROXY_OFF;
	flow->burst = 1;
	flow->streak = 0;
	return 0;
}

/* What the server sent faster than it was read. */
static void count_queue_drops(const struct flow *flow)
{
	uint32_t numbers[SK_MEMINFO_VARS];
	socklen_t length = sizeof numbers;
	if (getsockopt(flow->fd, SOL_SOCKET, SO_MEMINFO, numbers, &length) == 0 && length > SK_MEMINFO_DROPS * sizeof *numbers)
		counter_add(&flow->visit.entrance->row->udp_drop_server_queue, numbers[SK_MEMINFO_DROPS]);
}

static void close_socket(struct flow *flow)
{
	if (flow->fd < 0)
		return;
	count_queue_drops(flow);
	loop_io_forget(flow->udp->loop, &flow->io);
	leave_port(flow);
	close(flow->fd);
	flow->fd = -1;
	flow->udp->no_ports_until_ns = 0; /* there is one */
}

/* --- a server that is not there ------------------------------------------------------------------------------------------------ */

static void was_bad(struct flow *flow)
{
	const struct upstream_client client = client_of(flow);
	upstream_forget(flow->visit.upstream, flow->visit.server, &client);
	report(flow, false);
}

/* Leave it. False when no other one is to be tried: then the session still has it, and is to end. */
static bool leave_server(struct flow *flow, int error, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	struct upstream *upstream = visit->upstream;
	struct server *server = visit->server;
	enum reason reason = reason_of_connect(error);
	bool ours = reason == REASON_NO_DESCRIPTORS || reason == REASON_NO_MEMORY || reason == REASON_NO_PORTS;
	bool last = ours || visit->n_tried >= upstream->config->retries;
	set_step(flow, STEP_CONNECT);
	close_socket(flow);
	house_log_connect_failure(visit, error, NULL, last);
	flight_connect_failed(visit, server_addr(server), error, last);
	if (!ours)
		counter_add(&server->row->failures, 1);
	if (!ours && !reason_is_of_source(error) && server_addr(server))
		was_bad(flow);
	else
		abandon(flow);
	server_addr_failed(server);
	if (last) {
		*why_not = reason;
		return false;
	}
	flow->tried[visit->n_tried++] = upstream_index(upstream, server);
	visit->server = NULL;
	upstream_give_back(upstream, server);
	counter_add(&visit->entrance->row->retries, 1);
	return true;
}

static void note_server(struct flow *flow)
{
	const struct transfer *transfer = &flow->udp->transfer;
	uint32_t server = upstream_server_number(flow->visit.upstream, flow->visit.server);
	flow->had = flow->had == server ? server : 0;
	if (flow->cell)
		flows_move(transfer->flows, flow->cell, transfer->self, server);
}

static bool dial(struct flow *flow, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	while (choose(flow, why_not)) {
		set_step(flow, STEP_CONNECT);
		int error = open_to_server(flow);
		if (!error) {
			const struct upstream_client client = client_of(flow);
			set_step(flow, STEP_RELAY);
			flight_connected(visit);
			counter_add(&visit->server->row->connections, 1);
			upstream_remember(visit->upstream, visit->server, &client);
			note_server(flow);
			return true;
		}
		if (!leave_server(flow, -error, why_not))
			return false;
	}
	return false;
}

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
 * nobody was there. */
static void count_lost(const struct flow *flow, int error)
{
	struct listener_row *row = flow->visit.entrance->row;
	if (error != EMSGSIZE && is_ours(error))
		return;
	counter_add(error == EMSGSIZE ? &row->udp_drop_too_large : &row->udp_drop_unreachable, 1);
	counter_add(&row->udp_returned, 1);
}

/* False when it is to end. */
static bool send_all(struct flow *flow, const struct parcel *parcels, uint32_t n, struct sending *out, enum reason *why_not)
{
	fill(flow, parcels, n);
	for (;;) {
		if (unlikely(flow->fd < 0) && !dial(flow, why_not))
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
		}
		if (!leave_server(flow, -error, why_not))
			return false;
	}
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
	flow->active_ns = now_ns(flow);
	flow->datagrams[FROM_CLIENT] += datagrams;
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
	leave_table(flow);
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
	report(flow, true);
	if (visit->server_spoke)
		return;
	visit->server_spoke = true;
	flow->first_byte_ns = now_ns(flow);
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
	flow->datagrams[FROM_SERVER] += datagrams;
	flow->visit.bytes[FROM_SERVER] += bytes;
	counter_add(&row->udp_from_server, datagrams);
	counter_add(&flow->visit.server->row->received_bytes, bytes);
}

static bool all_answers_came(const struct flow *flow)
{
	uint32_t responses = flow->visit.entrance->config->udp.responses;
	return responses && flow->datagrams[FROM_SERVER] >= responses * flow->datagrams[FROM_CLIENT];
}

/* False when that ended it. */
static bool server_is_gone(struct flow *flow, int error)
{
	enum reason why_not;
	count_lost(flow, error);
	if (is_ours(error) || leave_server(flow, error, &why_not))
		return true;
	flow_end(flow, why_not);
	return false;
}

/* How many parcels came, or -1 when it has ended. */
static int take_replies(struct flow *flow)
{
	struct batch *replies = &flow->udp->replies;
	if (batch_room(replies) < flow->burst)
		udp_flush(flow->udp);
	uint32_t first = replies->n;
	int n = flow->burst == 1 && !flow->gro ? batch_receive_one(replies, flow->fd) : batch_receive(replies, flow->fd, flow->burst);
	if (unlikely(n <= 0))
		return n == 0 || server_is_gone(flow, -n) ? 0 : -1;
	flow->active_ns = now_ns(flow);
	note_burst(flow, (uint32_t)n);
	if (unlikely(!flow->visit.server_spoke || flow->visit.judged || flow->visit.n_tried > 0))
		server_spoke(flow);
	collect(flow, first, (uint32_t)n);
	if (likely(!all_answers_came(flow)))
		return n;
	flow_end(flow, REASON_ANSWERED);
	return -1;
}

static void on_server(struct loop_io *io, int events)
{
	(void)events;
	(void)!take_replies(container_of(io, struct flow, io));
}

/* --- from the first to the last ------------------------------------------------------------------------------------------------ */

static bool admit(struct flow *flow, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	bool admitted = door_admit(&visit->entrance->door, &visit->peer, visit->accepted_ns, why_not);
	if (likely(admitted)) {
		set_step(flow, STEP_RESERVE);
		visit->reserved = house_reserve(visit->entrance, why_not);
	}
	if (!visit->reserved)
		flight_refused(visit, *why_not);
	return visit->reserved;
}

struct flow *flow_begin(struct udp *udp, struct udp_socket *socket, const struct sockaddr_in6 *peer, const struct flow_key *key,
        uint64_t hash, uint32_t server)
{
	enum reason why_not;
	struct flow *flow = slab_take(&udp->flows);
	if (!flow)
		return NULL;
	memset(flow, 0, sizeof *flow);
	flow->udp = udp;
	flow->socket = socket;
	flow->key = *key;
	flow->hash = hash;
	flow->had = server;
	flow->fd = -1;
	loop_io_init(&flow->io, on_server);
	flow->visit.entrance = socket->entrance;
	flow->visit.peer = *peer;
	house_enter(udp->house, &flow->visit);
	set_step(flow, STEP_ADMIT);
	flow->visit.accepted_ns = flow->active_ns = flow->visit.step_ns;
	counter_add(&socket->entrance->row->connections, 1);
	flight_accepted(&flow->visit);
	udp_count_sessions(udp);
	if (!admit(flow, &why_not) || !dial(flow, &why_not)) {
		flow_end(flow, why_not);
		return NULL;
	}
	enter_table(flow);
	arm(flow);
	return flow;
}

bool flow_goes_on(struct flow *flow)
{
	const struct server *server = flow->visit.server;
	if (likely(!server || server->usability != USABILITY_DISABLED || flow->visit.upstream->config->lame_duck))
		return true;
	flow_end(flow, REASON_SERVER_DISABLED);
	return false;
}

void flow_end(struct flow *flow, enum reason reason)
{
	struct udp *udp = flow->udp;
	struct visit *visit = &flow->visit;
	const struct entrance *entrance = visit->entrance;
	if (unlikely(log_enabled(LOG_LEVEL_DEBUG)))
		house_log_end(visit, reason);
	flight_closed(visit, reason);
	if (unlikely(visit->judged))
		judge_at_end(flow);
	wheel_disarm(&flow->timer);
	leave_table(flow);
	if (udp->house->access.on)
		access_ended(visit, reason);
	close_socket(flow);
	if (visit->server)
		upstream_give_back(visit->upstream, visit->server);
	if (visit->reserved)
		house_release(entrance);
	counter_add(&entrance->row->closes[reason], 1);
	histogram_record(&entrance->row->duration, now_ns(flow) - visit->accepted_ns);
	house_leave(udp->house, visit);
	slab_give_back(&udp->flows, flow);
	udp_count_sessions(udp);
}

/* --- for those who know of no kind --------------------------------------------------------------------------------------------- */

static void on_end(struct visit *visit, enum reason reason)
{
	flow_end(flow_of_visit(visit), reason);
}

static void on_server_fell(struct visit *visit)
{
	flow_end(flow_of_visit(visit), REASON_SERVER_DOWN);
}

static bool is_idle(const struct visit *visit, uint64_t now, uint64_t quiet_ns)
{
	return now - flow_of_visit(visit)->active_ns >= quiet_ns;
}

static void tell(const struct visit *visit, struct visit_moments *out)
{
	const struct flow *flow = flow_of_visit(visit);
	*out = (struct visit_moments){ .active_ns = flow->active_ns,
		.first_byte_ns = flow->first_byte_ns,
		.datagrams = { flow->datagrams[FROM_CLIENT], flow->datagrams[FROM_SERVER] } };
}

const struct visit_kind flow_kind = { .is_udp = true, .end = on_end, .is_idle = is_idle, .tell = tell, .server_fell = on_server_fell };
