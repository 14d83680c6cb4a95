/* All TCP sessions of a worker: what they share, how they are admitted, and how they are brought to an end.
 *
 * Process: a worker, which owns the one struct tcp.
 */
#ifndef AEGIS_TCP_TCP_H
#define AEGIS_TCP_TCP_H

#include "house/house.h"
#include "net/acceptor.h"
#include "relay/pipes.h"
#include "tcp/bandwidth.h"
#include "tcp/session.h"
#include "tls/stream.h"

struct routes;

struct tcp_listener {
	struct entrance entrance;
	struct tcp *tcp;
	struct bandwidth bandwidth;
	bool paced;            /* its sessions have a struct pace */
	struct routes *routes; /* NULL: its sessions go to the upstream of the entrance, and nothing of them is looked at */
	struct log_gate hello_gate;
	struct tls_server *tls; /* NULL: it is plain */
	struct access *proxies; /* who tells of clients; see proxied.h */
	struct log_gate proxy_gate;
	struct log_gate challenge_gate;
	struct log_gate handshake_gate;
};

struct tcp {
	struct house *house;
	struct loop *loop;
	struct shm_seat *seat_row;
	struct wheel wheel;
	struct loop_timer wheel_timer;
	uint64_t wheel_timer_ns; /* when it fires */
	struct relay_engine engine;
	struct pipes pipes;
	struct tls_desk desk;
	struct slab sessions;
	struct slab reuses;  /* as many; of zero size where no upstream has a pool */
	struct slab paces;   /* likewise; of zero size where no listener has bandwidth or min_rate */
	struct slab callers; /* likewise; of zero size where no listener has routes */
	char *hello_bytes;   /* for looking at hellos; NULL there */
	size_t hello_size;
	struct slab streams;       /* one for each side that may speak TLS */
	struct slab introductions; /* as many as sessions; of zero size where no proxy tells of clients, or no server is told */
	struct acceptor acceptor;
	struct tcp_listener *listeners; /* [of the settings]; those of other protocols are all zero */
	uint32_t n_listeners;
	struct log_gate pause_gate;
};

/* Is there a listener of which no side is known to speak TLS? Only there a ring moves bytes. */
must_check bool tcp_has_plain(const struct config *config);
/* How many hot connections the settings ask of a worker. */
uint32_t tcp_hot_most(const struct config *config);
/* What a connection of a client takes, and so many hot ones. */
uint64_t tcp_connection_bytes(const struct config *config);
uint64_t tcp_hot_bytes(uint32_t hot);

/* The connections that tcp_init() with these numbers needs in the house: capacity is the most sessions at a time, hot how many connections
 * there may be beyond those of that many sessions (hot ones may use the room of sessions too, until those need it). */
struct house_room tcp_room(const struct config *config, uint32_t capacity, uint32_t hot);

/* house: begun with tcp_room() and wait_serve(). ring: NULL for the engine on epoll. buffers is how many buffers slow readers may hold,
 * pipes how many pipes there may be for splicing. sockets are those to accept from, their listener an index into the settings; the memory
 * stays the caller's. 0 or a negative errno. */
must_check int tcp_init(struct tcp *tcp, struct house *house, struct ring *ring, const struct config *config,
        const struct house_places *places, uint32_t capacity, size_t buffers, unsigned pipes, struct accept_socket *sockets,
        uint32_t n_sockets);
/* Before house_fini(). What is left of sessions is forgotten. */
void tcp_fini(struct tcp *tcp);

/* To be called before the loop sleeps, after house_before_sleep(): wake up for the next deadline, or at once. */
void tcp_before_sleep(struct tcp *tcp, bool at_once);

static inline uint32_t tcp_active(const struct tcp *tcp)
{
	return (uint32_t)tcp->sessions.in_use;
}

/* Whose a session is. */
static inline struct tcp *session_tcp(const struct session *session)
{
	return container_of(session->visit.entrance, struct tcp_listener, entrance)->tcp;
}

static inline uint64_t session_now_ns(const struct session *session)
{
	return loop_now_ns(session_tcp(session)->loop);
}

/* For the files of a session. */
bool tcp_make_room(struct tcp *tcp); /* close some hot connections; false when there are none */
void tcp_forget(struct tcp *tcp, struct session *session);

#endif
