/* Datagrams on their way from the worker that read them to the one that has their session.
 *
 * Process: a worker. Which one has the session is in shared memory (shm/flows.h); it is looked for only where our own table has none. Each
 * worker has an inbox, one end of a pair of datagram sockets, and the other ends of the inboxes of those that there were when it was
 * forked.
 *
 * What is to be handed over is collected while a batch is gone through, and leaves with one message for each owner, from where it lies: a
 * letter for each parcel, and its bytes. The owner deals with it as if it had read it itself. Where an owner turns out to be dead, the
 * parcels are given back, and the session begins anew, with the same server if that can be.
 *
 *   message: letter, bytes, letter, bytes, ...        each letter 88 bytes
 */
#ifndef AEGIS_UDP_TRANSFER_H
#define AEGIS_UDP_TRANSFER_H

#include "os/loop.h"
#include "shm/flows.h"
#include "udp/arrival.h"

struct udp;
struct udp_socket;

/* Another worker. */
struct udp_owner {
	uint32_t id;
	int fd; /* to its inbox; -1 = it is dead */
};

/* What a worker has to do with others. */
struct udp_post {
	const struct flows *flows; /* NULL: nothing */
	uint32_t self;             /* its number as an owner */
	int inbox;                 /* -1 = none */
	const struct udp_owner *others;
	uint32_t n_others;
};

struct transfer_letter {
	uint64_t listener;   /* its hash: struct udp_place */
	struct flow_key key; /* but for the listener */
	struct sockaddr_in6 peer;
	uint32_t length;
	uint16_t segment;
	uint16_t unused[3];
};

struct transfer {
	const struct flows *flows;
	uint32_t self;
	struct udp_owner *others;
	uint32_t n_others;
	int inbox;
	struct loop_io io;
	char *bytes; /* of a message that comes in */
	uint32_t n;  /* to be sent, one parcel each */
	struct transfer_item {
		struct udp_owner *owner; /* NULL: it is done with */
		struct arrival arrival;
		struct parcel parcel;
	} items[DATAGRAM_BATCH];
	struct transfer_letter letters[DATAGRAM_BATCH];
};

/* The descriptors become ours. 0 or -ENOMEM. */
must_check int transfer_init(struct udp *udp, const struct udp_post *post);
void transfer_fini(struct udp *udp);

/* What is known of a session that is not ours. */
struct transfer_found {
	struct udp_owner *owner; /* the worker that has it, or NULL: none that can be reached */
	uint32_t server;         /* the number of the server that it is or was with; 0 = none */
	bool died;               /* its worker did */
	bool lives;              /* it does, but we have no way to it: a younger worker has the session */
};
void transfer_find(struct udp *udp, uint64_t hash, struct transfer_found *out);
/* The parcels of the client go to the owner, with transfer_send(). There is room for a batch. */
void transfer_add(struct udp *udp, struct udp_owner *owner, const struct arrival *arrival, const struct parcel *parcels);
/* Everything that came to the socket and was added. */
void transfer_send(struct udp_socket *socket);

/* Begin to take in what others hand over. 0 or a negative errno. */
must_check int transfer_start(struct udp *udp);
/* The last session ended, and the worker is to do so: nobody is to send us anything from here on. What was sent is taken in, and may begin
 * sessions. */
void transfer_stop(struct udp *udp);
/* What was sent to a worker that is dead, by the descriptor of its inbox, which is ours: into sessions here, or of others. */
void transfer_inherit(struct udp *udp, int inbox);
/* As transfer_stop(), but what was sent is dropped. */
void transfer_end(struct udp *udp);

#endif
