/* What the files of a worker share: worker.c (from fork to exit), orders.c (what the master says) and drain.c. See worker.h. */
#ifndef AEGIS_WORKER_OWN_H
#define AEGIS_WORKER_OWN_H

#include "os/ring_loop.h"
#include "tcp/tcp.h"
#include "udp/udp.h"
#include "worker/lines.h"
#include "worker/message.h"
#include "worker/room.h"
#include "worker/worker.h"

struct worker {
	const struct worker_args *args;
	struct shm_seat *seat;
	struct loop *loop;
	struct lines_out lines;
	struct tls *tls;
	struct house house;
	struct tcp tcp;
	struct udp udp;
	struct accept_socket *sockets;
	uint32_t n_sockets;
	struct udp_place *udp_sockets;
	uint32_t n_udp_sockets;
	struct worker_room room;
	struct loop_io channel_io;
	struct loop_timer beat;
	struct loop_timer pace;
	struct loop_timer deadline;
	uint32_t pace_per_s;
	uint32_t pace_credit; /* what is less than a connection */
	bool draining;
	bool empty;        /* the last session ended in this turn */
	struct ring *ring; /* NULL: the engine is epoll */
	struct ring_loop ring_loop;
	struct ring_port channel_port;
};

/* To the master. */
void worker_say(struct worker *worker, enum message kind, uint32_t value);
/* For ps(1): what it does, and how many sessions it has. */
void worker_set_title(const struct worker *worker, const char *doing);

/* The master has something to say, or is gone. */
void worker_on_channel(struct loop_io *io, int events);

/* Accept no more, and end when the last session has: idle ones at pace_per_s (0 = not before their time), all when timeout_ns is over (0 =
 * never). refuse: nobody goes on with the sockets. May be said again, with another pace and timeout. */
void worker_drain(struct worker *worker, bool refuse, uint32_t pace_per_s, uint64_t timeout_ns);
/* Stop the loop if it drains and nothing is left to do. */
void worker_end_when_done(struct worker *worker);
/* For the house: the last session has ended. And for the timers of drain.pace and drain.timeout. */
void worker_on_empty(void *arg);
void worker_on_pace(struct loop_timer *timer);
void worker_on_drain_overdue(struct loop_timer *timer);

#endif
