#include "net/conn_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_NS (100 * NS_PER_MS) /* with buffers that others have: mostly they have them for a turn */

int conns_ring_init(struct conns *conns)
{
	conns->buffer_next = calloc(ring_buffers(conns->ring), sizeof *conns->buffer_next);
	conns->buffer_length = calloc(ring_buffers(conns->ring), sizeof *conns->buffer_length);
	return conns->buffer_next && conns->buffer_length ? 0 : -ENOMEM;
}

void conns_ring_fini(struct conns *conns)
{
	free(conns->buffer_next);
	free(conns->buffer_length);
}

/* --- the input: a list of buffers ------------------------------------------------------------------------------------------ */

static void append_input(struct conn *conn, uint16_t buffer, uint32_t length)
{
	struct conns *conns = conn->conns;
	conns->buffer_next[buffer] = CONN_NO_BUFFER;
	conns->buffer_length[buffer] = length;
	if (conn->input == CONN_NO_BUFFER)
		conn->input = buffer;
	else
		conns->buffer_next[conn->last] = buffer;
	conn->last = buffer;
	conn->input_bytes += length;
	conn->input_buffers++;
}

static uint16_t take_input(struct conn *conn)
{
	uint16_t buffer = conn->input;
	conn->input = conn->conns->buffer_next[buffer];
	conn->input_bytes -= conn->conns->buffer_length[buffer];
	conn->input_buffers--;
	return buffer;
}

void conn_drop_first_input(struct conn *conn)
{
	ring_buffer_give_back(conn->conns->ring, take_input(conn));
}

void conn_drop_input(struct conn *conn)
{
	while (conn->input != CONN_NO_BUFFER)
		conn_drop_first_input(conn);
}

void conn_pack_input(struct conn *conn)
{
	struct conns *conns = conn->conns;
	uint16_t before = conn->input;
	if (conn->input == conn->last || conn->input == CONN_NO_BUFFER)
		return;
	while (conns->buffer_next[before] != conn->last)
		before = conns->buffer_next[before];
	uint32_t length = conns->buffer_length[conn->last];
	if (length > CONNS_RING_BUFFER_BYTES - conns->buffer_length[before])
		return;
	memcpy(ring_buffer(conns->ring, before) + conns->buffer_length[before], ring_buffer(conns->ring, conn->last), length);
	ring_buffer_give_back(conns->ring, conn->last);
	conns->buffer_length[before] += length;
	conns->buffer_next[before] = CONN_NO_BUFFER;
	conn->last = before;
	conn->input_buffers--;
}

/* --- completions ----------------------------------------------------------------------------------------------------------- */

static void forget_starved(struct conn *conn)
{
	struct conn **link = &conn->conns->starved;
	if (!conn->starved)
		return;
	while (*link != conn)
		link = &(*link)->next_starved;
	*link = conn->next_starved;
	conn->starved = false;
}

/* The ring posts no more buffers than were of use lately: it may run out of those while there are plenty. */
static bool buffers_are_back(const struct conns *conns)
{
	return ring_buffers_free(conns->ring) >= ring_buffers(conns->ring) / 8;
}

static void wait_for_buffers(struct conn *conn)
{
	struct conns *conns = conn->conns;
	counter_add(conns->starvations, 1);
	if (!conns->starved)
		conns->starved_since_ns = loop_now_ns(conns->loop);
	conn->starved = true;
	conn->next_starved = conns->starved;
	conns->starved = conn;
}

static void arm(struct conn *conn)
{
	conn->receiving = true;
	ring_recv(conn->conns->ring, &conn->port, conn->fd, false);
}

/* What was received: a buffer, the end, or why there is neither. Returns what the owner is to be told. */
static unsigned received(struct conn *conn, int result, unsigned flags, unsigned buffer)
{
	if (result > 0) {
		append_input(conn, (uint16_t)buffer, (uint32_t)result);
		return CONN_READ;
	}
	if (flags & RING_BUFFER)
		ring_buffer_give_back(conn->conns->ring, buffer);
	if (result == -ENOBUFS && conn->wanted && !buffers_are_back(conn->conns)) {
		wait_for_buffers(conn);
		return CONN_STARVED;
	}
	if (result == -ECANCELED || result == -ENOBUFS || result == -EINTR || result == -EAGAIN)
		return 0;
	conn->input_end = (int16_t)(result == 0 ? CONN_EOF : result);
	return CONN_END;
}

static unsigned on_received(struct conn *conn, int result, unsigned flags, unsigned buffer)
{
	if (!(flags & RING_MORE))
		conn->receiving = conn->cancelling = false;
	if (unlikely(conn->closing)) {
		if (flags & RING_BUFFER)
			ring_buffer_give_back(conn->conns->ring, buffer);
		return 0;
	}
	unsigned events = received(conn, result, flags, buffer);
	if (!conn->receiving && conn->wanted && !conn->starved && conn->input_end == CONN_OPEN)
		arm(conn);
	return events;
}

static void send_output(struct conn *conn)
{
	conn->sending = true;
	ring_send_what_fits(conn->conns->ring, &conn->port, conn->fd, conn->output_at, conn->output_length);
}

