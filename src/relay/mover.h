/* Between relay.c, which knows how a relay ends, and the engines, which move its bytes. */
#ifndef AEGIS_RELAY_MOVER_H
#define AEGIS_RELAY_MOVER_H

#include "relay/relay.h"

struct relay_mover {
	/* Take over two connections and what relay->side[] is owed (held), and begin. 0 or a negative errno. It may end the session. */
	int (*start)(struct relay *relay);
	/* Forget what a side is owed: nobody is there to take it. */
	void (*drop)(struct relay *relay, enum side to);
	/* Give back all that it holds, but for side[].held. */
	void (*stop)(struct relay *relay);
	/* Nothing more comes for a side, and all before it is sent: tell it so. True when the relay goes on. */
	bool (*end)(struct relay *relay, enum side to);
	/* Neither read nor write any more: a RST is going to end it. */
	void (*quiet)(struct relay *relay);
	/* Read what could be read before, but might not. It may end the session. */
	void (*resume)(struct relay *relay);
};

extern const struct relay_mover epoll_mover;
extern const struct relay_mover uring_mover;
extern const struct relay_mover tls_mover;

/* All that may call session->done() return nothing, or whether the relay goes on: return right after them when it does not. */

/* After any change: pass a FIN on when all before it is delivered, see whether it is over. True when it goes on. */
must_check bool relay_settle(struct relay *relay);
/* The end of input of a side was read (error 0), or an error (errno). All that was received before has been seen. ECONNABORTED is a FIN of
 * a secured side that has not said that nothing more comes, EBADMSG something that is no TLS that holds. True when it goes on. */
must_check bool relay_input_ended(struct relay *relay, enum side from, int error);
/* Sending to a side failed with errno. True when it goes on. */
must_check bool relay_send_failed(struct relay *relay, enum side to, int error);
void relay_over(struct relay *relay, enum relay_end end, enum side by);
/* relay_mover.end of plain sides. */
must_check bool relay_send_fin(struct relay *relay, enum side to);

/* Before bytes are sent to a side: are its options due? A first short write needs none (Nagle holds back only what follows another one). */
enum { RELAY_SHORT_WRITE = 512 };
static inline void relay_before_write(struct relay *relay, enum side to, size_t count)
{
	struct relay_side *side = &relay->side[to];
	if (unlikely(side->conn->options_due) && (side->written || count > RELAY_SHORT_WRITE))
		relay->engine->session->options_due(relay);
	side->written = true;
}
/* Bytes came from a side. True when the relay goes on. */
must_check static inline bool relay_received(struct relay *relay, enum side from, const char *bytes, size_t count)
{
	const struct relay_session_ops *session = relay->engine->session;
	if (unlikely(relay->framed) && bytes && !session->look(relay, from, bytes, count))
		return false;
	session->bytes(relay, from, count);
	return true;
}
/* Something was delivered to a side: the session may wait for that to decide about an end (ENDING_WAIT). */
static inline bool relay_end_waits(const struct relay *relay, enum side to)
{
	return unlikely(relay->framed) && relay->side[to].eof && !relay->side[other_side(to)].fin_sent;
}

#endif
