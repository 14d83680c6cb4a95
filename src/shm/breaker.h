/* The circuit breaker of one server, shared by all workers.
 *
 *   CLOSED     everybody passes. error_threshold failures in a row, whoever has them, open it; a success sets the count to 0.
 *   OPEN       nobody passes until timeout is over. The first who asks then begins a round:
 *   HALF_OPEN  exactly `probes` connections are let through. That many successes close it; the first failure opens it again. When a
 *              probe is not answered within timeout after the last one was taken (its worker was killed, or it hangs) the round has
 *              failed, and who asks next begins another one at once.
 *
 * Process:  workers ask and report, everybody may look. A worker may be killed at any instruction: what it leaves behind is a count that
 *           is as if it had not come so far, or a probe that is never answered.
 * Memory:   in the shared segment, all zero = closed. Nothing has to be undone after a reload; limits are an argument, and may change
 *           between any two calls.
 * Epoch:    a number that changes with each change of state and each round. A pass carries it; what is reported late, for a former
 *           epoch, changes nothing.
 */
#ifndef AEGIS_SHM_BREAKER_H
#define AEGIS_SHM_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define BREAKER_STATES(X)   \
	X(CLOSED, "closed") \
	X(OPEN, "open")     \
	X(HALF_OPEN, "half-open")

enum breaker_state {
#define X(id, name) BREAKER_##id,
	BREAKER_STATES(X)
#undef X
	        N_BREAKER_STATES
};

enum breaker_verdict { BREAKER_REFUSE, BREAKER_PASS, BREAKER_PROBE };

enum { BREAKER_COUNT_MAX = UINT16_MAX };

struct breaker {
	_Atomic uint64_t round;    /* state, epoch and counts: see breaker.c */
	_Atomic uint64_t since_ns; /* when it opened, or when the last probe was taken */
	_Atomic uint64_t trips;    /* times it opened, and rounds that were not answered; one may be missing for each kill */
};

struct breaker_limits {
	uint32_t error_threshold; /* 0 = off: everybody passes, nothing counts */
	uint32_t probes;          /* 0 is as 1; beyond BREAKER_COUNT_MAX is as that, as for error_threshold */
	uint64_t timeout_ns;
};

/* What a connection was let through with; all zero = with nothing. */
struct breaker_pass {
	enum breaker_verdict verdict;
	uint32_t epoch;
};

const char *breaker_state_name(enum breaker_state state);

/* May one connection be opened? Unless refused, *pass goes to breaker_report() or breaker_abandon(). */
must_check enum breaker_verdict breaker_ask(
        struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns, struct breaker_pass *pass);

/* How it went. Takes the pass: a second report of it changes nothing. True when the state changed. */
bool breaker_report(struct breaker *breaker, const struct breaker_limits *limits, struct breaker_pass *pass, bool ok, uint64_t now_ns);

/* The client left before there was an outcome: another connection gets the probe. Takes the pass. True when one was given back. */
bool breaker_abandon(struct breaker *breaker, struct breaker_pass *pass);

/* What breaker_ask() would say, without taking anything. */
must_check enum breaker_verdict breaker_look(const struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns);

/* When a breaker that refuses now stops doing so without anyone's report; UINT64_MAX when it does not refuse. */
must_check uint64_t breaker_due_ns(const struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns);

must_check enum breaker_state breaker_state(const struct breaker *breaker);

/* Close it. trips stay. */
void breaker_reset(struct breaker *breaker);

#endif
