/* A session and the pool: following the messages, giving the server connection back, and the one retry of a connection that was stale.
 *
 * Process: a worker. Owner: the session; from a slab of its own, since sessions without a pool have none.
 *
 * Retry: the connection came out of the pool, and ends before the server said anything to this client. Then it is replaced by a fresh
 * one, and what the client sent goes there, when
 *   - nothing was sent, or
 *   - the request may be sent twice (HTTP methods that are idempotent, RFC 9110 9.2.2), or
 *   - the server cannot have taken the bytes: it had closed before they came. Its FIN acknowledged none of them, and its kernel answered
 *     them with a RST. (A RST alone proves nothing: acknowledgements are delayed while the server reads and acts.)
 *
 * Bytes from the server before the first ones of the client are left over from somebody else or a complaint: such a connection is replaced,
 * too. To see them in time the socket is looked at right before the first bytes are sent.
 */
#ifndef AEGIS_TCP_REUSE_H
#define AEGIS_TCP_REUSE_H

#include "proto/framing.h"
#include "relay/relay.h"
#include "upstream/upstream.h"

struct session;

struct reuse {
	struct framing framing; /* of an upstream that keeps none: without use */
	char *told;             /* what the client sent, while it may have to be sent again; NULL = none */
	uint32_t told_bytes;
	uint64_t sent_before;   /* by former clients */
	uint64_t sent_bytes;    /* by this one */
	uint64_t wait_since_ns; /* an end of input is held back; 0 = none */
	bool unproven : 1;      /* out of the pool, and the server has not said anything since */
	bool used : 1;          /* by another client before */
	bool looked : 1;        /* at the socket, before the first bytes */
	bool spoken : 1;        /* the client sent something on this connection */
	bool forgotten : 1;     /* what the client sent is too much to be sent again */
	bool retried : 1;
};

/* The connection comes out of the pool. */
void reuse_took(struct session *session, const struct hot_conn *hot);
/* The relay is about to begin. */
void reuse_begin(struct session *session);
/* Out of the relay; see struct relay_session_ops. */
bool reuse_look(struct relay *relay, enum side from, const char *bytes, size_t count);
enum relay_ending reuse_ending(struct relay *relay, enum side from);
/* The relay is done. True when the session goes on all the same. */
must_check bool reuse_goes_on(struct session *session, enum relay_end end, enum side by);
/* May the server connection go to another client? To be asked before relay_stop(). */
must_check bool reuse_may_keep(struct session *session);
/* Give it back; false when it must be closed. After relay_stop(). */
must_check bool reuse_give_back(struct session *session);
/* The session ends. */
void reuse_end(struct session *session);

#endif
