/* The server of a session: which one, the socket to it, and what follows when it is not there. */
#include <errno.h>
#include <linux/sock_diag.h>
#include <unistd.h>

#include "base/clock.h"
#include "house/flight.h"
#include "net/dial.h"
#include "udp/flow_own.h"

enum { PORT_TRIES = 16, HOT_SPARE = 64 };

#define NO_PORTS_NS (50 * NS_PER_MS)

/* --- a server: choosing it, and how it did ------------------------------------------------------------------------------------- */

void flow_report(struct flow *flow, bool ok)
{
	struct visit *visit = &flow->visit;
	if (visit->judged)
		upstream_report(visit->upstream, visit->server, &flow->pass, ok, flow_now_ns(flow));
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
void flow_judge_at_end(struct flow *flow)
{
	if (flow->visit.step == STEP_RELAY && flow->visit.entrance->config->udp.responses == 0)
		flow_report(flow, true);
	else
		abandon(flow);
}

static struct upstream_client client_of(const struct flow *flow)
{
	return (struct upstream_client){ .peer = &flow->visit.peer,
		.tried = flow->tried,
		.n_tried = flow->visit.n_tried,
		.now_ns = flow_now_ns(flow),
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
	flow_set_step(flow, STEP_CHOOSE);
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
	if (unlikely(flow_now_ns(flow) < flow->udp->no_ports_until_ns) && (!source || !source->transparent))
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
	return flows_take_port(transfer->flows, flow->port, transfer->self, flow_now_ns(flow));
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

void flow_close_socket(struct flow *flow)
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

/* That it was well may have been told before: then it is told as well that it is there no more, unless the breaker has found out. */
static void was_bad(struct flow *flow)
{
	struct visit *visit = &flow->visit;
	struct upstream *upstream = visit->upstream;
	struct condition *condition = visit->server->condition;
	const struct upstream_client client = client_of(flow);
	upstream_forget(upstream, visit->server, &client);
	if (!visit->judged && upstream_judges(upstream) && breaker_state(&condition->breaker) == BREAKER_CLOSED)
		visit->judged = condition_ask(condition, &upstream->rules, flow_now_ns(flow), &flow->pass) != BREAKER_REFUSE;
	flow_report(flow, false);
}

/* What ICMP says of a server in words that stand for something else where a connection is made. */
static int of_network(int error)
{
	switch (error) {
	case ENOPROTOOPT: /* nobody takes UDP there */
		return ECONNREFUSED;
	case ENONET: /* cut off, */
	case EPROTO: /* or somebody on the way could not read it */
		return EHOSTUNREACH;
	default:
		return error;
	}
}

bool flow_leave_server(struct flow *flow, int met, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	struct upstream *upstream = visit->upstream;
	struct server *server = visit->server;
	int error = flow->fd >= 0 ? of_network(met) : met;
	enum reason reason = reason_of_connect(error);
	bool ours = reason == REASON_NO_DESCRIPTORS || reason == REASON_NO_MEMORY || reason == REASON_NO_PORTS;
	bool last = ours || visit->n_tried >= upstream->config->retries;
	flow_set_step(flow, STEP_CONNECT);
	flow_close_socket(flow);
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

bool flow_dial(struct flow *flow, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	while (choose(flow, why_not)) {
		flow_set_step(flow, STEP_CONNECT);
		int error = open_to_server(flow);
		if (!error) {
			const struct upstream_client client = client_of(flow);
			flow_set_step(flow, STEP_RELAY);
			flight_connected(visit);
			counter_add(&visit->server->row->connections, 1);
			upstream_remember(visit->upstream, visit->server, &client);
			note_server(flow);
			return true;
		}
		if (!flow_leave_server(flow, -error, why_not))
			return false;
	}
	return false;
}
