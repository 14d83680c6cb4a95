/* An event loop that waits by a ring: for its own descriptors and for what the ring does, in one system call.
 *
 * Process: a worker. Owner: it stays where it is for as long as the loop runs; the loop and the ring are the caller's.
 */
#ifndef AEGIS_OS_RING_LOOP_H
#define AEGIS_OS_RING_LOOP_H

#include "os/loop.h"
#include "os/ring.h"

/* The ring is of no use any more, for this reason (a negative errno), and the loop with it: must not return. */
typedef void ring_loop_lost_fn(int error);

struct ring_loop {
	struct loop *loop;
	struct ring *ring;
	struct ring_port port;
	ring_loop_lost_fn *lost;
};

/* From here on the loop waits so. */
void ring_loop_join(struct ring_loop *ring_loop, struct loop *loop, struct ring *ring, ring_loop_lost_fn *lost);

#endif
