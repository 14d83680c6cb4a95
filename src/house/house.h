/* What all sessions of a worker share, of whatever kind: the servers, the limits, who is there, and what is told about them.
 *
 * Process: a worker, which owns the one struct house. The kinds of sessions (tcp, udp) use it, and know nothing of each other.
 */
#ifndef AEGIS_HOUSE_HOUSE_H
#define AEGIS_HOUSE_HOUSE_H

#include "house/access.h"
#include "house/clerk.h"
#include "house/visit.h"
#include "tls/tls.h"

struct house {
	struct loop *loop;
	struct shm *shm;
	uint32_t seat;
	struct shm_seat *seat_row;
	struct conns conns; /* of stream sockets */
	struct pools pools;
	struct lines lines;
	struct line_ops line_ops;
	struct upstream *upstreams; /* [n_upstreams], as in the settings */
	uint32_t n_upstreams;
	struct upstreams shared; /* by the upstreams */
	struct visit *oldest, *newest;
	uint32_t n_visits;
	struct tls *tls; /* of the worker, which owns it; NULL: nothing here needs TLS */
	struct access_log access;
	struct recorder recorder;
	struct clerk clerk;       /* who answers questions about the sessions */
	void (*empty)(void *arg); /* called when the last session ended */
	void *empty_arg;
};

/* Where in shared memory, and what else a worker inherits. */
struct house_places {
	const uint32_t *listeners;      /* [listener]: row in shared memory */
	const uint32_t *upstreams;      /* [upstream]: row in shared memory */
	const uint32_t *const *servers; /* [upstream][server]: row in shared memory */
	const struct box *const *boxes; /* [upstream]: NULL, or [server]; NULL where nobody shares */
	const struct bells *bells;      /* of workers, one for each slot */
	const struct bells *log_bell;   /* of the control process */
	uint32_t workers;               /* of the generation */
	uint32_t generation;            /* its number */
};

/* How many stream connections a worker makes room for, hot ones and those of sessions together. */
struct house_room {
	size_t conns;
	uint32_t hot; /* the most hot ones, */
	size_t spare; /* which leave so many for others */
};

/* How many hot connections the settings ask of a worker, without what is to spare. */
uint32_t house_hot_most(const struct config *config);
/* How many descriptors a worker has for what is shared. */
uint32_t house_box_descriptors(const struct config *config);

/* ring: NULL for the engine on epoll. serve: see struct line_ops. start turns the rotation of servers. 0 or a negative errno. */
must_check int house_init(struct house *house, struct loop *loop, struct ring *ring, const struct config *config,
        const struct house_places *places, struct shm *shm, uint32_t seat, const struct house_room *room, uint32_t start,
        void (*serve)(struct line *line, struct waiter *waiter, uint64_t *due_ns));
/* When all sessions have ended. */
void house_fini(struct house *house);

/* A listener of the settings. 0 or a negative errno. */
must_check int entrance_init(struct entrance *entrance, struct house *house, const struct visit_kind *kind,
        const struct listener_config *config, uint32_t shm_row);
/* One that was zeroed may be given, too. */
void entrance_fini(struct entrance *entrance);

/* The master published the settings: see upstream_follow(). Before the first client. */
void house_published(struct house *house);
/* To be called about once a second: hear of servers that went down, though no client comes. */
void house_beat(struct house *house);
/* To be called before the loop sleeps. True when there is more to be done in the next turn. */
must_check bool house_before_sleep(struct house *house);
/* Hot connections are of no use any more: close them, keep none. Before the ring goes away at the latest. */
void house_close_pools(struct house *house);

/* A place within max_connections, of all listeners and of this one. False with *why_not. */
must_check bool house_reserve(const struct entrance *entrance, enum reason *why_not);
void house_release(const struct entrance *entrance);

/* A session begins: it is one of all, and has its serial. entrance is set. */
void house_enter(struct house *house, struct visit *visit);
/* It ends; tells when it was the last one. Its memory is the caller's. */
void house_leave(struct house *house, struct visit *visit);

/* For the log, at its level debug. */
void house_log_end(const struct visit *visit, enum reason reason);
/* The server of the session could not be reached; text says more than the errno, or NULL; last: it is not tried again. */
void house_log_connect_failure(const struct visit *visit, int error, const char *text, bool last);

/* End up to count sessions in which nothing is under way and no byte passed for quiet_ns, the oldest first. Returns how many. */
uint32_t house_end_idle(struct house *house, uint32_t count, uint64_t quiet_ns, enum reason reason);
void house_end_all(struct house *house, enum reason reason);

/* The server's row in shared memory. */
static inline uint32_t house_server_row(const struct house *house, const struct server *server)
{
	return (uint32_t)(server->shared - house->shm->servers);
}

#endif
