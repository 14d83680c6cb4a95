/* A connection of a worker: one stream socket, accepted or dialled, and how the worker hears of it.
 *
 * Process: a worker; struct conns is what all its connections share.
 * Owner:   who opened it, until conn_close(). It can pass to another owner (from a session to the hot pool and back) without a system
 *          call: conn_hand_over() changes who is told, and nothing else.
 *
 * Two ways to hear, one for each engine; a connection belongs to one of them at a time:
 *   by readiness  (epoll, edge-triggered) what may be done is noted in readable and ended; the owner reads and writes itself.
 *   by completion (io_uring) what arrives lies in the conn's input, in order, and what is sent is reported when it is sent.
 * Nothing is told before conn_watch() or conn_receive().
 */
#ifndef AEGIS_NET_CONN_H
#define AEGIS_NET_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slab.h"
#include "config/config.h"
#include "net/dial.h"
#include "os/loop.h"
#include "os/ring.h"
#include "shm/counters.h"

struct conn;

/* What happened: bits. The callback may close the conn. */
enum {
	CONN_READ = 1, /* there may be something to read, an end or an error included; by completion: the last buffer of the input is new */
	CONN_WRITE = 2,   /* connecting is decided (conn_dial_result()), or there is room; by completion: see conn_send_input() */
	CONN_END = 4,     /* by completion: input_end says how the input ends */
	CONN_IDLE = 8,    /* by completion: nothing is under way any more, not even receiving */
	CONN_STARVED = 16 /* by completion: it is not receiving, for want of a buffer, whether there is something or not */
};
typedef void conn_fn(struct conn *conn, unsigned events);

enum { CONN_NO_BUFFER = UINT16_MAX };
enum { CONN_OPEN = 0, CONN_EOF = 1 }; /* input_end; a negative errno is how it broke */

struct conn {
	struct ring_port port; /* what its operations complete to */
	struct conns *conns;
	conn_fn *event;
	void *owner;
	int fd;
	bool by_completion;
	bool options_due; /* dialled, and the options that a short connection never needs are not set yet */
	/* by readiness */
	bool readable;   /* may have something to read: until a read comes up short or empty */
	bool ended;      /* the end or an error is behind what can be read: read until it shows */
	bool thorough;   /* a short read does not mean that there is no more */
	bool passed : 1; /* on by another process, which may have a descriptor of it for a moment yet */
	/* by completion: what is under way */
	bool receiving : 1, cancelling : 1, sending : 1, connecting : 1;
	bool closing : 1;
	bool wanted : 1;        /* input is wanted */
	bool starved : 1;       /* is not receiving, because there was no buffer */
	uint16_t output;        /* the buffer that is being sent from, CONN_NO_BUFFER = none */
	uint32_t output_length; /* what is being sent, or could not be: bytes */
	union {
		struct loop_io io; /* by readiness */
		struct {
			uint32_t input_bytes;      /* all of the input */
			uint16_t input, last;      /* the first and the last buffer of the input, CONN_NO_BUFFER = none */
			uint16_t input_buffers;    /* how many */
			int16_t input_end;         /* CONN_OPEN, CONN_EOF or a negative errno: what comes after the input */
			int16_t result;            /* of the last connect or send: 0 or a negative errno */
			const char *output_at;     /* see output_length */
			struct conn *next_starved; /* while starved */
		};
	};
};

struct conns {
	struct loop *loop;
	struct ring *ring; /* NULL: by readiness only */
	struct slab slab;
	uint16_t *buffer_next;   /* [buffers of the ring] the list of an input */
	uint32_t *buffer_length; /* [buffers of the ring] */
	struct conn *starved;
	uint64_t starved_since_ns; /* the first of them */
	counter_t *starvations;
};

/* The buffers of a ring. */
enum { CONNS_RING_BUFFERS = 4096, CONNS_RING_BUFFERS_LEAST = 1024, CONNS_RING_BUFFERS_MOST = 32768, CONNS_RING_BUFFER_BYTES = 4096 };

/* capacity: the most connections open at one time, closing ones included. starvations counts the times that there was no buffer to receive
 * into. 0 or a negative errno; the memory is only reserved. */
must_check int conns_init(struct conns *conns, struct loop *loop, struct ring *ring, size_t capacity, counter_t *starvations);
void conns_fini(struct conns *conns);
/* How many more can be opened. */
static inline size_t conns_room(const struct conns *conns)
{
	return conns->slab.capacity - conns->slab.in_use;
}

