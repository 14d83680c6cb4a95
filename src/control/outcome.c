#include "control/outcome.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "shm/reasons.h"

/* Errors that every other server would have met, too. EADDRNOTAVAIL: all local ports are taken. */
static bool is_ours(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM || error == -ENOSPC ||
	       error == -EADDRNOTAVAIL || error == -ENONET;
}

static enum health_result result_of(int error)
{
	switch (error) {
	case -ECONNREFUSED:
	case -ENOENT: /* no such unix socket */
		return HEALTH_RESULT_REFUSED;
	case -ETIMEDOUT:
		return HEALTH_RESULT_TIMEOUT;
	case -ECONNRESET:
		return HEALTH_RESULT_RESET;
	default:
		return is_ours(error) ? HEALTH_RESULT_UNTRIED : HEALTH_RESULT_UNREACHABLE;
	}
}

void outcome_not_connected(struct outcome *outcome, int error)
{
	outcome->kind = is_ours(error) ? OUTCOME_UNABLE : OUTCOME_UNREACHABLE;
	outcome->result = result_of(error);
	outcome->detail = (uint32_t)-error;
	/* Only a unix socket says EAGAIN. */
	snprintf(outcome->reason, sizeof outcome->reason, "cannot connect: %s",
	        error == -EAGAIN ? "Its queue is full" : reason_connect_words(-error));
}
