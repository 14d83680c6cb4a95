/* How one server stands: whether it gets new connections at this moment, and what speaks for or against it, as plain numbers.
 *
 * Process: aegis-stat, from a copy of the segment in which nothing is trusted, and the control process. It judges by the same functions as
 * the workers (shm/condition.h), and by the settings that the master wrote beside the upstream. What only a worker knows, a connection that
 *          has not been reported yet, is not in it.
 */
#ifndef AEGIS_VIEW_STANDING_H
#define AEGIS_VIEW_STANDING_H

#include "shm/layout.h"

/* In one word; of several that hold the last one of this list. */
#define STANDINGS(X)                              \
	X(UNKNOWN, "unknown")                     \
	X(UP, "up")                               \
	X(SLOW_START, "slow start")               \
	X(BREAKER_HALF_OPEN, "breaker half-open") \
	X(BREAKER_OPEN, "breaker open")           \
	X(EJECTED, "ejected")                     \
	X(DOWN, "down")                           \
	X(DRAINING, "draining")                   \
	X(DISABLED, "disabled")

enum standing_state {
#define X(id, name) STANDING_##id,
	STANDINGS(X)
#undef X
};

#define STANDING_NEVER UINT64_MAX

struct standing {
	enum standing_state state; /* unknown: nothing speaks against it, and nobody checks it or has come to an end yet */
	bool is_usable;            /* it may get a new connection */
	uint32_t weight_now;
	uint32_t slow_start_percent; /* of its weight; 100 when it is not starting slowly */
	/* checks: of an upstream without them all but the counts are unknown */
	bool is_checked;
	enum health_state health;
	struct health_check last;
	uint64_t checked_ago_ns; /* STANDING_NEVER = never; the same for those below */
	uint64_t health_changed_ago_ns;
	uint64_t checks_passed, checks_failed;
	/* what connections met with */
	enum breaker_state breaker;
	uint64_t trips;
	uint64_t ejected_for_ns; /* how long still; 0 = not ejected */
	uint32_t ejections;
	uint64_t recovered_ago_ns;
	enum override_mode override;
};

const char *standing_name(enum standing_state state);

/* upstream may be NULL: a row that is gone. */
void standing_make(struct standing *out, const struct shm_server *server, const struct shm_upstream *upstream, uint64_t now_ns);

#endif
