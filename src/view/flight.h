/* Why a client fared as it did: its recent connections out of the flight recorders of all workers (shm/recorder.h), step by step. The
 * answer to GET /why.
 *
 * Process: the control process. The recorders go on meanwhile, and hold anything: what cannot be is left out.
 */
#ifndef AEGIS_VIEW_FLIGHT_H
#define AEGIS_VIEW_FLIGHT_H

#include <stdio.h>

#include "shm/layout.h"
#include "view/connections.h"

struct flight_question {
	const char *address; /* as it was asked */
	struct client_filter client;
	uint32_t most; /* connections, the newest; at least 1 */
	uint64_t now_ns;
	uint64_t now_unix_ns; /* the same moment by the wall clock */
	/* Those that are open, as the workers said a moment before: of what lasts long the beginning may be overwritten. */
	const struct roll_found *open;
	size_t n_open;
};

/* The JSON text, with a line end behind it; trouble shows in ferror(out). 0 or -ENOMEM. */
must_check int flight_explain(const struct shm *shm, const struct flight_question *question, FILE *out);

#endif
