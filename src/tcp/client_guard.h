/* Ends clients that are slow on purpose (min_rate): who sends a request a few bytes at a time, or does not read what it asked for.
 *
 * Process: a worker; part of the sessions of listeners that set min_rate. Decisions only: no I/O, no clock; the windows are those of
 * struct rate_guard in policy/shaper.h. What counts:
 *   up    from the first byte that the client sends until the server says something. A client that is silent for CLIENT_GUARD_SILENCE_NS
 *         is taken for one that has asked and waits: time beyond that does not count, whatever the server takes for its answer.
 *   down  while something that was sent to the client more than CLIENT_GUARD_MARK_NS ago is not taken (not acknowledged by its kernel).
 *         Whoever keeps up with what there is, however little that is, is not slow.
 * Time in which Aegis itself did not read from the client, because its server does not keep up or because of bandwidth, does not count.
 */
#ifndef AEGIS_TCP_CLIENT_GUARD_H
#define AEGIS_TCP_CLIENT_GUARD_H

#include "policy/shaper.h"

#define CLIENT_GUARD_SILENCE_NS RATE_GUARD_WINDOW_NS
#define CLIENT_GUARD_MARK_NS NS_PER_S

struct client_guard {
	struct rate_guard up, down;
	uint64_t said_ns;  /* the last byte of the client */
	uint64_t sent;     /* bytes to the client, from the beginning, */
	uint64_t sent_ns;  /* and when the last of them came */
	uint64_t taken;    /* of these, as seen last */
	uint64_t marks[2]; /* what sent was at two earlier times, the newer one first */
	uint64_t marked_ns;
	bool held_back; /* the client was not read all the time */
};

/* What the guard has to know of a connection when it is asked. */
struct client_state {
	uint64_t untaken; /* bytes for the client that its kernel has not acknowledged, wherever they are */
	bool blocked;     /* its server does not take what it sent */
	bool finished;    /* it has ended its side */
};

void client_guard_init(struct client_guard *guard);
/* The client sent bytes. */
void client_guard_up(struct client_guard *guard, uint64_t bytes, uint64_t now_ns);
/* The client was not read on purpose. */
static inline void client_guard_held_back(struct client_guard *guard)
{
	guard->held_back = true;
}
/* Does client_guard_down() want to know the state? */
static inline bool client_guard_marks(const struct client_guard *guard, uint64_t now_ns)
{
	return now_ns - guard->marked_ns >= CLIENT_GUARD_MARK_NS;
}
/* The server said something, which will be sent to the client next. state: NULL where it is not wanted. */
void client_guard_down(struct client_guard *guard, uint64_t bytes, const struct client_state *state, uint64_t now_ns);
/* When to ask client_guard_slow(); RATE_GUARD_NEVER. */
must_check uint64_t client_guard_due_ns(const struct client_guard *guard);
/* At that time: is the client too slow? */
must_check bool client_guard_slow(struct client_guard *guard, uint64_t min_rate, const struct client_state *state, uint64_t now_ns);

#endif
