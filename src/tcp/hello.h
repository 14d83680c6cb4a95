/* The beginning of a session of a listener with routes: its ClientHello is read, and says which upstream it goes to; and PostgreSQL's way
 * to TLS, on both sides.
 *
 * Process: a worker. What the client sends is looked at where it lies, in the kernel: nothing is taken from there, so that whatever comes
 * next (the handshake of tcp/secure.h, or the relay with any engine) begins with the hello, and a client that takes its time costs no
 * buffer. The socket tells of it again when all that is missing may be there (SO_RCVLOWAT).
 * A unix socket has room for some 270 writes, however short: a client there that says its hello in more than that is closed at the
 * deadline. Who is refused hears the alert that is for it, before a FIN and not a RST.
 */
#ifndef AEGIS_TCP_HELLO_H
#define AEGIS_TCP_HELLO_H

#include "tcp/steps.h"

/* Do sessions of such a listener have such a beginning? */
static inline bool hello_is_wanted(const struct listener_config *config)
{
	return config->n_routes > 0;
}

/* A step: when it is done the session has its upstream. */
must_check enum step_result hello_read(struct session *session);
must_check uint64_t hello_deadline(const struct session *session);
void hello_overdue(struct session *session);
/* The session ends. */
void hello_end(struct session *session);

/* A step: a server was connected, and is asked for TLS as the client did. */
must_check enum step_result hello_greet(struct session *session);

#endif
