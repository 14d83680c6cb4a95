/* The engine for relays of which one side or both speak TLS. It is on epoll: see engine_epoll.c for how it hears and in what order it
 * moves.
 *
 * From a secured side as much as fits is received onto the desk of the worker (tls/stream.h) and decrypted at once, to the end: what is
 * left then is at most a part of a record, inside the stream. So there is never anything to be had while the socket is silent, but for what
 * came with the handshake (`pending`). Towards a secured side what was read is made into records on the desk, which go to the socket in one
 * piece. Records are made once: what the socket does not take is held as it is to be sent. While the pool is used up less is read at a
 * time, so that what is made of it fits into a reserve, of which each direction has one.
 *
 * When a side is sent bulk the kernel takes over what it is sent, where it can (kTLS): from then on it is sent bytes as they are, as a
 * plain side is, and what is held for it is not encrypted yet. The kernel may keep records that TCP had no room for: before a side is shut
 * it is asked for them, again and again, for it tells nobody when they are gone.
 *
 * A peer may ask for answers (key updates) and not read them: it is not read any more until it has taken them.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "relay/mover.h"
#include "tls/stream.h"

/* Read at a time while there is no buffer: with the rest of a record before it, and as records, it fits into a reserve. */
enum { FRUGAL_BYTES = 4 * 1024 };
static_assert((int)TLS_PLAIN_BYTES == (int)RELAY_BUFFER_BYTES, "what is decrypted goes into a buffer");
static_assert((int)FRUGAL_BYTES + 3 * (int)TLS_RECORD_BYTES / 2 <= (int)RELAY_RESERVE_BYTES, "also in small records");

static void drop(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	buffers_give_back_list(&relay->engine->buffers, &side->held);
	side->owed = 0;
}

/* --- out --------------------------------------------------------------------------------------------------------------------- */

/* One more for what a side is owed: NULL when there is none. */
static char *another(struct relay *relay, bool scratch_is_free)
{
	struct buffers *buffers = &relay->engine->buffers;
	if (scratch_is_free && buffers->scratch)
		return buffers_keep_scratch(buffers, 0, 0);
	char *buffer = buffers_take(buffers);
	if (buffer)
		return buffer;
	counter_add(relay->engine->buffer_exhausted, 1);
	return buffers_take_reserve(buffers);
}

/* Keep what a side is owed, behind what is kept already. scratch_is_free: nothing of use is in the scratch buffer. */
static bool hold(struct relay *relay, enum side to, const char *bytes, size_t count, bool scratch_is_free)
{
	struct buffers *buffers = &relay->engine->buffers;
	char **link = &relay->side[to].held, *buffer = NULL;
	for (; *link; link = &buffers_rest(buffers, buffer)->next)
		buffer = *link;
	relay->side[to].owed += (uint32_t)count;
	while (count > 0) {
		size_t room = buffer ? buffers_size(buffers, buffer) - buffers_rest(buffers, buffer)->end : 0;
		if (room == 0) {
			buffer = another(relay, scratch_is_free);
			if (!buffer)
				return false;
			*link = buffer;
			link = &buffers_rest(buffers, buffer)->next;
			room = buffers_size(buffers, buffer);
		}
		struct buffer_rest *rest = buffers_rest(buffers, buffer);
		size_t part = count < room ? count : room;
		memcpy(buffer + rest->end, bytes, part);
		rest->end += (uint32_t)part;
		bytes += part;
		count -= part;
	}
	return true;
}

static enum moved hold_and_block(struct relay *relay, enum side to, const char *bytes, size_t count, bool scratch_is_free)
{
	if (hold(relay, to, bytes, count, scratch_is_free))
		return relay_block(relay, to);
	relay_over(relay, RELAY_NO_MEMORY, to);
	return OVER;
}

/* What lies on the desk goes to a side. */
static enum moved send_desk(struct relay *relay, enum side to, bool scratch_is_free)
{
	size_t count;
	const char *bytes = tls_desk_output(relay->engine->desk, &count);
	ssize_t sent = relay->side[to].owed ? 0 : relay_send(relay, to, bytes, count);
	if (sent < 0)
		return OVER;
	return (size_t)sent == count ? MOVED : hold_and_block(relay, to, bytes + sent, count - (size_t)sent, scratch_is_free);
}

