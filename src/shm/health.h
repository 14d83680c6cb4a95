/* The health of one server as active checks see it.
 *
 * The first result ever decides at once, whichever it is: a server that is dead at the start gets no connection, one that lives need not
 * wait. After that it is down after `fall` failures in a row, and up after `rise` successes in a row. A check that said nothing about the
 * server (its name could not be resolved, the checker had no descriptor) is recorded and judges nothing.
 *
 * Process:  written by the control process only, read by all. It may be killed at any instruction, the next one goes on: the state
 *           and how far it is from changing are one word.
 * Memory:   in the shared segment, all zero = unknown, never checked. Unknown counts as usable.
 */
#ifndef AEGIS_SHM_HEALTH_H
#define AEGIS_SHM_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define HEALTH_STATES(X)      \
	X(UNKNOWN, "unknown") \
	X(UP, "up")           \
	X(DOWN, "down")

enum health_state {
#define X(id, name) HEALTH_##id,
	HEALTH_STATES(X)
#undef X
	        N_HEALTH_STATES
};

enum health_effect { HEALTH_JUDGES_NOTHING, HEALTH_SUCCEEDED, HEALTH_FAILED };

/* X(id, effect, text) */
#define HEALTH_RESULTS(X)                                           \
	X(NONE, JUDGES_NOTHING, "not checked")                      \
	X(OK, SUCCEEDED, "ok")                                      \
	X(TIMEOUT, FAILED, "no answer in time")                     \
	X(REFUSED, FAILED, "connection refused")                    \
	X(RESET, FAILED, "connection reset")                        \
	X(UNREACHABLE, FAILED, "unreachable")                       \
	X(CLOSED, FAILED, "closed without an answer")               \
	X(STATUS, FAILED, "status not as expected")                 \
	X(ANSWER, FAILED, "answer not as expected")                 \
	X(TLS, FAILED, "TLS handshake failed")                      \
	X(UNRESOLVED, JUDGES_NOTHING, "name could not be resolved") \
	X(UNTRIED, JUDGES_NOTHING, "check could not be started")

enum health_result {
#define X(id, effect, text) HEALTH_RESULT_##id,
	HEALTH_RESULTS(X)
#undef X
	        N_HEALTH_RESULTS
};

/* Of HEALTH_RESULT_TLS: what was wrong. X(id, text) */
#define HEALTH_TLS_FAULTS(X)                                   \
	X(UNKNOWN, "")                                         \
	X(EXPIRED, "certificate expired")                      \
	X(NOT_YET, "certificate not valid yet")                \
	X(NAME, "certificate for another name")                \
	X(ISSUER, "certificate by nobody who is trusted")      \
	X(REVOKED, "certificate revoked")                      \
	X(LIST, "no revocation list in force")                 \
	X(CERTIFICATE, "certificate not good")                 \
	X(NOT_TLS, "no TLS spoken")                            \
	X(VERSION, "no version in common")                     \
	X(NO_COMMON, "no cipher, group or protocol in common") \
	X(ENDED, "connection ended")                           \
	X(PROTOCOL, "rules broken")                            \
	X(DECLINED, "PostgreSQL declines TLS")

enum health_tls_fault {
#define X(id, text) HEALTH_TLS_##id,
	HEALTH_TLS_FAULTS(X)
#undef X
	        N_HEALTH_TLS_FAULTS,
	HEALTH_TLS_ALERT = 256 /* and more: the server said so by the alert with this number (RFC 8446, section 6) */
};

/* One check. */
struct health_check {
	enum health_result result;
	uint32_t detail;     /* the status, the errno, enum health_tls_fault or 0; at most 24 bits are kept */
	uint64_t latency_ns; /* kept in microseconds, up to an hour */
};

struct health_verdict {
	enum health_state state;
	uint32_t against; /* results in a row that speak against it */
};

struct health_limits {
	uint32_t rise; /* 0 is as 1 */
	uint32_t fall;
};

struct health {
	_Atomic uint64_t verdict;        /* state, against: see health.c */
	_Atomic uint64_t last;           /* the last check */
	_Atomic uint64_t checked_ns;     /* when that was over; 0 = never */
	_Atomic uint64_t changed_ns;     /* when the state last changed; 0 = never */
	_Atomic uint64_t passed, failed; /* checks, ever */
};

const char *health_state_name(enum health_state state);
const char *health_result_text(enum health_result result);
enum { HEALTH_WHY_SIZE = 80 };
/* What the detail tells besides the result: "503", "certificate expired"; "" = nothing. Returns out. */
const char *health_check_why(const struct health_check *check, char *out, size_t size);
enum health_effect health_result_effect(enum health_result result);

/* The verdict after one more result. */
must_check struct health_verdict health_judge(struct health_verdict verdict, const struct health_limits *limits, bool ok);

must_check struct health_verdict health_verdict(const struct health *health);
must_check enum health_state health_state(const struct health *health);

/* The last check; HEALTH_RESULT_NONE when there was none. */
void health_last(const struct health *health, struct health_check *out);

/* The state that this check would lead to. */
must_check enum health_state health_would_become(
        const struct health *health, const struct health_limits *limits, const struct health_check *check);

/* Record a check. Control process only. */
void health_note(struct health *health, const struct health_limits *limits, const struct health_check *check, uint64_t now_ns);

/* Unknown again: for a server that is no longer checked, or has another address. The counts stay. Control process only. */
void health_forget(struct health *health);

#endif
