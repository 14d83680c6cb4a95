/* A group of servers, as a worker sees it, and the choice among them.
 *
 * Process: a worker; one struct upstream per upstream of the settings. What holds over all workers (connections per server, health,
 *          breaker, ejection, affinity) is in shared memory.
 * Owner:   whoever takes a server holds one of its connections until upstream_give_back(), and owes an answer: upstream_report() or
 *          upstream_abandon().
 */
#ifndef AEGIS_UPSTREAM_UPSTREAM_H
#define AEGIS_UPSTREAM_UPSTREAM_H

#include "base/log.h"
#include "config/config.h"
#include "policy/balance.h"
#include "shm/addresses.h"
#include "shm/condition.h"
#include "shm/limit.h"
#include "shm/rate.h"
#include "shm/recorder.h"
#include "upstream/line.h"
#include "upstream/pool.h"

/* The addresses of a host name, in this worker's own memory. Of the two sets the one that was in use until now is not touched: what is
 * being dialled may be in it. */
struct server_name {
	const struct addresses *shared;
	uint32_t sequence; /* of shared, when it was last read */
	uint32_t set;      /* that is in use */
	struct addr sets[2][ADDRESSES_MOST];
};

struct server {
	const struct server_config *config;
	struct upstream *upstream;
	const struct shm_server *shared; /* its settings, as far as they may change in place; and as they are now: */
	uint32_t weight, soft_limit;
	bool disabled;
	struct server_row *row; /* this worker's counters */
	uint32_t limit;         /* its connections over all workers */
	const struct addr *addrs;
	size_t n_addrs;
	uint32_t next_addr;       /* of addrs: moves on when one fails */
	struct server_name *name; /* that the addresses come from; NULL = they stay */
	struct pool *pool;        /* of connections that are ready; NULL = none */
	struct condition *condition;
	enum usability usability; /* when conditions were last looked at; and so the following */
	bool is_down;             /* says its health */
	bool fell;                /* and its sessions are to be ended, which nobody did yet, */
	bool leaving;             /* or someone does now */
	struct log_gate gate;
};

struct upstream {
	const struct upstream_config *config;
	struct upstreams *all;
	struct shm *shm;
	uint32_t seat;
	uint32_t row;
	struct upstream *next_busy;
	bool busy;            /* linked by next_busy */
	uint64_t addressless; /* state of a generator of keys */
	uint64_t searched_ns; /* one after the other, in vain */
	uint32_t search_at;
	struct condition_rules rules;
	struct ejection **members;       /* of rules.group */
	uint64_t seen_epoch;             /* of rules.epoch, when conditions were last looked at */
	uint64_t due_ns;                 /* when to look again in any case */
	uint32_t n_usable;               /* servers */
	uint32_t weight_scale;           /* of the weights of the entries */
	uint8_t unusable[N_USABILITIES]; /* servers by why they cannot be used; UINT8_MAX is as many or more */
	bool any;                        /* none is usable, and when_all_down = "any" */
	struct line line;
	bool has_line;                 /* clients may have to wait in it */
	struct rate *connect_rate;     /* of new connections to its servers, over all workers, */
	struct rate_limit connect_max; /* and the most */
	struct balance balance;
	struct balance_entry *entries;
	struct balance_name *by_name; /* with affinity, or where it was asked for: the servers by the hash of their names */
	struct server *servers;       /* [config->n_servers] */
	struct pool *pools;           /* [config->n_servers], or NULL */
	struct record_choice last;    /* how the last upstream_take() went: for the flight recorder */
};

/* What all upstreams of a worker share. */
struct upstreams {
	struct shm *shm;
	uint32_t seat;
	uint32_t start; /* turns the rotation of servers */
	struct pools *pools;
	struct lines *lines;   /* NULL: nobody ever waits */
	struct upstream *busy; /* those that have a table to make */
	bool fell;             /* some server->fell */
	bool published;        /* the settings that this worker was forked with, or later ones, are in shared memory */
};

/* Where things are in shared memory. */
struct upstream_places {
	uint32_t row;
	const uint32_t *servers; /* [config->n_servers]: rows */
	const struct box *boxes; /* NULL, or [config->n_servers], those of servers that share */
};

/* 0 or -ENOMEM. */
must_check int upstream_init(
        struct upstream *upstream, struct upstreams *all, const struct upstream_config *config, const struct upstream_places *places);
/* After pools_close(). */
void upstream_fini(struct upstream *upstream);

/* The master published the settings (upstreams.published is set by the caller): from here on those of the servers that can change in place
 * are followed in shared memory. */
void upstream_follow(struct upstream *upstream, uint64_t now_ns);
/* Look at the conditions of its servers if they changed: upstream_take() does it by itself, this is for one that nobody asks. */
void upstream_look(struct upstream *upstream, uint64_t now_ns);
/* Some server->fell (upstreams.fell): they are marked as `leaving`, and their hot connections closed. The caller ends their sessions; then
 * they are like others. */
