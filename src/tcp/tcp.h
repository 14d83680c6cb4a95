/* All TCP sessions of a worker: what they share, how they are admitted, and how they are brought to an end.
 *
 * Process: a worker, which owns the one struct tcp.
 */
#ifndef AEGIS_TCP_TCP_H
#define AEGIS_TCP_TCP_H

#include "net/acceptor.h"
#include "relay/pipes.h"
#include "tcp/access.h"
#include "tcp/bandwidth.h"
#include "tcp/clerk.h"
#include "tcp/door.h"
#include "tcp/session.h"

struct tcp_listener {
	const struct listener_config *config;
	struct upstream *upstream;
	struct listener_row *row; /* this worker's counters */
	uint32_t shm_row;
	uint32_t limit; /* its connections over all workers */
	struct door door;
	struct bandwidth bandwidth;
	bool paced; /* its sessions have a struct pace */
};

struct tcp {
	struct loop *loop;
	struct shm *shm;
	uint32_t seat;
	struct shm_seat *seat_row;
	struct wheel wheel;
	struct loop_timer wheel_timer;
	uint64_t wheel_timer_ns; /* when it fires */
	struct conns conns;
	struct relay_engine engine;
	struct pipes pipes;
	struct slab sessions;
	struct slab reuses; /* as many; of zero size where no upstream has a pool */
	struct slab paces;  /* likewise; of zero size where no listener has bandwidth or min_rate */
	struct pools pools;
	struct lines lines;
	struct session *oldest, *newest;
	struct acceptor acceptor;
	struct tcp_listener *listeners;
	uint32_t n_listeners;
	struct upstream *upstreams;
	uint32_t n_upstreams;
	struct upstreams shared; /* by the upstreams */
	struct access_log access;
	struct log_gate pause_gate;
	struct recorder recorder;
	struct clerk clerk;       /* who answers questions about the sessions */
	void (*empty)(void *arg); /* called when the last session ended */
	void *empty_arg;
};

struct tcp_places {
	const uint32_t *listeners;      /* [listener]: row in shared memory */
	const uint32_t *upstreams;      /* [upstream]: row in shared memory */
	const uint32_t *const *servers; /* [upstream][server]: row in shared memory */
	const struct box *const *boxes; /* [upstream]: NULL, or [server]; NULL where nobody shares */
	const struct bells *bells;      /* of workers, one for each slot */
	const struct bells *log_bell;   /* of the control process */
	uint32_t workers;               /* of the generation */
	uint32_t generation;            /* its number */
};

/* How many hot connections the settings ask of a worker. */
uint32_t tcp_hot_most(const struct config *config);
/* How many descriptors a worker has for what is shared. */
uint32_t tcp_box_descriptors(const struct config *config);
/* What a connection of a client takes, and so many hot ones. */
uint64_t tcp_connection_bytes(const struct config *config);
uint64_t tcp_hot_bytes(uint32_t hot);

/* ring: NULL for the engine on epoll. capacity is the most sessions at a time, hot how many connections there may be beyond those of that
 * many sessions (hot ones may use the room of sessions too, until those need it), buffers how many buffers slow readers may hold, pipes how
 * many pipes there may be for splicing. sockets are those to accept from, their listener an index into the settings; the memory stays the
 * caller's. start turns the rotation of servers. 0 or a negative errno. */
must_check int tcp_init(struct tcp *tcp, struct loop *loop, struct ring *ring, const struct config *config, const struct tcp_places *places,
        struct shm *shm, uint32_t seat, uint32_t capacity, uint32_t hot, size_t buffers, unsigned pipes, uint32_t start,
        struct accept_socket *sockets, uint32_t n_sockets);
void tcp_fini(struct tcp *tcp);

/* Hot connections are of no use any more: close them, keep none. Before the ring goes away at the latest. */
void tcp_close_pools(struct tcp *tcp);

/* The master published the settings: see upstream_follow(). Before the first client. */
void tcp_published(struct tcp *tcp);

/* To be called before the loop sleeps: wake up for the next deadline. */
void tcp_before_sleep(struct tcp *tcp);

/* To be called about once a second: hear of servers that went down, though no client comes. */
void tcp_beat(struct tcp *tcp);

/* End up to count sessions in which nothing is under way and no byte passed for quiet_ns, the oldest first. Returns how many. */
uint32_t tcp_end_idle(struct tcp *tcp, uint32_t count, uint64_t quiet_ns, enum reason reason);
void tcp_end_all(struct tcp *tcp, enum reason reason);

static inline uint32_t tcp_active(const struct tcp *tcp)
{
	return (uint32_t)tcp->sessions.in_use;
}

/* For session.c. */
bool tcp_reserve(struct tcp *tcp, const struct tcp_listener *listener, enum reason *why_not);
void tcp_release(struct tcp *tcp, const struct tcp_listener *listener);
bool tcp_make_room(struct tcp *tcp); /* close some hot connections; false when there are none */
void tcp_forget(struct tcp *tcp, struct session *session);

#endif
