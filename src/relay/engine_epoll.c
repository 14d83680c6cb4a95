/* The engine on epoll: it reads when a side has something and the other one has room, and sends on at once.
 *
 * Small messages are copied through the scratch buffer. A direction that carries bulk is spliced: from the socket into a pipe and from the
 * pipe into the other socket, so that only references to the kernel's pages move. Bytes go into an empty pipe only, which keeps three
 * things simple: that there is nothing to take means that the socket is empty and never that the pipe is full; nothing is received past
 * bytes in a pipe; and an end of input is seen when all before it is delivered. side[].bulk says which way a direction goes:
 *   0 .. BULK_READS - 1          copied: the number of full reads in a row
 *   BULK_READS .. BULK_MOST      spliced, as long as there is a pipe; falls by 1 with each small piece
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "relay/mover.h"
#include "relay/pipes.h"

enum {
	BULK_BYTES = 256 * 1024,
	BULK_READS = BULK_BYTES / RELAY_BUFFER_BYTES,
	BULK_PATIENCE = 4, /* so many small pieces in a row are no bulk any more */
	BULK_MOST = BULK_READS + BULK_PATIENCE,
	BULK_PIECE = 16 * 1024, /* less is small */
	CALM_MESSAGES = 64,     /* so many in a row, each at most of CALM_BYTES: go back to the ring. To go and to come costs some 5 us. */
	CALM_BYTES = CONNS_RING_BUFFER_BYTES
};

static void drop(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	buffers_give_back_list(&relay->engine->buffers, &side->held);
	if (side->pipe)
		pipes_give_back(relay->engine->pipes, side->pipe, side->owed == 0);
	side->pipe = NULL;
	side->owed = 0;
}

/* What a read brought to the scratch buffer is sent on. */
static enum moved deliver(struct relay *relay, enum side from, size_t count)
{
	struct buffers *buffers = &relay->engine->buffers;
	enum side to = other_side(from);
	if (!relay_received(relay, from, buffers->scratch, count))
		return OVER;
	ssize_t sent = relay_send(relay, to, buffers->scratch, count);
	if (sent < 0)
		return OVER;
	if (likely((size_t)sent == count))
		return MOVED;
	struct relay_side *target = &relay->side[to];
	target->held = buffers_keep_scratch(buffers, (uint32_t)sent, (uint32_t)count);
	target->owed = (uint32_t)(count - (size_t)sent);
	return relay_block(relay, to);
}

/* The same without a scratch buffer: the bytes were only peeked at; take from the kernel just what was sent. */
static enum moved deliver_peeked(struct relay *relay, enum side from, size_t count)
{
	char *peek = relay->engine->buffers.peek;
	enum side to = other_side(from);
	counter_add(relay->engine->buffer_exhausted, 1);
	if (relay->framed && !relay->engine->session->look(relay, from, peek, 0))
		return OVER;
	ssize_t sent = relay_send(relay, to, peek, count);
	if (sent < 0)
		return OVER;
	if (sent > 0) {
		ssize_t taken = recv(relay->side[from].conn->fd, peek, (size_t)sent, MSG_DONTWAIT);
		if (taken != sent) /* what was sent cannot be taken back */
			return relay_input_ended(relay, from, EPROTO) ? BLOCKED : OVER;
		if (!relay_received(relay, from, peek, (size_t)sent))
			return OVER;
	}
	return (size_t)sent == count ? MOVED : relay_block(relay, to);
}

static bool can_pump(const struct relay *relay, enum side from)
{
	return relay->side[from].conn->readable && !relay->side[from].dry && !relay->side[other_side(from)].blocked;
}

/* most is what was asked for: less than a buffer only where the session does not allow more. */
static void note_read(struct relay *relay, enum side to, size_t count, size_t most)
{
	struct relay_side *target = &relay->side[to];
	if (count > CALM_BYTES)
		relay->calm = 0;
	else if (relay->calm < CALM_MESSAGES)
		relay->calm++;
	if (likely(count < most) || most < BULK_PIECE || relay->framed)
		target->bulk = 0;
	else if (target->bulk < BULK_READS)
		target->bulk++;
}