/* Of bytes as they are, in the scratch buffer or elsewhere, a side did not take those from `sent` on. */
static enum moved keep(struct relay *relay, enum side to, const char *bytes, size_t sent, size_t count)
{
	struct buffers *buffers = &relay->engine->buffers;
	struct relay_side *side = &relay->side[to];
	if (bytes != buffers->scratch || side->owed)
		return hold_and_block(relay, to, bytes + sent, count - sent, false);
	side->held = buffers_keep_scratch(buffers, (uint32_t)sent, (uint32_t)count);
	side->owed = (uint32_t)(count - sent);
	return relay_block(relay, to);
}

/* The same of bytes in the scratch buffer, or in peek, to a plain side. */
static enum moved send_plain(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	ssize_t sent = relay_send(relay, to, bytes, count);
	if (sent < 0)
		return OVER;
	return likely((size_t)sent == count) ? MOVED : keep(relay, to, bytes, (size_t)sent, count);
}

/* There are no records for a side any more, though its peer is there: no error will be read from it. */
static enum moved cannot_tell(struct relay *relay, enum side to)
{
	return relay_input_ended(relay, to, EBADMSG) ? MOVED : OVER;
}

/* Has the kernel what the side is sent, from now on at the latest? */
static bool is_for_kernel(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	if (side->owed || !tls_stream_wants_kernel(side->tls) || !tls_stream_to_kernel(side->tls))
		return side->tls->in_kernel;
	relay->engine->session->by_kernel(relay, to);
	return true;
}

static enum moved send_to_kernel(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	const struct relay_side *side = &relay->side[to];
	ssize_t sent = side->owed ? 0 : relay_send_by_kernel(relay, to, bytes, count);
	if (sent < 0)
		return OVER;
	if (likely((size_t)sent == count))
		return MOVED;
	return keep(relay, to, bytes, (size_t)sent, count);
}

static enum moved send_secured(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	struct relay_side *side = &relay->side[to];
	if (unlikely(side->reset))
		return MOVED;
	if (unlikely(side->tls->kernel) && is_for_kernel(relay, to))
		return send_to_kernel(relay, to, bytes, count);
	if (likely(tls_stream_encrypt(side->tls, bytes, count, loop_now_ns(relay->engine->loop))))
		return send_desk(relay, to, true);
	(void)tls_desk_output(relay->engine->desk, &count);
	return cannot_tell(relay, to);
}

/* The kernel sends what is due of the protocol's own to a side. */
static enum moved say(struct relay *relay, enum side to, bool last_words)
{
	struct relay_side *side = &relay->side[to];
	int error = side->reset ? 0 : tls_stream_say(side->tls, last_words);
	if (likely(error == 0))
		return MOVED;
	if (error == -EBADMSG)
		return cannot_tell(relay, to);
	if (error != -EAGAIN)
		return relay_send_failed(relay, to, -error) ? MOVED : OVER;
	side->owed += side->owed == 0;
	return relay_block(relay, to);
}

/* All that was owed is with the kernel: are the last words, too, and has it passed on all of it, where an end is to follow? */
static enum moved conclude(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	bool last = side->eof && relay->side[other_side(to)].eof;
	uint64_t look_again_ns;
	enum moved moved = say(relay, to, true);
	if (moved != MOVED || side->reset)
		return moved;
	int held = side->fin_sent ? tls_stream_held(side->tls, loop_now_ns(relay->engine->loop), &look_again_ns) : 0;
	if (held < 0 && last)
		held = 0; /* as with what TCP had taken */
	if (held < 0)
		return relay_send_failed(relay, to, -held) ? MOVED : OVER;
	side->owed = (uint32_t)held;
	if (likely(held == 0))
		return MOVED;
	side->blocked = true;
	relay->engine->session->tick_at(relay, look_again_ns);
	return BLOCKED;
}

/* --- in ---------------------------------------------------------------------------------------------------------------------- */

/* Where bytes are to be read or decrypted. */
static char *workplace(const struct relay *relay)
{
	const struct buffers *buffers = &relay->engine->buffers;
	return likely(buffers->scratch) ? buffers->scratch : buffers->peek;
}

static enum moved deliver(struct relay *relay, enum side from, const char *bytes, size_t count)
{
	enum side to = other_side(from);
	if (!relay_received(relay, from, bytes, count))
		return OVER;
	if (unlikely(relay->side[to].reset && relay->side[to].eof)) {
		relay->side[to].eof = false; /* it ended well, but will never get this */
		return relay_settle(relay) ? MOVED : OVER;
	}
	return relay->side[to].secured ? send_secured(relay, to, bytes, count) : send_plain(relay, to, bytes, count);
}

