/* Bells: waking a process out of its sleep, from any other one, without a message and without ever waiting.
 *
 * Process: the master makes them before it forks; whoever inherits them may ring and listen.
 * A bell is an eventfd that nobody reads: each ring is an edge for every loop that watches it edge-triggered (LOOP_READ | LOOP_EDGE), so
 * that several processes may listen to one bell, and no ring is lost to a process that died with it. Rings that come before the loop
 * looks are one.
 */
#ifndef AEGIS_OS_BELL_H
#define AEGIS_OS_BELL_H

#include <stdint.h>

#include "base/attr.h"

struct bells {
	int *fds; /* [n] */
	uint32_t n;
};

/* 0 or a negative errno. */
must_check int bells_open(struct bells *out, uint32_t n);
/* The n-th one, made by another master: 0 and it is ours, or -ENOMEM. */
must_check int bells_add(struct bells *bells, int fd);
/* In a forked child, too: its copies. What is all zero may be closed. */
void bells_close(struct bells *bells);

/* which is counted around: there is always one. */
int bell_fd(const struct bells *bells, uint32_t which);
void bell_ring(const struct bells *bells, uint32_t which);
void bells_ring_all(const struct bells *bells);

#endif
