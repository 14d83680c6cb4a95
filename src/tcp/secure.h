/* TLS of a session: the handshakes with its client and with its server. Each is a step with a deadline; what comes after them is the
 * relay's (relay/engine_tls.c).
 *
 * Process: a worker. Owner of the streams: the session; from a slab of their own, since sessions without TLS have none.
 * A handshake that fails ends with the alert that says why, a reason, and one line in the log at a bounded rate. With a server it counts as
 * a failed attempt to connect, so that another server is tried: nothing of the client was sent yet.
 */
#ifndef AEGIS_TCP_SECURE_H
#define AEGIS_TCP_SECURE_H

#include "tcp/steps.h"
#include "tls/stream.h"

/* Does anything in the settings speak TLS over TCP? How many streams a session can have. */
must_check unsigned secure_streams(const struct config *config);

must_check enum step_result secure_client(struct session *session);
must_check uint64_t secure_client_deadline(const struct session *session);
void secure_client_overdue(struct session *session);

must_check enum step_result secure_server(struct session *session);
void secure_server_overdue(struct session *session);

/* What the server is due before (a PROXY header) is not for TLS: it goes first. It is short, and the socket is empty. False: the server is
 * gone. */
must_check bool secure_send_owed(struct session *session);

/* Out of the relay: the kernel encrypts what a side is sent from now on. */
void secure_by_kernel(struct relay *relay, enum side to);

/* The connection of a side is about to be closed; in good order: with a close_notify. */
void secure_end(struct session *session, enum side which, bool in_good_order);

#endif
