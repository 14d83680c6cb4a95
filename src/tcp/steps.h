/* What the files of a session and of its steps share: private to src/tcp.
 *
 * A step is a row of the table in session.c: a function that begins it, a deadline, and what to do when that is over. session_server.c has
 * those in which it gets its server, session_relay.c the last one; most others have a file and a header of their own. */
#ifndef AEGIS_TCP_STEPS_H
#define AEGIS_TCP_STEPS_H

#include "tcp/session.h"
#include "upstream/upstream.h"

/* What a step says to the driver. */
enum step_result {
	STEP_DONE,  /* on to the next one */
	STEP_WAIT,  /* an event or the deadline goes on */
	STEP_AGAIN, /* back to choosing a server */
	STEP_LEFT   /* not to be touched any more: it is gone, or goes on by itself */
};

/* Go on with this step. */
void session_run(struct session *session, enum step step);
/* What comes after an event that went on with the step that the session is in. */
void session_went_on(struct session *session, enum step_result result);
/* session_arm() where the deadline may have become later. */
void session_arm_anew(struct session *session);

/* May the client come in? STEP_DONE, or it is over. */
must_check enum step_result session_admit(struct session *session);

/* The server could not be reached, or its handshake failed, with this errno; text says more, or NULL. Notes it, and says whether another
 * one is to be chosen or the session is over. */
must_check enum step_result session_connect_failed(struct session *session, int error, const char *text);

must_check enum step_result step_choose(struct session *session);
must_check enum step_result step_line(struct session *session);
uint64_t step_line_deadline(const struct session *session);
void step_line_overdue(struct session *session);
must_check enum step_result step_connect(struct session *session);
uint64_t step_connect_deadline(const struct session *session);
void step_connect_overdue(struct session *session);
must_check enum step_result step_relay(struct session *session);
uint64_t step_relay_deadline(const struct session *session);
void step_relay_overdue(struct session *session);

/* Its client, as the choice of a server wants to know it. */
struct upstream_client session_client(const struct session *session);
/* The connection is out of the pool and may be stale: it says nothing about the server. */
must_check bool session_may_be_stale(const struct session *session);
/* The server did well, or not; that is told once. At the end: it has said nothing. */
void session_report(struct session *session, bool ok);
void session_judge_at_end(struct session *session, enum reason reason);

#endif