static void quick_ack(const struct relay_side *source)
{
	if (source->quickack)
		(void)setsockopt(source->conn->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
}

/* One read of at most so much, and what follows from it. */
static enum moved pump_once(struct relay *relay, enum side from, size_t most)
{
	struct relay_side *source = &relay->side[from];
	struct conn *conn = source->conn;
	struct buffers *buffers = &relay->engine->buffers;
	/* Who looks on may have to keep what it sees, or to do without it: then it is not taken from the kernel before. */
	bool peeking = unlikely(!buffers->scratch) || (unlikely(relay->framed) && buffers_are_used_up(buffers));
	ssize_t count = recv(conn->fd, peeking ? buffers->peek : buffers->scratch, most, MSG_DONTWAIT | (peeking ? MSG_PEEK : 0));
	if (unlikely(count <= 0)) {
		int error = count < 0 ? errno : 0;
		if (error == EINTR)
			return MOVED;
		conn->readable = false;
		if (error == EAGAIN)
			return MOVED;
		return relay_input_ended(relay, from, error) ? MOVED : OVER;
	}
	quick_ack(source);
	note_read(relay, other_side(from), (size_t)count, most);
	if (peeking)
		return deliver_peeked(relay, from, (size_t)count);
	if ((size_t)count < most && !conn->ended && !conn->thorough)
		conn->readable = false; /* it is empty, and what comes next makes a new edge */
	return deliver(relay, from, (size_t)count);
}

/* --- bulk, through a pipe ---------------------------------------------------------------------------------------------------- */

/* A pipe for what comes next from a side, or NULL when that is to be copied. Urgent data stops splice() for good, and unix sockets are not
 * worth it. */
static struct pipe *pipe_for(struct relay *relay, enum side from)
{
	struct relay_engine *engine = relay->engine;
	const struct relay_side *source = &relay->side[from], *target = &relay->side[other_side(from)];
	if (likely(target->bulk < BULK_READS) || !engine->pipes || source->conn->thorough || target->conn->thorough || target->reset)
		return NULL;
	struct pipe *pipe = pipes_take(engine->pipes, loop_now_ns(engine->loop));
	if (unlikely(!pipe))
		counter_add(engine->pipe_exhausted, 1);
	return pipe;
}

/* What lies in the pipe of a side goes on to its socket. */
static enum moved empty_pipe(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	relay_before_write(relay, to, side->owed);
	ssize_t sent = splice(side->pipe->out, NULL, side->conn->fd, NULL, side->owed, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (unlikely(sent < 0) && errno != EAGAIN && errno != EINTR)
		return relay_send_failed(relay, to, errno) ? MOVED : OVER;
	side->owed -= sent > 0 ? (uint32_t)sent : 0;
	if (side->owed > 0)
		return relay_block(relay, to);
	drop(relay, to);
	return MOVED;
}

/* Nothing went into the pipe. What it means other than that the socket is empty, the next read will tell: splice() tells an urgent byte
 * before a FIN as an end of input. But an error is told only once. */
static enum moved nothing_spliced(struct relay *relay, enum side from, int error)
{
	if (error == EAGAIN)
		relay->side[from].conn->readable = false;
	if (error == EAGAIN || error == EINTR)
		return MOVED;
	relay->side[other_side(from)].bulk = 0;
	switch (error) {
	case ENOSYS:
	case EPERM:
	case EINVAL:
	case EOPNOTSUPP:
		pipes_disable(relay->engine->pipes);
		return MOVED;
	case 0:
	case ENOMEM:
	case ENOBUFS:
		return MOVED;
	default:
		return relay_send_failed(relay, from, error) ? MOVED : OVER;
	}
}

static void note_spliced(struct relay_side *target, size_t count)
{
	if (likely(count >= BULK_PIECE))
		target->bulk = BULK_MOST;
	else if (--target->bulk <= BULK_READS)
		target->bulk = 0;
}

static enum moved splice_once(struct relay *relay, enum side from, struct pipe *pipe, size_t most)
{
	struct relay_engine *engine = relay->engine;
	struct relay_side *source = &relay->side[from], *target = &relay->side[other_side(from)];
	ssize_t count = splice(source->conn->fd, NULL, pipe->in, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (unlikely(count <= 0)) {
		int error = count < 0 ? errno : 0;
		pipes_give_back(engine->pipes, pipe, true);
		return nothing_spliced(relay, from, error);
	}
	quick_ack(source);
	target->pipe = pipe;
	target->owed = (uint32_t)count;
	note_spliced(target, (size_t)count);
	counter_add(engine->spliced_bytes, (uint64_t)count);
	if (!relay_received(relay, from, NULL, (size_t)count))
		return OVER;
	return empty_pipe(relay, other_side(from));
}

/* --- turns ------------------------------------------------------------------------------------------------------------------- */

static size_t at_most(size_t bytes, size_t allowed)
{
	return bytes < allowed ? bytes : allowed;
}

/* Move what there is, within the budget of a turn and what the session allows. True when the relay goes on. */
static bool pump(struct relay *relay, enum side from)
{
	for (int budget = RELAY_TURN_BYTES; budget > 0;) {
		if (!can_pump(relay, from))
			return true;
		size_t allowed = unlikely(relay->shaped) ? relay->engine->session->allow(relay, from) : SIZE_MAX;
		if (unlikely(allowed == 0))
			return true; /* it stays readable: relay_resume() goes on */
		struct pipe *pipe = pipe_for(relay, from);
		size_t most = at_most(pipe ? pipe->bytes : RELAY_BUFFER_BYTES, allowed);
		budget -= (int)most;
		enum moved moved = pipe ? splice_once(relay, from, pipe, most) : pump_once(relay, from, most);
		if (moved == OVER)
			return false;
		if (relay_end_waits(relay, other_side(from)) && !relay_settle(relay))
			return false;
	}
	if (can_pump(relay, from))
		loop_io_again(relay->engine->loop, &relay->side[from].conn->io);
	return true;
}

/* The socket of a side has room again. True when the relay goes on. */
static bool flush(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	if (side->pipe) {
		enum moved moved = empty_pipe(relay, to);
		if (moved != MOVED)
			return moved == BLOCKED;
	} else if (side->held) {
		enum moved moved = relay_send_held(relay, to);
		if (moved != MOVED)
			return moved == BLOCKED;
	}
	drop(relay, to);
	side->blocked = false;
	return relay_settle(relay) && pump(relay, other_side(to));
}

/* To the ring, where there is one and nothing is under way. */
static void go_back(struct relay *relay)
{
	const struct relay_side *client = &relay->side[SIDE_CLIENT], *server = &relay->side[SIDE_SERVER];
	bool ending = client->dry || server->dry || client->reset || server->reset;
	relay->calm = 0;
	if (!relay_engine_ring_is_open(relay->engine) || relay->shaped || ending || client->blocked || server->blocked)
		return;
	if (relay_move_with(relay, MOVER_URING))
		relay_over(relay, RELAY_NO_MEMORY, SIDE_CLIENT);
}

static void on_event(struct conn *conn, unsigned events)
{
	struct relay *relay = conn->owner;
	enum side which = relay->side[SIDE_CLIENT].conn == conn ? SIDE_CLIENT : SIDE_SERVER;
	if (unlikely(relay->aborting))
		return;
	if (unlikely(relay->side[which].blocked) && (events & CONN_WRITE) && !flush(relay, which))
		return;
	if (can_pump(relay, which) && !pump(relay, which))
		return;
	if (unlikely(relay->calm >= CALM_MESSAGES))
		go_back(relay);
}

static void resume(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		if (can_pump(relay, which) && !pump(relay, which))
			return;
}

/* What was owed before the start goes first; then what came meanwhile. */
static int start(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct conn *conn = relay->side[which].conn;
		conn_hand_over(conn, on_event, relay);
		int error = conn_watch(conn);
		if (error)
			return error;
		relay->side[which].blocked = relay->side[which].held != NULL;
		relay->side[which].bulk = 0; /* it may come from the other engine */
	}
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		if (relay->side[which].blocked && !flush(relay, which))
			return 0;
	resume(relay);
	return 0;
}

static void stop(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		drop(relay, which);
}

static void quiet(struct relay *relay)
{
	(void)relay; /* edges that are not wanted any more are few */
}

const struct relay_mover epoll_mover = {
	.start = start, .drop = drop, .stop = stop, .end = relay_send_fin, .quiet = quiet, .resume = resume
};
