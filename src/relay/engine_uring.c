/* The engine on io_uring: the kernel receives into the input of one connection and sends from there to the other one, a buffer at a time.
 *
 * Many small messages on many connections cost few system calls so. A direction that carries larger ones is better off with fewer, larger
 * pieces, and one whose reader does not keep up must not hold buffers that all connections share: such a relay goes over to the engine on
 * epoll, with what it is owed. It comes back from there when it is calm. Relays with TLS only pass through here, where the ring has one of
 * their connections (out of a pool).
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "relay/mover.h"

static_assert(CONNS_RING_BUFFER_BYTES <= UINT16_MAX, "side->sending");
enum { PILE_BUFFERS = 8 }; /* in an input; a turn may bring 32 more, older kernels as many as are posted */

static enum side side_of(const struct relay *relay, const struct conn *conn)
{
	return relay->side[SIDE_CLIENT].conn == conn ? SIDE_CLIENT : SIDE_SERVER;
}

static void send_next(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	struct conn *source = relay->side[other_side(to)].conn;
	if (side->conn->sending || source->input == CONN_NO_BUFFER || unlikely(relay->leaving))
		return;
	/* The session may have looked right now whether the server has said anything before it was asked: no time must pass. */
	bool now = relay->framed && to == SIDE_SERVER && !side->written;
	relay_before_write(relay, to, source->input_bytes);
	side->sending = (uint16_t)(now ? conn_send_input_now(side->conn, source) : conn_send_input(side->conn, source));
	if (now && !side->conn->sending) {
		side->owed -= side->sending;
		send_next(relay, to);
	}
}

static void drop(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	buffers_give_back_list(&relay->engine->buffers, &side->held);
	conn_drop_rest(side->conn);
	conn_drop_input(relay->side[other_side(to)].conn);
	side->owed = side->sending = 0;
}

/* --- over to the other engine ------------------------------------------------------------------------------------------------ */

static void leave(struct relay *relay)
{
	relay->leaving = true;
	conn_receive_stop(relay->side[SIDE_CLIENT].conn);
	conn_receive_stop(relay->side[SIDE_SERVER].conn);
}

/* What the ring's buffers hold for a side goes into pieces. */
static void hold_owed(struct relay *relay, enum side to)
{
	struct buffers *buffers = &relay->engine->buffers;
	struct relay_side *side = &relay->side[to];
	struct conn *source = relay->side[other_side(to)].conn;
	char **link = &side->held;
	while (*link)
		link = &buffers_rest(buffers, *link)->next;
	const char *bytes;
	uint32_t count = conn_rest(side->conn, &bytes);
	if (count > 0) {
		*link = buffers_take_piece(buffers, bytes, count);
		link = &buffers_rest(buffers, *link)->next;
	}
	conn_drop_rest(side->conn);
	while (source->input != CONN_NO_BUFFER) {
		bytes = conn_input_bytes(source, source->input, &count);
		*link = buffers_take_piece(buffers, bytes, count);
		link = &buffers_rest(buffers, *link)->next;
		conn_drop_first_input(source);
	}
	side->sending = 0;
}

/* Nothing more is received. As soon as nothing is under way, the other engine has it. */
static void cross(struct relay *relay)
{
	if (conn_busy(relay->side[SIDE_CLIENT].conn) || conn_busy(relay->side[SIDE_SERVER].conn))
		return;
	relay->leaving = false;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		hold_owed(relay, which);
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		conn_use_readiness(relay->side[which].conn);
	if (relay_move_with(relay, relay_is_secured(relay) ? MOVER_TLS : MOVER_EPOLL))
		relay_over(relay, RELAY_NO_MEMORY, SIDE_CLIENT);
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
	/* What fills a buffer is mostly a piece of something larger: moving that in several sends costs more than one read and one write.
	 */
	if (unlikely(length == CONNS_RING_BUFFER_BYTES || source->conn->input_buffers > PILE_BUFFERS) && !relay->leaving)
		leave(relay);
	return true;
}

static bool on_input_end(struct relay *relay, enum side from)
{
	int how = relay->side[from].conn->input_end;
	if (unlikely(relay_is_secured(relay)))
		return true; /* the next engine will read it once more */
	return relay_input_ended(relay, from, how == CONN_EOF ? 0 : -how);
}

/* --- what was sent ----------------------------------------------------------------------------------------------------------- */

