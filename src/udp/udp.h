/* All UDP sessions of a worker: what they share, the sockets that clients send to, and what is sent back.
 *
 * Process: a worker, which owns the one struct udp.
 * Turn:    of each socket up to a batch of parcels is read and passed on, session by session; what servers send is collected, and sent to
 * the clients when the loop is about to sleep, or when there is no room for more. So one system call serves many datagrams, and no session
 * has more than its share of a turn. Order is kept within a session.
 */
#ifndef AEGIS_UDP_UDP_H
#define AEGIS_UDP_UDP_H

#include "base/log.h"
#include "base/slab.h"
#include "house/house.h"
#include "udp/datagram.h"
#include "udp/flow.h"
#include "udp/transfer.h"

/* A socket that clients send to: one of a listener. */
struct udp_socket {
	struct loop_io io;
	struct udp *udp;
	struct entrance *entrance;
	int fd;
	struct addr own;        /* where it is bound to */
	uint32_t index;         /* of the listener's sockets */
	uint64_t listener_hash; /* see struct udp_place */
	uint64_t seed[2];       /* of the hashes of its sessions */
	bool any_address;       /* datagrams tell which of our addresses was asked */
	bool gets_copies;       /* what is sent to all comes to every socket of the listener: the first one takes it */
	bool crowded;           /* many sessions began in its last turn */
	bool yielded;           /* others read it; it is only answered by */
	bool is_due;            /* linked by next_due: something is to be sent */
	struct udp_socket *next_due;
	struct outbox outbox;
};

struct udp {
	struct house *house;
	struct loop *loop;
	struct wheel wheel;
	struct loop_timer wheel_timer;
	uint64_t wheel_timer_ns; /* when it fires */
	struct datagram_features features;
	uint64_t seed[2]; /* of the hashes of all listeners; where there is shm/flows.h that of all workers */
	struct transfer transfer;
	struct slab flows;
	struct flow_table table;
	struct batch arrivals;      /* from clients */
	struct batch replies;       /* from servers; they stay until they are sent */
	struct outbox run;          /* to a server */
	struct entrance *entrances; /* [of the settings]; those of other protocols are all zero */
	uint32_t n_listeners;
	struct udp_socket *sockets;
	uint32_t n_sockets;
	struct udp_socket *due;
	bool runs;    /* sockets that are not yielded are read */
	bool refuses; /* new sessions: the worker ends */
	struct log_gate full_gate;
	uint64_t no_ports_until_ns; /* the kernel had none left to send from: it is not asked before that, unless a session ends */
};

/* What udp_init() needs to know of a socket. */
struct udp_place {
	int fd;
	uint32_t listener; /* of the settings */
	uint32_t index;    /* of the listener's sockets */
	bool any_address;
	bool gets_copies;
	uint64_t listener_hash; /* of the address that it is bound to: the same in all workers that have one of its sockets */
};

/* What a session takes. */
uint64_t udp_session_bytes(void);
/* Does any listener of the settings use the protocol? */
bool udp_is_wanted(const struct config *config, enum protocol protocol);

/* *udp is all zero; without sockets hardly any of it is touched. capacity is the most sessions at a time. The descriptors of the sockets
 * stay the caller's, and open as long as there are sessions. 0 or a negative errno. */
must_check int udp_init(struct udp *udp, struct house *house, const struct config *config, const struct house_places *places,
        uint32_t capacity, const struct udp_place *sockets, uint32_t n_sockets, const struct udp_post *post);
/* What is left of sessions is forgotten. */
void udp_fini(struct udp *udp);

void udp_start(struct udp *udp);
/* Take in what waits in the sockets, then begin no more sessions. What is not yielded is read on for those that there are. */
void udp_refuse(struct udp *udp);
/* Others read the sockets of the listener (a number of the settings) from now on, or again we do. */
void udp_yield(struct udp *udp, uint32_t listener, bool yielded);
/* Take in what waits in the sockets of the listener, end its sessions, and close the sockets. */
void udp_close(struct udp *udp, uint32_t listener);
/* Is there a socket that this worker reads? */
bool udp_reads(const struct udp *udp);

/* To be called before the loop sleeps: send what is to be sent, wake up for the next deadline. */
void udp_before_sleep(struct udp *udp);
/* To be called about once a second. */
void udp_beat(struct udp *udp);

/* For udp_receive.c, udp_sockets.c, the files of a session and transfer.c. */
/* Take a batch in from a socket. */
void udp_on_client(struct loop_io *io, int events);
/* A key without a listener gets that of the socket, and its hash. */
void udp_finish_key(const struct udp_socket *socket, struct arrival *arrival);
/* What came from a client goes to its session, or to the worker that has it where it may go elsewhere; else a session begins. */
void udp_pass_on(struct udp_socket *socket, const struct arrival *arrival, struct parcel *parcels, bool elsewhere);
/* What servers sent goes to the clients now: the buffers are free. */
void udp_flush(struct udp *udp);
/* The session of the socket has something to be sent. */
void udp_make_due(struct udp_socket *socket);
void udp_count_sessions(const struct udp *udp);

#endif
