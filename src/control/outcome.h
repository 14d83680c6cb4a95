/* How an attempt to check a server ended, and why, for programs and for people. */
#ifndef AEGIS_CONTROL_OUTCOME_H
#define AEGIS_CONTROL_OUTCOME_H

#include "proto/probe.h"
#include "shm/health.h"

enum outcome_kind {
	OUTCOME_GOOD,
	OUTCOME_BAD,
	OUTCOME_UNREACHABLE, /* no connection: the server may be reached at another of its addresses */
	OUTCOME_UNABLE       /* for want of something of ours (descriptors, memory, ports): says nothing of the server */
};

struct outcome {
	enum outcome_kind kind;
	enum health_result result;
	uint32_t detail;                /* the status, the errno or 0 */
	char reason[PROBE_REASON_SIZE]; /* printable */
};

/* The connection failed with this negative errno: UNREACHABLE or UNABLE. */
void outcome_not_connected(struct outcome *outcome, int error);

typedef void outcome_fn(void *arg, const struct outcome *outcome);

#endif