static void output_is_over(struct conn *conn)
{
	ring_buffer_give_back(conn->conns->ring, conn->output);
	conn->output = CONN_NO_BUFFER;
}

void conn_drop_rest(struct conn *conn)
{
	if (!conn->sending && conn->output != CONN_NO_BUFFER)
		output_is_over(conn);
}

static void on_sent(struct conn *conn, int result)
{
	bool full = result == -EAGAIN || result == -EINTR || (result >= 0 && (uint32_t)result < conn->output_length);
	conn->sending = false;
	conn->result = (int16_t)(full ? -EAGAIN : result < 0 ? result : 0);
	if (!full || conn->closing) {
		output_is_over(conn);
		return;
	}
	conn->output_at += result > 0 ? result : 0;
	conn->output_length -= result > 0 ? (uint32_t)result : 0;
}

static void on_complete(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	struct conn *conn = container_of(port, struct conn, port);
	unsigned events = 0;
	switch ((enum ring_op)op) {
	case RING_RECV:
		events = on_received(conn, result, flags, buffer);
		break;
	case RING_SEND:
		on_sent(conn, result);
		events = CONN_WRITE;
		break;
	case RING_CONNECT:
		conn->connecting = false;
		conn->result = (int16_t)result;
		events = CONN_WRITE;
		break;
	default:
		break;
	}
	if (unlikely(conn->closing)) {
		if (!conn_busy(conn)) {
			close(conn->fd);
			conn_free(conn);
		}
		return;
	}
	if (!conn_busy(conn) && !conn->starved)
		events |= CONN_IDLE;
	if (events)
		conn->event(conn, events);
}

/* --- operations ------------------------------------------------------------------------------------------------------------ */

void conn_ring_init(struct conn *conn)
{
	conn->by_completion = true;
	conn->port.fn = on_complete;
	conn->input = conn->last = conn->output = CONN_NO_BUFFER;
	conn->input_bytes = conn->output_length = 0;
	conn->input_buffers = 0;
	conn->input_end = CONN_OPEN;
	conn->result = 0;
	conn->output_at = NULL;
	conn->next_starved = NULL;
}

void conn_ring_connect(struct conn *conn, const struct addr *addr)
{
	conn->connecting = true;
	ring_connect(conn->conns->ring, &conn->port, conn->fd, &addr->sa, addr->length);
}

void conn_ring_close(struct conn *conn)
{
	struct ring *ring = conn->conns->ring;
	forget_starved(conn);
	conn_drop_input(conn);
	conn_drop_rest(conn);
	if (!conn_busy(conn)) {
		close(conn->fd);
		conn_free(conn);
		return;
	}
	conn->closing = true;
	if (conn->receiving)
		ring_cancel(ring, &conn->port, RING_RECV);
	if (conn->sending)
		ring_cancel(ring, &conn->port, RING_SEND);
	if (conn->connecting)
		ring_cancel(ring, &conn->port, RING_CONNECT);
}

void conn_receive(struct conn *conn)
{
	conn->wanted = true;
	if (!conn->receiving && !conn->starved && conn->input_end == CONN_OPEN)
		arm(conn);
}

void conn_receive_stop(struct conn *conn)
{
	conn->wanted = false;
	forget_starved(conn);
	if (!conn->receiving || conn->cancelling)
		return;
	conn->cancelling = true;
	ring_cancel(conn->conns->ring, &conn->port, RING_RECV);
}

static uint32_t take_output(struct conn *conn, struct conn *from)
{
	struct conns *conns = conn->conns;
	ensure(conn->output == CONN_NO_BUFFER);
	conn->output = take_input(from);
	conn->output_at = ring_buffer(conns->ring, conn->output);
	conn->output_length = conns->buffer_length[conn->output];
	return conn->output_length;
}

uint32_t conn_send_input(struct conn *conn, struct conn *from)
{
	uint32_t length = take_output(conn, from);
	send_output(conn);
	return length;
}

uint32_t conn_send_input_now(struct conn *conn, struct conn *from)
{
	uint32_t length = take_output(conn, from);
	ssize_t sent = send(conn->fd, conn->output_at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent == (ssize_t)length) {
		output_is_over(conn);
		return length;
	}
	conn->output_at += sent > 0 ? sent : 0;
	conn->output_length -= sent > 0 ? (uint32_t)sent : 0;
	send_output(conn); /* an error comes again */
	return length;
}

void conns_tell_starved(struct conns *conns)
{
	struct conn *conn;
	while (unlikely((conn = conns->starved) != NULL)) {
		forget_starved(conn);
		conn->event(conn, CONN_STARVED);
	}
}

void conns_feed_starved(struct conns *conns)
{
	struct conn *list = conns->starved;
	if (likely(!list))
		return;
	if (!buffers_are_back(conns)) {
		if (loop_now_ns(conns->loop) - conns->starved_since_ns >= PATIENCE_NS)
			conns_tell_starved(conns);
		return;
	}
	conns->starved = NULL;
	while (list) {
		struct conn *conn = list;
		list = conn->next_starved;
		conn->starved = false;
		arm(conn);
	}
}
