/* What the steps of a session share that are in files of their own: private to src/tcp.
 *
 * A step is a row of the table in session.c: a function that begins it, a deadline, and what to do when that is over. */
#ifndef AEGIS_TCP_STEPS_H
#define AEGIS_TCP_STEPS_H

#include "tcp/session.h"

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

/* May the client come in? STEP_DONE, or it is over. */
must_check enum step_result session_admit(struct session *session);

/* The server could not be reached, or its handshake failed, with this errno; text says more, or NULL. Notes it, and says whether another
 * one is to be chosen or the session is over. */
must_check enum step_result session_connect_failed(struct session *session, int error, const char *text);

#endif
