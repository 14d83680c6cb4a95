/* What bandwidth and min_rate of its listener mean for a session: its two lanes, and the guard against slow clients.
 *
 * Process: a worker. Owner: the session; from a slab of its own, since sessions of other listeners have none. A session with a limited
 * bandwidth has a shaped relay (relay/relay.h); min_rate alone leaves the relay as it is.
 */
#ifndef AEGIS_TCP_PACE_H
#define AEGIS_TCP_PACE_H

#include "tcp/bandwidth.h"
#include "tcp/client_guard.h"

struct session;

struct pace {
	struct lane from[2]; /* [enum side] */
	struct client_guard guard;
};

/* Do sessions of such a listener have one? */
static inline bool pace_is_wanted(const struct listener_config *config)
{
	return config->bandwidth.up_bytes_per_s || config->bandwidth.down_bytes_per_s || config->min_rate_bytes_per_s;
}

/* The relay is about to begin, perhaps not for the first time. */
void pace_begin(struct session *session);
/* The session ends. */
void pace_end(struct session *session);

/* Out of the relay, of sessions that have a pace: see struct relay_session_ops. */
size_t pace_allow(struct relay *relay, enum side from);
void pace_bytes(struct session *session, enum side from, size_t count);

/* Does a side have something for the other one that is not read because of bandwidth? Then nobody is silent: time stands still for idle and
 * read timeouts. */
must_check bool pace_holds_back(const struct session *session, enum side from);

/* When pace_is_too_slow() and pace_resumes() want to be asked; WHEEL_NEVER. */
must_check uint64_t pace_due_ns(const struct session *session);
/* Is the client slower than min_rate? */
must_check bool pace_is_too_slow(struct session *session);
/* Is a pause over, so that relay_resume() is due? */
must_check bool pace_resumes(struct session *session);

#endif
