/* What a side is sent, and what is kept for it when its socket has no room: for the engines on epoll. */
#include <errno.h>

#include "relay/mover.h"
#include "tls/stream.h"

enum moved relay_block(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	side->blocked = true;
	relay->calm = 0;
	if (conn_want_room(side->conn) == 0)
		return BLOCKED;
	relay_over(relay, RELAY_NO_MEMORY, to);
	return OVER;
}

ssize_t relay_send_by_kernel(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	struct relay_side *side = &relay->side[to];
	relay_before_write(relay, to, count);
	ssize_t sent = tls_stream_send(side->tls, bytes, count, loop_now_ns(relay->engine->loop));
	if (unlikely(sent < 0) && errno == EBADMSG)
		return relay_input_ended(relay, to, EBADMSG) ? (ssize_t)count : -1; /* its peer is there, but cannot be told anything */
	return likely(sent >= 0) ? sent : relay_not_sent(relay, to, count, errno);
}

enum moved relay_send_held(struct relay *relay, enum side to)
{
	struct buffers *buffers = &relay->engine->buffers;
	struct relay_side *side = &relay->side[to];
	while (side->held) {
		char *buffer = side->held;
		struct buffer_rest *rest = buffers_rest(buffers, buffer);
		ssize_t sent = relay_is_in_kernel(side) ? relay_send_by_kernel(relay, to, buffer + rest->at, rest->end - rest->at)
		                                        : relay_send(relay, to, buffer + rest->at, rest->end - rest->at);
		if (sent < 0)
			return OVER;
		if (!side->held)
			return MOVED; /* the send failed, and what was owed is dropped */
		side->owed -= (uint32_t)sent;
		rest->at += (uint32_t)sent;
		if (rest->at < rest->end)
			return relay_block(relay, to);
		side->held = rest->next;
		buffers_give_back(buffers, buffer);
	}
	return MOVED;
}