void upstream_leave_fallen(struct upstream *upstream);
void upstream_left_fallen(struct upstream *upstream);
/* Do what is left over from changes, a piece of it. To be called once a turn; true when there is more to be done in the next one. */
must_check bool upstreams_work(struct upstreams *all);

/* Who wants a server. */
struct upstream_client {
	const struct sockaddr_in6 *peer; /* IPv4 or IPv6; all zero for a unix socket */
	const uint16_t *tried;           /* those that failed for this connection, no more than CONFIG_MAX_RETRIES + 1 */
	uint32_t n_tried;
	uint64_t now_ns;
	uint64_t name_hash; /* of the name that it asked for; 0 = none */
	uint32_t had;       /* the number of the server that it was with until now: that one, please; 0 = none */
	bool fresh;         /* no connection that was ready, please */
};

/* What it got. */
struct upstream_hold {
	struct server *server;
	struct breaker_pass pass; /* for upstream_report() or upstream_abandon() */
	struct hot_conn hot;      /* hot.conn is NULL where none was ready */
};

enum upstream_choice {
	UPSTREAM_TAKEN,
	UPSTREAM_FULL,  /* there are usable servers, and all are at their max_connections */
	UPSTREAM_LATER, /* one has a place, but none may be dialled before upstream_dial_ns() */
	UPSTREAM_NONE   /* no server is usable */
};

/* Choose a server and hold a connection of it. *out is set when one was taken. */
must_check enum upstream_choice upstream_take(struct upstream *upstream, const struct upstream_client *client, struct upstream_hold *out);
void upstream_give_back(struct upstream *upstream, struct server *server);

/* connect_rate: each new connection to a server takes one of what it allows. False when there is none; */
must_check bool upstream_may_dial(struct upstream *upstream, uint64_t now_ns);
/* and when there will be one: now_ns or later. */
must_check uint64_t upstream_dial_ns(const struct upstream *upstream, uint64_t now_ns);
/* The same with the connection itself, for another client. False when the pool has no place: it stays the caller's, as does the server. */
must_check bool upstream_keep(struct upstream *upstream, struct server *server, const struct hot_conn *hot);

/* How a connection to the server went, for breaker and outlier ejection: with the pass that came with it, once. Bad is one that could not
 * be made, or was reset before any byte came. Trouble of our own is not the server's, and an old connection that is stale not either: then,
 * and when the client left before it was known, upstream_abandon(). */
void upstream_report(struct upstream *upstream, struct server *server, struct breaker_pass *pass, bool ok, uint64_t now_ns);
void upstream_abandon(struct upstream *upstream, struct server *server, struct breaker_pass *pass);
/* Does it matter how connections go? */
static inline bool upstream_judges(const struct upstream *upstream)
{
	return upstream->rules.breaker.error_threshold > 0 || upstream->rules.outlier.failures > 0;
}

/* The client got its connection to the server: for affinity. */
void upstream_remember(struct upstream *upstream, const struct server *server, const struct upstream_client *client);
/* It did not. */
void upstream_forget(struct upstream *upstream, const struct server *server, const struct upstream_client *client);

/* For struct line_ops: close a connection that waits for a client. */
bool upstream_spare(struct line *line);
/* For the pools: a place at the server is free again. */
void upstream_free_place(struct server *server);

/* A number for a server that is the same in all workers, generations and masters; never 0. Two may share one. */
static inline uint32_t upstream_server_number(const struct upstream *upstream, const struct server *server)
{
	uint32_t number = (uint32_t)(upstream->entries[server - upstream->servers].name_hash >> 32);
	return number ? number : 1;
}

/* For choice.c and conditions.c: the balance has a table to make; which server has a name of this hash, or this number, -1 = none; what
 * least_connections goes by. */
void upstream_busy(struct upstream *upstream);
int upstream_find(const struct upstream *upstream, uint64_t name_hash);
int upstream_find_number(struct upstream *upstream, uint32_t number);
uint32_t upstream_load(const struct upstream *upstream, uint32_t index);

/* The index of a server, for `tried`. */
static inline uint16_t upstream_index(const struct upstream *upstream, const struct server *server)
{
	return (uint16_t)(server - upstream->servers);
}

/* For upstream.c. 0 or -ENOMEM; server->name is to be freed. */
must_check int server_init_addrs(struct server *server, const struct addresses *shared);
/* The address to dial now, of the newest ones that are known; NULL = none. */
const struct addr *server_addr(struct server *server);
/* A connect to server_addr() failed: the next attempt takes the next address of the name. */
void server_addr_failed(struct server *server);

#endif
