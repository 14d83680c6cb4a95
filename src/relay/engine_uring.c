/* The engine on io_uring: the kernel receives into the input of one connection and sends from there to the other one, a buffer at a time.
 *
 * Many small messages on many connections cost few system calls so. A direction that carries bulk is better off with fewer, larger pieces:
 * such a relay goes over to the engine on epoll, when nothing is under way for it, and stays there.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "relay/mover.h"

enum {
	INPUT_MOST = 16 * 1024, /* a side whose bytes are not taken is not received from beyond this: a turn may bring 128 kB more */
	INPUT_RESUME = 4 * 1024,
	BUFFERS_MOST = 8, /* likewise: a small piece takes a whole buffer, and all connections share them */
	BUFFERS_RESUME = 2,
	BULK_BUFFERS = 16 /* so many full buffers in a row are bulk */
};

static bool is_much(const struct conn *source)
{
	return source->input_bytes > INPUT_MOST || source->input_buffers > BUFFERS_MOST;
}

static enum side side_of(const struct relay *relay, const struct conn *conn)
{
	return relay->side[SIDE_CLIENT].conn == conn ? SIDE_CLIENT : SIDE_SERVER;
}

static void send_next(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	struct conn *source = relay->side[other_side(to)].conn;
	if (side->conn->sending || source->input == CONN_NO_BUFFER)
		return;
	/* The session may have looked right now whether the server has said anything before it was asked: no time must pass. */
	bool now = relay->framed && to == SIDE_SERVER && !side->written;
	relay_before_write(relay, to, source->input_bytes);
	side->held_at = now ? conn_send_input_now(side->conn, source) : conn_send_input(side->conn, source);
	if (now && !side->conn->sending) {
		side->owed -= side->held_at;
		send_next(relay, to);
	}
}

static void drop(struct relay *relay, enum side to)
{
	conn_drop_input(relay->side[other_side(to)].conn);
	relay->side[to].owed = 0;
}

/* --- over to the other engine --------------------------------------------------------------------------------------------------
 *
 * STAYING -> DRAINING  a side sends bulk: what sends bulk is not received from any more;
 *         -> CROSSING  all is delivered both ways: nothing is received from either;
 *         -> gone      and nothing is under way.
 * Where something arrives in between it stays, and is tried again. A reader that pauses must not hold up the other direction for long:
 *         -> GIVEN_UP  after a moment, until what was stuck then moves.
 */

enum { STAYING, DRAINING, CROSSING, GIVEN_UP };

#define CROSS_WITHIN_NS (50 * NS_PER_MS)

static bool is_bulk(const struct relay_side *target)
{
	return target->bulk >= BULK_BUFFERS;
}

static bool is_busy(const struct relay_side *side)
{
	return side->owed || side->conn->sending;
}

static void stay(struct relay *relay, uint8_t how)
{
	relay->crossing = how;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		relay->side[which].bulk = 0;
		if (!is_much(relay->side[other_side(which)].conn))
			conn_receive(relay->side[other_side(which)].conn);
	}
}

static void cross(struct relay *relay)
{
	relay->crossing = STAYING;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		conn_use_readiness(relay->side[which].conn);
	relay->mover = &epoll_mover;
	if (relay->mover->start(relay))
		relay_over(relay, RELAY_NO_MEMORY, SIDE_CLIENT);
}

static void go_over(struct relay *relay)
{
	struct relay_side *client = &relay->side[SIDE_CLIENT], *server = &relay->side[SIDE_SERVER];
	bool busy = is_busy(client) || is_busy(server);
	if (relay->crossing == GIVEN_UP && !client->stuck && !server->stuck)
		relay->crossing = STAYING;
	if (relay->crossing == DRAINING && !busy) {
		relay->crossing = CROSSING;
		conn_receive_stop(client->conn);
		conn_receive_stop(server->conn);
	}
	if (relay->crossing != CROSSING)
		return;
	if (busy)
		stay(relay, STAYING);
	else if (!conn_busy(client->conn) && !conn_busy(server->conn))
		cross(relay);
}

static void on_tick(struct relay *relay)
{
	if (relay->crossing != DRAINING && relay->crossing != CROSSING)
		return;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		relay->side[which].stuck = is_busy(&relay->side[which]);
	stay(relay, GIVEN_UP);
}

/* --- what arrives ------------------------------------------------------------------------------------------------------------ */

