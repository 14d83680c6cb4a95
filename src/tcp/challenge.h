/* The answer to an ACME authority (http-01, proto/acme.h) at a listener with acme.challenges: the step that looks at the first bytes of a
 * client, and answers a request for a token that has a file there. Everybody else goes on as if nothing had been, or, with acme.only, gets
 * a 404.
 *
 * Process: a worker, which finds and reads the file with its own rights, when it is asked for: who makes the folder, or another one in its
 * place, and writes into it, needs to tell nobody.
 * States:  UNKNOWN -> HEAD -> ANSWER -> LINGER. While UNKNOWN the bytes are looked at where they lie, in the kernel, and stay there for
 * whoever goes on; it ends with the first byte that is different. From then on they are read: the rest of the head, and after the answer
 * what else comes, so that no RST overtakes the answer on its way. Owner of the file: the session, from HEAD on.
 */
#ifndef AEGIS_TCP_CHALLENGE_H
#define AEGIS_TCP_CHALLENGE_H

#include "tcp/steps.h"

static inline bool challenge_is_wanted(const struct listener_config *config)
{
	return config->acme.challenges[0] != '\0';
}

/* The step, and its deadline: acme.timeout from the accept for the request, and as long again for the client to take the answer. Who has
 * not asked for a token that is there by then goes on, be it silent. */
must_check enum step_result challenge_begin(struct session *session);
must_check uint64_t challenge_deadline(const struct session *session);
void challenge_overdue(struct session *session);

/* The session ends in this step. */
void challenge_end(struct session *session);
/* The client was sent its answer, or a part: it must not be lost by a RST. */
must_check bool challenge_is_answered(const struct session *session);

#endif
