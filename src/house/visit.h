/* What sessions of every kind (tcp, udp) have: who came by which listener, since when, with which server, and how many bytes passed.
 *
 * Process: a worker. Owner: the session that it is embedded in.
 * What is the same for all kinds goes by this: the list of all sessions of the worker (house.h), the answers to questions about them
 * (clerk.h), the flight recorder (flight.h), the access log (access.h).
 */
#ifndef AEGIS_HOUSE_VISIT_H
#define AEGIS_HOUSE_VISIT_H

#include <netinet/in.h>

#include "policy/door.h"
#include "shm/reasons.h"
#include "shm/roll.h"
#include "upstream/upstream.h"

struct caller;
struct house;
struct ssl_st;
struct visit;

/* What each kind keeps in its own way. */
struct visit_moments {
	uint64_t active_ns;     /* when something last happened: a byte either way, or a step */
	uint64_t first_byte_ns; /* when the server's first byte came; 0 = none yet */
	bool server_first;      /* of one that both sides ended: the server was the first to do so */
	uint64_t datagrams[2];  /* UDP, by direction: what came from there */
};

/* What can be done with a session of whatever kind. */
struct visit_kind {
	bool is_udp;
	/* End it: it is gone when this returns. */
	void (*end)(struct visit *visit, enum reason reason);
	/* Nothing is under way in it, and no byte passed for quiet_ns. */
	bool (*is_idle)(const struct visit *visit, uint64_t now_ns, uint64_t quiet_ns);
	void (*tell)(const struct visit *visit, struct visit_moments *out);
	/* The TLS of a side, if it ends here and its handshake is over, or NULL; the function may be NULL. */
	struct ssl_st *(*secured)(const struct visit *visit, enum roll_side which);
	/* Its server went down, and on_down = "close": end it, or go to another one. */
	void (*server_fell)(struct visit *visit);
};

/* A listener, as a worker sees it. */
struct entrance {
	const struct listener_config *config;
	const struct visit_kind *kind;
	struct house *house;
	struct upstream *upstream; /* of whoever does not ask for another one; NULL = there is none */
	struct listener_row *row;  /* this worker's counters */
	uint32_t shm_row;
	uint32_t limit;  /* its connections over all workers */
	uint32_t leaves; /* of max_connections: one in so many to others; 0 = it may have all */
	struct door door;
};

enum { FROM_CLIENT, FROM_SERVER }; /* directions */

struct visit {
	struct visit *next, *prev; /* all of the worker, oldest first */
	struct entrance *entrance;
	struct upstream *upstream; /* its entrance's, unless the client asked for another one; NULL = not known (yet) */
	struct server *server;     /* of that; held while not NULL */
	struct caller *caller;     /* what is known of the client besides its address, or NULL */
	uint64_t accepted_ns;
	uint64_t step_ns;         /* when the step began */
	uint64_t bytes[2];        /* by direction: what came from there, and was passed on */
	uint32_t serial;          /* with the seat of its worker: the id of the connection; see counters.h */
	uint32_t waited_ms;       /* in line */
	struct sockaddr_in6 peer; /* IPv4 or IPv6; all zero for a unix socket */
	enum step step : 8;
	uint8_t n_tried;       /* servers that failed for it */
	uint8_t intervals;     /* for access.c: those of access_log.interval that have a record */
	bool reserved : 1;     /* holds its place in max_connections */
	bool waits : 1;        /* in line */
	bool waited : 1;       /* and had to, before it relayed */
	bool client_spoke : 1; /* a byte came from the client */
	bool server_spoke : 1;
	bool proxied : 1; /* a proxy tells who the client is, or has told; until it relays */
	bool judged : 1;  /* how the connection goes is to be told: with a pass, when it is known */
};

#endif
