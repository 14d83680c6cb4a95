/* Between relay.c, which knows how a relay ends, and the engines, which move its bytes. */
#ifndef AEGIS_RELAY_MOVER_H
#define AEGIS_RELAY_MOVER_H

#include <errno.h>
#include <sys/socket.h>

#include "relay/relay.h"
#include "tls/stream.h"

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
	/* A time that it asked for by tick_at has come; NULL where it asks for none. True when the relay goes on. */
	bool (*tick)(struct relay *relay);
};

extern const struct relay_mover epoll_mover;
extern const struct relay_mover uring_mover;
extern const struct relay_mover tls_mover;

/* relay->mover: a byte in place of a pointer, for relays are many. */
enum { MOVER_NONE, MOVER_EPOLL, MOVER_URING, MOVER_TLS, N_MOVERS };
extern const struct relay_mover *const relay_movers[N_MOVERS];

/* Give it to an engine: 0, or a negative errno. It may end the session. */
must_check static inline int relay_move_with(struct relay *relay, uint8_t mover)
{
	relay->mover = mover;
	return relay_movers[mover]->start(relay);
}

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

/* --- sending, for the engines on epoll */

/* What became of bytes for a side. */
enum moved {
	MOVED,   /* its socket took all of them */
	BLOCKED, /* it has no room for the rest */
	OVER     /* the relay does not go on */
};

/* Is what is sent to a side encrypted by the kernel? */
static inline bool relay_is_in_kernel(const struct relay_side *side)
{
	return side->secured && side->tls->in_kernel;
}
/* A side takes no more now. */
must_check enum moved relay_block(struct relay *relay, enum side to);
/* A send failed: as relay_send(). */
must_check static inline ssize_t relay_not_sent(struct relay *relay, enum side to, size_t count, int error)
{
	if (error == EAGAIN || error == EINTR)
		return 0;
	return relay_send_failed(relay, to, error) ? (ssize_t)count : -1;
}
/* Send bytes as they are to a side: how many its socket took, or -1 when the relay does not go on. */
must_check static inline ssize_t relay_send(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	struct relay_side *side = &relay->side[to];
	if (unlikely(side->reset))
		return (ssize_t)count; /* dropped: nobody is there to take it */
	relay_before_write(relay, to, count);
	ssize_t sent = send(side->conn->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
	return likely(sent >= 0) ? sent : relay_not_sent(relay, to, count, errno);
}
/* The same for a side that is in the kernel, and was not reset. */
must_check ssize_t relay_send_by_kernel(struct relay *relay, enum side to, const char *bytes, size_t count);
/* What is held for a side goes on to its socket. */
must_check enum moved relay_send_held(struct relay *relay, enum side to);

/* Something was delivered to a side: the session may wait for that to decide about an end (ENDING_WAIT). */
static inline bool relay_end_waits(const struct relay *relay, enum side to)
{
	return unlikely(relay->framed) && relay->side[to].eof && !relay->side[other_side(to)].fin_sent;
}

#endif