/* True when the relay goes on. */
static bool take_in(struct relay *relay, enum side from, uint16_t buffer)
{
	struct relay_side *source = &relay->side[from], *target = &relay->side[other_side(from)];
	uint32_t length;
	const char *bytes = conn_input_bytes(source->conn, buffer, &length);
	if (!relay_received(relay, from, bytes, length))
		return false;
	if (source->quickack)
		(void)setsockopt(source->conn->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
	if (unlikely(target->reset)) {
		conn_drop_input(source->conn);
		return true;
	}
	target->owed += length;
	target->bulk = length == CONNS_RING_BUFFER_BYTES && !relay->framed ? target->bulk + 1 : 0;
	if (unlikely(is_bulk(target)) && relay->crossing == STAYING) {
		relay->crossing = DRAINING;
		relay->engine->session->tick_at(relay, loop_now_ns(relay->engine->loop) + CROSS_WITHIN_NS);
	}
	if (unlikely(is_much(source->conn) || (relay->crossing == DRAINING && is_bulk(target))))
		conn_receive_stop(source->conn);
	return true;
}

static bool on_input_end(struct relay *relay, enum side from)
{
	int how = relay->side[from].conn->input_end;
	return relay_input_ended(relay, from, how == CONN_EOF ? 0 : -how);
}

/* --- what was sent ----------------------------------------------------------------------------------------------------------- */

/* True when the relay goes on. */
static bool on_sent(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	struct relay_side *source = &relay->side[other_side(to)];
	if (unlikely(side->reset))
		return true; /* what it was owed is dropped */
	if (unlikely(side->conn->result < 0))
		return relay_send_failed(relay, to, -side->conn->result);
	side->owed -= side->held_at;
	side->stuck = false;
	send_next(relay, to);
	bool wait = relay->crossing == CROSSING || (relay->crossing == DRAINING && is_bulk(side));
	if (unlikely(!source->conn->wanted) && !wait && source->conn->input_bytes <= INPUT_RESUME &&
	        source->conn->input_buffers <= BUFFERS_RESUME)
		conn_receive(source->conn);
	if (side->owed == 0 && (source->eof || source->reset || relay_end_waits(relay, to)))
		return relay_settle(relay);
	return true;
}

static void on_event(struct conn *conn, unsigned events)
{
	struct relay *relay = conn->owner;
	enum side which = side_of(relay, conn);
	if (unlikely(relay->aborting))
		return;
	if (events & CONN_READ) {
		if (!take_in(relay, which, conn->last))
			return;
		send_next(relay, other_side(which));
	}
	if ((events & CONN_WRITE) && !on_sent(relay, which))
		return;
	if ((events & CONN_END) && !on_input_end(relay, which))
		return;
	if (unlikely(relay->crossing))
		go_over(relay);
}

/* --- from start to stop ------------------------------------------------------------------------------------------------------ */

/* What was owed before the start goes out at once; a new connection has room for so much. */
static int send_held(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	if (!side->held)
		return 0;
	relay_before_write(relay, to, side->owed);
	ssize_t sent = send(side->conn->fd, side->held + side->held_at, side->owed, MSG_NOSIGNAL | MSG_DONTWAIT);
	buffers_give_back(&relay->engine->buffers, side->held);
	side->held = NULL;
	if (sent != (ssize_t)side->owed)
		return -ENOBUFS;
	side->owed = 0;
	return 0;
}

/* What came before the start. True when the relay goes on. */
static bool catch_up(struct relay *relay, enum side from)
{
	struct conn *conn = relay->side[from].conn;
	for (uint16_t buffer = conn->input; buffer != CONN_NO_BUFFER; buffer = conn_next_input(conn, buffer))
		if (!take_in(relay, from, buffer))
			return false;
	send_next(relay, other_side(from));
	return conn->input_end == CONN_OPEN || on_input_end(relay, from);
}

static int start(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		int error = send_held(relay, which);
		if (error)
			return error;
		conn_hand_over(relay->side[which].conn, on_event, relay);
		conn_receive(relay->side[which].conn);
	}
	if (catch_up(relay, SIDE_CLIENT))
		(void)catch_up(relay, SIDE_SERVER);
	return 0;
}

static void stop(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		relay->side[which].owed = 0;
}

static void quiet(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		conn_receive_stop(relay->side[which].conn);
}

const struct relay_mover uring_mover = { .start = start, .drop = drop, .stop = stop, .quiet = quiet, .tick = on_tick };
