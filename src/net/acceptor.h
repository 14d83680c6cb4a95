/* Accepting, by one worker, from all the sockets that are its share.
 *
 * Process: a worker.
 * When descriptors or memory run out, or when the owner says that there is no room, accepting pauses for a moment (for a full listener:
 * from its sockets only) and is tried again by a timer: a level-triggered loop would spin. What waits, waits in the kernel's backlog.
 */
#ifndef AEGIS_NET_ACCEPTOR_H
#define AEGIS_NET_ACCEPTOR_H

#include <netinet/in.h>
#include <stdbool.h>

#include "os/loop.h"

struct acceptor;

enum admission {
	ADMITTED,      /* followed by accepted() or by not_accepted() */
	LISTENER_FULL, /* this listener's clients have to wait */
	WORKER_FULL    /* all clients have to */
};

struct acceptor_owner {
	/* May one more be accepted for this listener now? */
	enum admission (*admit)(struct acceptor *acceptor, uint32_t listener);
	void (*not_accepted)(struct acceptor *acceptor, uint32_t listener);
	/* A connection: the owner owns fd. peer is all zero for a unix socket. */
	void (*accepted)(struct acceptor *acceptor, uint32_t listener, int fd, const struct sockaddr_in6 *peer);
	/* Accepting pauses; error is the errno, or 0 when admit() said no. */
	void (*paused)(struct acceptor *acceptor, uint32_t listener, int error);
};

struct accept_socket {
	struct loop_io io;
	struct acceptor *acceptor;
	int fd;
	uint32_t listener; /* the owner's index */
	uint32_t burst;    /* how many to try in a turn: grows while there are that many, */
	uint32_t full;     /* which was so in that many turns in a row */
};

struct acceptor {
	struct loop *loop;
	const struct acceptor_owner *owner;
	struct accept_socket *sockets;
	uint32_t n_sockets;
	bool running;
	struct loop_timer resume;
};

/* sockets: fd and listener filled in; the memory stays the caller's. Does not start. */
void acceptor_init(struct acceptor *acceptor, struct loop *loop, const struct acceptor_owner *owner, struct accept_socket *sockets,
        uint32_t n_sockets);
void acceptor_start(struct acceptor *acceptor);
/* Stop for good; with `sweep` accept first what is queued by now. */
void acceptor_stop(struct acceptor *acceptor, bool sweep);

#endif