/* An accepted descriptor; the conn owns it. NULL when there is no room. local: a unix socket. */
must_check struct conn *conn_adopt(struct conns *conns, int fd, bool local);
/* Connect to a server. 0: connected; -EINPROGRESS: event(CONN_WRITE) follows when it is decided; else a negative errno and no conn. addr
 * stays where it is until then. source: see dial_bind(). tcp: the options of the socket. */
must_check int conn_dial(struct conns *conns, const struct addr *addr, const struct dial_source *source, const struct tcp_config *tcp,
        conn_fn *event, void *owner, struct conn **out);
/* After the event: 0, or the negative errno of the attempt. */
must_check int conn_dial_result(struct conn *conn);
/* Set the socket options that conn_dial() put off: before the second write, or when the connection has lived for a while. */
void conn_set_options(struct conn *conn, const struct tcp_config *tcp);

/* From now on this callback is told. */
static inline void conn_hand_over(struct conn *conn, conn_fn *event, void *owner)
{
	conn->event = event;
	conn->owner = owner;
}
/* Close it. abort: with a RST, which throws away what was not sent. The conn is gone for its owner at once; the descriptor is closed now
 * or, while an operation is under way, as soon as that has been cancelled. */
void conn_close(struct conn *conn, bool abort);
/* The same, and the FIN or RST is on its way when this returns, whatever is under way and whoever else has the connection open: who counts
 * connections may count one less. A system call more where that is so. */
void conn_close_at_once(struct conn *conn, bool abort);

/* The descriptor becomes the caller's, to be passed to another process; the conn is gone. By completion nothing is under way (not even
 * receiving), and there is no input. */
int conn_detach(struct conn *conn);

/* --- by readiness */

/* Begin to be told of what can be read (and of room, with conn_want_room()). May be called again. 0, or a negative errno when the kernel
 * has no room for a watch. */
must_check int conn_watch(struct conn *conn);
/* A write came up short: tell when there is room. 0 or a negative errno as above. */
must_check int conn_want_room(struct conn *conn);

/* --- by completion (conns->ring is not NULL) */

/* Receive into the input until the end, or until conn_receive_stop(). */
void conn_receive(struct conn *conn);
void conn_receive_stop(struct conn *conn);
/* Is any operation under way? */
static inline bool conn_busy(const struct conn *conn)
{
	return conn->receiving || conn->sending || conn->connecting;
}
/* Send the first buffer of another conn's input; it leaves that input now. Nothing else may be being sent, and no rest be left. Returns its
 * length. When it is over (CONN_WRITE), result is 0, or -EAGAIN when the socket took only a part or nothing (conn_rest() is what it did not
 * take), or another negative errno. No buffer is kept from others for longer than a turn, whatever the peer does. */
uint32_t conn_send_input(struct conn *conn, struct conn *from);
/* The same by a system call, at once: what the kernel takes all of is sent when this returns (conn->sending is false), and no event tells.
 */
uint32_t conn_send_input_now(struct conn *conn, struct conn *from);
/* What could not be sent; 0 = nothing. */
static inline uint32_t conn_rest(const struct conn *conn, const char **bytes)
{
	bool none = conn->sending || conn->output == CONN_NO_BUFFER;
	*bytes = none ? NULL : conn->output_at;
	return none ? 0 : conn->output_length;
}
void conn_drop_rest(struct conn *conn);
/* Drop the input, or only its first buffer. */
void conn_drop_input(struct conn *conn);
void conn_drop_first_input(struct conn *conn);
/* The last buffer of the input goes into the one before, where there is room. */
void conn_pack_input(struct conn *conn);
static inline const char *conn_input_bytes(const struct conn *conn, uint16_t buffer, uint32_t *length)
{
	*length = conn->conns->buffer_length[buffer];
	return ring_buffer(conn->conns->ring, buffer);
}
static inline uint16_t conn_next_input(const struct conn *conn, uint16_t buffer)
{
	return conn->conns->buffer_next[buffer];
}
/* Go over to readiness: nothing is under way, and neither input nor a rest is left. conn_watch() comes next. */
void conn_use_readiness(struct conn *conn);
/* The same for one that may wait for a buffer, and watch it. 0 or a negative errno as of conn_watch(). */
must_check int conn_watch_instead(struct conn *conn);
/* And back. conn_receive() comes next. */
void conn_use_completion(struct conn *conn);
/* Receive again where that had stopped for want of buffers. To be called once a turn while the ring gives buffers out, and once a second at
 * least. Where those are long in coming all are told, as by conns_tell_starved(). */
void conns_feed_starved(struct conns *conns);
/* The same while it holds them back, for nobody knows how long: all that wait are told CONN_STARVED once more, and wait no longer:
 * their owners go over to readiness. */
void conns_tell_starved(struct conns *conns);

#endif
