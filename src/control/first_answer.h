/* The first answers of the name servers that the settings name, for who cannot begin without them.
 *
 * Process: the preflight, which waits for them in a loop of its own.
 */
#ifndef AEGIS_CONTROL_FIRST_ANSWER_H
#define AEGIS_CONTROL_FIRST_ANSWER_H

#include "config/config.h"

struct watch;

struct first_answer {
	const struct endpoint *endpoint;
	int error; /* of getaddrinfo(3), 0 = there are addresses */
	size_t n_addrs;
	struct addr addrs[SERVER_MAX_ADDRESSES];
	struct watch *watch; /* for first_answers() itself */
};

/* Fill in all answers, of which the endpoints are set; one that is an address is its own answer. Returns when each name was answered or has
 * failed. */
void first_answers(const struct config *config, struct first_answer *answers, size_t n);

#endif