/* True when the relay goes on. */
static bool on_sent(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	const struct relay_side *source = &relay->side[other_side(to)];
	const char *bytes;
	if (unlikely(side->reset)) {
		conn_drop_rest(side->conn); /* what it was owed is dropped */
		return true;
	}
	if (unlikely(side->conn->result < 0) && side->conn->result != -EAGAIN)
		return relay_send_failed(relay, to, -side->conn->result);
	uint32_t rest = conn_rest(side->conn, &bytes);
	side->owed -= side->sending - rest;
	side->sending = (uint16_t)rest;
	if (unlikely(rest > 0) && !relay->leaving)
		leave(relay);
	send_next(relay, to);
	if (side->owed == 0 && (source->eof || source->reset || relay_end_waits(relay, to)))
		return relay_settle(relay);
	return true;
}

/* It found no buffer. One that waits for the next turn, when there are some again, stays; one that waits no more was told to go. */
static bool must_go(const struct relay *relay, const struct conn *conn)
{
	return !conn->starved || !relay_engine_ring_is_open(relay->engine);
}

static void on_event(struct conn *conn, unsigned events)
{
	struct relay *relay = conn->owner;
	enum side which = side_of(relay, conn);
	if (unlikely(relay->aborting)) {
		conn_drop_input(conn); /* this is for nobody, and may take long: what lies in buffers of the ring is from all others */
		conn_drop_rest(conn);
		return;
	}
	if (events & CONN_READ) {
		if (!take_in(relay, which, conn->last))
			return;
		send_next(relay, other_side(which));
	}
	if ((events & CONN_WRITE) && !on_sent(relay, which))
		return;
	if ((events & CONN_END) && !on_input_end(relay, which))
		return;
	if (unlikely(events & CONN_STARVED) && !relay->leaving && must_go(relay, conn)) {
		counter_add(relay->engine->buffer_exhausted, 1);
		leave(relay);
	}
	if (unlikely(relay->leaving))
		cross(relay);
}

/* --- from start to stop ------------------------------------------------------------------------------------------------------ */

/* What was owed before the start goes out at once; where that does not fit, the relay leaves. What a secured side is owed is for the engine
 * that comes next. True when it goes on. */
static bool send_held(struct relay *relay, enum side to)
{
	struct buffers *buffers = &relay->engine->buffers;
	struct relay_side *side = &relay->side[to];
	if (likely(!side->held) || side->secured)
		return true;
	struct buffer_rest *rest = buffers_rest(buffers, side->held);
	relay_before_write(relay, to, side->owed);
	ssize_t sent = send(side->conn->fd, side->held + rest->at, side->owed, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return relay_send_failed(relay, to, errno);
	rest->at += sent > 0 ? (uint32_t)sent : 0;
	side->owed -= sent > 0 ? (uint32_t)sent : 0;
	if (side->owed > 0)
		leave(relay);
	else
		buffers_give_back_list(buffers, &side->held);
	return true;
}

/* What came before the start. True when the relay goes on. */
static bool catch_up(struct relay *relay, enum side from)
{
	struct conn *conn = relay->side[from].conn;
	for (uint16_t buffer = conn->input; buffer != CONN_NO_BUFFER && conn->input != CONN_NO_BUFFER;
	        buffer = conn_next_input(conn, buffer))
		if (!take_in(relay, from, buffer))
			return false;
	send_next(relay, other_side(from));
	return conn->input_end == CONN_OPEN || on_input_end(relay, from);
}

/* While a session looks on that could not keep what it sees, the other engine leaves that in the kernel. */
static bool may_stay(const struct relay *relay)
{
	if (unlikely(relay->shaped) || unlikely(relay_is_secured(relay)) || unlikely(!relay_engine_ring_is_open(relay->engine)))
		return false;
	return likely(!relay->framed) || likely(!buffers_are_used_up(&relay->engine->buffers));
}

static int start(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct conn *conn = relay->side[which].conn;
		if (!conn->by_completion)
			conn_use_completion(conn);
		conn_hand_over(conn, on_event, relay);
	}
	if (!may_stay(relay))
		leave(relay);
	if (!send_held(relay, SIDE_CLIENT) || !send_held(relay, SIDE_SERVER))
		return 0;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		if (!relay->leaving)
			conn_receive(relay->side[which].conn);
	if (catch_up(relay, SIDE_CLIENT) && catch_up(relay, SIDE_SERVER) && relay->leaving)
		cross(relay);
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

/* A shaped relay leaves, and is asked whether more may be read only when it has left. */
static void resume(struct relay *relay)
{
	(void)relay;
}

const struct relay_mover uring_mover = {
	.start = start, .drop = drop, .stop = stop, .end = relay_send_fin, .quiet = quiet, .resume = resume
};
