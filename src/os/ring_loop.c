#include "os/ring_loop.h"

#include <poll.h>

static void on_woke(void *arg)
{
	struct ring_loop *ring_loop = arg;
	loop_woke(ring_loop->loop);
}

static void on_wait(void *arg, bool sleep)
{
	struct ring_loop *ring_loop = arg;
	int error = ring_wait(ring_loop->ring, sleep ? -1 : 0, on_woke, ring_loop);
	if (error < 0)
		ring_loop->lost(error);
}

static void poll_loop(struct ring_loop *ring_loop)
{
	ring_poll(ring_loop->ring, &ring_loop->port, loop_poll_fd(ring_loop->loop), POLLIN, true);
}

/* The loop's own descriptors have something. */
static void on_loop_ready(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	struct ring_loop *ring_loop = container_of(port, struct ring_loop, port);
	(void)op;
	(void)result;
	(void)buffer;
	loop_poll_ready(ring_loop->loop);
	if (!(flags & RING_MORE))
		poll_loop(ring_loop);
}

void ring_loop_join(struct ring_loop *ring_loop, struct loop *loop, struct ring *ring, ring_loop_lost_fn *lost)
{
	*ring_loop = (struct ring_loop){ .loop = loop, .ring = ring, .port.fn = on_loop_ready, .lost = lost };
	poll_loop(ring_loop);
	loop_set_waiter(loop, on_wait, ring_loop);
}