static bool can_pump(const struct relay *relay, enum side from)
{
	const struct relay_side *source = &relay->side[from];
	bool there = source->conn->readable || (source->secured && source->tls->pending);
	return there && !source->dry && !relay->side[other_side(from)].blocked && !(source->secured && source->tls->hushed);
}

static size_t most_of(const struct relay *relay, enum side from)
{
	if (unlikely(!relay->engine->buffers.scratch))
		return FRUGAL_BYTES;
	if (relay->side[from].secured)
		return TLS_READ_BYTES;
	return TLS_WRITE_BYTES;
}

/* recv() into a place: the count, 0 when there is nothing for now, or -1 when the end came, or an error, which has been told. */
static ssize_t receive(struct relay *relay, enum side from, char *to, size_t most, bool *goes_on)
{
	struct relay_side *source = &relay->side[from];
	struct conn *conn = source->conn;
	ssize_t count = recv(conn->fd, to, most, MSG_DONTWAIT);
	*goes_on = true;
	if (unlikely(count <= 0)) {
		int error = count < 0 ? errno : source->secured ? ECONNABORTED : 0;
		if (count < 0 && error == EINTR)
			return 0;
		conn->readable = false;
		if (count < 0 && error == EAGAIN)
			return 0;
		*goes_on = relay_input_ended(relay, from, error);
		return -1;
	}
	if (source->secured)
		relay->engine->session->came(relay, from, (size_t)count);
	if (source->quickack)
		(void)setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
	if ((size_t)count < most && !conn->ended && !conn->thorough)
		conn->readable = false; /* it is empty, and what comes next makes a new edge */
	return count;
}

/* What the peer is to be told, because of what came from it. */
static enum moved answer(struct relay *relay, enum side from)
{
	struct relay_side *source = &relay->side[from];
	enum moved moved;
	if (unlikely(source->tls->in_kernel))
		moved = say(relay, from, source->owed == 0);
	else if (likely(relay->engine->desk->out_end == 0))
		return MOVED;
	else
		moved = send_desk(relay, from, false);
	if (moved == BLOCKED)
		source->tls->hushed = true;
	return moved;
}

/* The stream says that nothing more comes, or that it does not go on. */
static enum moved ended(struct relay *relay, enum side from, enum tls_state state)
{
	char text[160];
	int error = 0;
	if (state == TLS_FAILED)
		error = tls_stream_failure(relay->side[from].tls, text, sizeof text) == TLS_FAILURE_ALERT ? ECONNRESET : EBADMSG;
	return relay_input_ended(relay, from, error) ? MOVED : OVER;
}

/* What lies on the desk is decrypted and delivered. */
static enum moved open_records(struct relay *relay, enum side from)
{
	char *plain = workplace(relay);
	size_t count;
	enum tls_state state = tls_stream_decrypt(relay->side[from].tls, plain, TLS_PLAIN_BYTES, &count);
	if (answer(relay, from) == OVER)
		return OVER;
	if (unlikely(relay->engine->desk->in_end == 0)) /* it came with the handshake */
		relay->engine->session->came(relay, from, count);
	enum moved moved = count > 0 ? deliver(relay, from, plain, count) : MOVED;
	if (moved == OVER || state == TLS_WANTS_INPUT || state == TLS_MORE)
		return moved;
	return ended(relay, from, state);
}

/* One read of at most so much, and what follows from it. */
static enum moved pump_once(struct relay *relay, enum side from, size_t most)
{
	struct relay_side *source = &relay->side[from];
	struct tls_desk *desk = relay->engine->desk;
	char *plain = workplace(relay);
	bool goes_on;
	if (source->secured && unlikely(source->tls->pending)) {
		desk->in_at = desk->in_end = 0;
		return open_records(relay, from);
	}
	ssize_t count = receive(relay, from, source->secured ? desk->in : plain, most, &goes_on);
	if (count <= 0)
		return goes_on ? MOVED : OVER;
	if (!source->secured)
		return deliver(relay, from, plain, (size_t)count);
	desk->in_at = 0;
	desk->in_end = (uint32_t)count;
	return open_records(relay, from);
}

/* --- turns ------------------------------------------------------------------------------------------------------------------- */

