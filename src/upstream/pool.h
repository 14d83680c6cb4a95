/* Hot connections to one server: established before a client comes.
 *
 * Process: a worker; one pool per server per worker, for upstreams that have `pool` set. struct pools is what they share.
 * States:  DIALLING -> WARM (never used) -> taken; given back -> KEPT (used, and proven to owe nothing) -> taken ... A list for each
 *          state; move() is the only mover.
 * Owner:   the pool owns the connections in its lists, and with each one a place in the server's limit. pool_take() passes both to the
 *          caller, pool_give_back() to the pool: neither is a system call.
 *
 * With `share`, idle ones are also left to the other workers (pool_share.c). By completion one must come to rest first: KEPT -> LEAVING ->
 * in the box.
 *
 * While one waits, its events are heard: whatever is not right ends it. Right is silence; a server that speaks first, before any client
 * (framing = "none" and never used), may do so: who takes the connection gets that.
 *
 * Hot connections never stand in the way of clients: pools_evict() makes room.
 */
#ifndef AEGIS_UPSTREAM_POOL_H
#define AEGIS_UPSTREAM_POOL_H

#include "base/log.h"
#include "net/conn.h"
#include "shm/condition.h"
#include "shm/limit.h"
#include "upstream/box.h"

struct pool;
struct server;

enum hot_state { HOT_DIALLING, HOT_WARM, HOT_KEPT, HOT_LEAVING, N_HOT_STATES };

struct hot {
	struct pool *pool;
	struct conn *conn;
	struct hot *newer, *older;
	uint64_t since_ns;   /* in this state */
	uint64_t sent_bytes; /* to the server, by all clients so far */
	enum hot_state state;
	struct breaker_pass pass; /* while HOT_DIALLING */
};

struct hot_list {
	struct hot *newest, *oldest;
	uint32_t n;
};

struct pool {
	struct pools *pools;
	struct pool *next; /* of all */
	struct pool *next_due;
	struct server *server;
	const struct upstream_config *config;
	const struct condition_rules *rules;
	struct hot_list lists[N_HOT_STATES];
	uint32_t own_keep;     /* of the kept ones, so many in this worker, */
	uint32_t box_keep;     /* and so many in the box of all, */
	const struct box *box; /* NULL = none */
	struct shm_server *shared_row;
	uint32_t addresses[SERVER_MAX_ADDRESSES]; /* hashes of the server's, */
	uint32_t addresses_version;               /* and which ones; 0 = not hashed yet */
	bool due;                                 /* linked by next_due: looks for room to dial before the loop sleeps */
	uint64_t retry_ns;                        /* no dialling before this */
	uint64_t backoff_ns;                      /* 0 = the last attempt was good */
	struct log_gate gate;
};

/* What all pools of a worker share. */
struct pools {
	struct loop *loop;
	struct conns *conns;
	struct shm *shm;
	uint32_t seat;
	uint32_t workers; /* of the generation */
	struct slab hots;
	size_t spare; /* so many connections of conns are for clients */
	struct pool *all;
	struct pool *due;
	struct loop_timer beat;
	bool closed; /* takes nothing in any more */
};

/* workers: how many share what is shared. most: how many hot connections there may be, all pools together; spare: how many more connections
 * the pools leave free. 0 or a negative errno. */
must_check int pools_init(struct pools *pools, struct loop *loop, struct conns *conns, struct shm *shm, uint32_t seat, uint32_t workers,
        uint32_t most, size_t spare);
void pools_fini(struct pools *pools);
/* Close all that is in pools, for good: the worker drains or ends. */
void pools_close(struct pools *pools);
/* Close up to count connections that wait for a client, the oldest of each pool in turn. Returns how many. */
uint32_t pools_evict(struct pools *pools, uint32_t count);
/* To be called before the loop sleeps: dial what is missing. */
void pools_before_sleep(struct pools *pools);

/* Close one that waits for a client, or for the server, of which a place is needed. False when there is none. */
must_check bool pool_evict(struct pool *pool);

/* How many there may be in the pools of a worker. */
uint32_t pool_most(const struct upstream_config *config);
/* Begin to keep warm ones for a server. shared_row is the server's; box may be NULL. */
void pool_init(struct pool *pool, struct pools *pools, struct server *server, const struct upstream_config *config,
        const struct condition_rules *rules, struct shm_server *shared_row, const struct box *box);

/* How many of the server's places it holds; and those in the box, which are nobody's. */
static inline uint32_t pool_holds(const struct pool *pool)
{
	uint32_t count = 0;
	for (enum hot_state state = 0; state < N_HOT_STATES; state++)
		count += pool->lists[state].n;
	return count;
}

static inline uint32_t pool_boxed(const struct pool *pool)
{
	return pool->box ? atomic_load_explicit(&pool->shared_row->boxed, memory_order_relaxed) : 0;
}

/* A connection that was taken. */
struct hot_conn {
	struct conn *conn;
	uint64_t sent_bytes;
	bool used; /* another client had it before */
};
/* Take one, with its place in the server's limit. False when none is there. */
must_check bool pool_take(struct pool *pool, struct hot_conn *out);
/* Would the pool take one back now? */
bool pool_wants(const struct pool *pool);
/* Give back one that owes nothing, with its place. False when the pool has no place: then it stays the caller's. */
must_check bool pool_give_back(struct pool *pool, const struct hot_conn *hot);

/* What can be seen of a connection on which nothing is expected. */
enum hot_look { HOT_QUIET, HOT_SPOKE, HOT_ENDED };
/* Looks into the socket: one system call. */
enum hot_look hot_look(struct conn *conn);

#endif