/* Move what there is, within the budget of a turn and what the session allows. True when the relay goes on. */
static bool pump(struct relay *relay, enum side from)
{
	for (int budget = RELAY_TURN_BYTES; budget > 0;) {
		if (!can_pump(relay, from))
			return true;
		size_t most = most_of(relay, from);
		size_t allowed = unlikely(relay->shaped) ? relay->engine->session->allow(relay, from) : SIZE_MAX;
		if (unlikely(allowed == 0))
			return true; /* it stays readable: relay_resume() goes on */
		budget -= (int)most;
		if (pump_once(relay, from, most < allowed ? most : allowed) == OVER)
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
	enum moved moved = relay_send_held(relay, to);
	if (moved == MOVED && relay_is_in_kernel(side))
		moved = conclude(relay, to);
	if (moved != MOVED)
		return moved == BLOCKED;
	side->blocked = false;
	if (side->secured)
		side->tls->hushed = false;
	if (side->fin_sent && !relay_send_fin(relay, to)) /* what was to be said before it is sent now */
		return false;
	return relay_settle(relay) && pump(relay, other_side(to));
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
}

/* --- ends -------------------------------------------------------------------------------------------------------------------- */

static bool end_in_kernel(struct relay *relay, enum side to, bool last)
{
	int error = last ? tls_stream_say(relay->side[to].tls, true) : 0;
	if (error && error != -EAGAIN)
		return true;
	enum moved moved = conclude(relay, to);
	return moved == MOVED ? last || relay_send_fin(relay, to) : moved == BLOCKED;
}

/* Say that nothing more comes. When both sides have said so it does not matter any more whether it can be heard. */
static bool end(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	bool last = side->eof && relay->side[other_side(to)].eof;
	size_t count;
	if (!side->secured)
		return relay_send_fin(relay, to);
	tls_stream_end(side->tls);
	if (side->tls->in_kernel)
		return end_in_kernel(relay, to, last);
	const char *bytes = tls_desk_output(relay->engine->desk, &count);
	/* MSG_MORE: the FIN follows, in the same segment. */
	ssize_t sent = send(side->conn->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
	if (likely(sent == (ssize_t)count))
		return last || relay_send_fin(relay, to);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return last || relay_send_failed(relay, to, errno);
	sent = sent > 0 ? sent : 0;
	return hold_and_block(relay, to, bytes + sent, count - (size_t)sent, true) != OVER;
}

/* --- from start to stop ------------------------------------------------------------------------------------------------------ */

static void resume(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		if (can_pump(relay, which) && !pump(relay, which))
			return;
}

/* What a secured side was owed before the start is made into records, which are sent or held. True when the relay goes on. */
static bool secure_held(struct relay *relay, enum side to)
{
	struct buffers *buffers = &relay->engine->buffers;
	struct relay_side *side = &relay->side[to];
	char *list = side->held;
	bool goes_on = true;
	side->held = NULL;
	side->owed = 0;
	while (list) {
		char *next = buffers_rest(buffers, list)->next;
		struct buffer_rest rest = *buffers_rest(buffers, list);
		while (goes_on && rest.at < rest.end) {
			uint32_t part = rest.end - rest.at < TLS_WRITE_BYTES ? rest.end - rest.at : TLS_WRITE_BYTES;
			goes_on = send_secured(relay, to, list + rest.at, part) != OVER;
			rest.at += part;
		}
		buffers_give_back(buffers, list);
		list = next;
	}
	return goes_on;
}

static int take_over(struct relay *relay, enum side which)
{
	struct relay_side *side = &relay->side[which];
	if (side->conn->by_completion)
		conn_use_readiness(side->conn);
	conn_hand_over(side->conn, on_event, relay);
	side->blocked = !side->secured && side->held;
	if (side->secured && tls_stream_is_deserted(side->tls)) {
		side->reset = true; /* the kernel told it once */
		side->end = RELAY_RESET;
	}
	if (side->secured)
		tls_stream_to_desk(side->tls);
	return conn_watch(side->conn);
}

static int start(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		int error = take_over(relay, which);
		if (error)
			return error;
	}
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		bool secured = relay->side[which].secured;
		if (secured ? !secure_held(relay, which) : relay->side[which].blocked && !flush(relay, which))
			return 0;
	}
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

/* Has the kernel passed on what it held? */
static bool tick(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		const struct relay_side *side = &relay->side[which];
		bool waits = side->blocked && side->fin_sent && !side->held && relay_is_in_kernel(side);
		if (waits && !flush(relay, which))
			return false;
	}
	return true;
}

const struct relay_mover tls_mover = {
	.start = start, .drop = drop, .stop = stop, .end = end, .quiet = quiet, .resume = resume, .tick = tick
};
