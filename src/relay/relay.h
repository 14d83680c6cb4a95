/* Moving bytes between two connections, both ways, exactly.
 *
 * Process: a worker. An engine owns the bytes, the session owns the decisions: it learns how many bytes came from whom and how it ended,
 * and never how they were moved. Owner:   the session embeds struct relay and owns both connections; between relay_start() and relay_stop()
 * the relay is told their events and holds what is under way.
 *
 * Each side: OPEN -> EOF (its FIN came) or RESET (its RST came, or it was lost).
 *   EOF    what it sent is delivered, then the FIN is passed on; the other direction goes on.
 *   RESET  what it sent before is still read and delivered, and when the other kernel has sent it all, the other side gets
 *          a RST. What was owed to the side that reset is dropped.
 * The relay is done when both FINs were passed on, or when a RST may be passed on. That is relay.c, the same for all engines.
 *
 * Engines: engine_epoll.c reads and writes by itself when it is told that it can (copying through one scratch buffer, or splicing when a
 *          direction carries bulk); engine_uring.c has the kernel receive and send. Where there is a ring, relays begin with it; those that
 *          carry bulk or have a reader that does not keep up go over to epoll, and come back when they are calm again. engine_tls.c is
 *          on epoll, too, and has the relays of which a side is secured: from the start to the end.
 *
 * Secured: a side that speaks TLS; its handshake is over. Bytes are counted, looked at and allowed as they are without it. EOF is its
 * close_notify, and a FIN without one counts as RESET: it may have been cut off by anybody. What it should get ends with a close_notify,
 * too.
 *
 * Shaped: a relay whose session says how much may be read. It is with the engine on epoll from the start; a side of which nothing may be
 * read is not read until relay_resume(), and the kernel's window holds it back.
 *
 * A slow reader: what its socket does not take is held, bounded for each direction; then the sender is not read until it is gone, so that
 * the kernel's window holds the sender back. Fairness: a relay moves at most RELAY_TURN_BYTES in a direction before the others have their
 * turn.
 */
#ifndef AEGIS_RELAY_RELAY_H
#define AEGIS_RELAY_RELAY_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/conn.h"
#include "relay/buffers.h"

enum { RELAY_TURN_BYTES = 4 * RELAY_BUFFER_BYTES };

enum side { SIDE_CLIENT, SIDE_SERVER };
static inline enum side other_side(enum side side)
{
	return (enum side) !side;
}

enum relay_end {
	RELAY_FINISHED, /* both FINs passed on: close both */
	RELAY_RESET,    /* `by` was reset: abort the other side */
	RELAY_LOST,     /* `by` answers no more (ETIMEDOUT and the like): abort the other side */
	RELAY_CUT_OFF,  /* `by` is secured, and ended without saying so: abort the other side */
	RELAY_BROKEN,   /* `by` is secured, and what came from it is no TLS that holds: abort the other side */
	RELAY_NO_MEMORY /* the kernel has no memory: abort both */
};

/* What the session says about an end of input that could be passed on now. */
enum relay_ending {
	ENDING_PASS, /* pass the FIN on */
	ENDING_WAIT, /* not yet: ask again when something moved */
	ENDING_OVER  /* the session is gone */
};

struct relay;

/* What the session does about it. done, ending and look may end the session, or begin anew with another connection: the relay touches
 * nothing of itself after them; bytes, came, allow and tick_at may not. done may also do nothing: relay_tick() brings it again. */
struct relay_session_ops {
	void (*bytes)(struct relay *relay, enum side from, size_t count);
	/* From a secured side came so much, of which there may be nothing to pass on yet: a record can take its time. */
	void (*came)(struct relay *relay, enum side from, size_t count);
	/* The bytes themselves, before they are sent on; only of relays with `framed`. While buffers are used up they are told when they
	 * were sent, after a call with none. False: the relay does not go on. */
	bool (*look)(struct relay *relay, enum side from, const char *bytes, size_t count);
	/* The end of what `from` sends, all of which is delivered; only of relays with `framed`. */
	enum relay_ending (*ending)(struct relay *relay, enum side from);
	/* How many bytes may be read from a side now, of which some will be there; only of relays with `shaped`. 0 = none: the session
	 * calls relay_resume() when there are. */
	size_t (*allow)(struct relay *relay, enum side from);
	/* The second write to the server, or a long first one: its socket wants its options now (conn_set_options()). */
	void (*options_due)(struct relay *relay);
	void (*done)(struct relay *relay, enum relay_end end, enum side by);
	/* From now on the kernel encrypts what a side is sent. */
	void (*by_kernel)(struct relay *relay, enum side to);
	/* relay_tick() is wanted at this time. */
	void (*tick_at)(struct relay *relay, uint64_t due_ns);
};

struct pipes;
struct tls_desk;
struct tls_stream;

/* What all relays of a worker share. */
struct relay_engine {
	struct loop *loop;
	struct conns *conns;
	struct buffers buffers;
	struct pipes *pipes;   /* for splicing; NULL = never */
	struct tls_desk *desk; /* for secured sides; NULL = there are none */
	const struct relay_session_ops *session;
	counter_t *buffer_exhausted; /* times data was left in the kernel because the pool was used up */
	counter_t *spliced_bytes;    /* these two only where there are pipes */
	counter_t *pipe_exhausted;   /* times a piece of bulk was copied for want of a pipe */
};

/* Pieces for each buffer of the ring: one that readers who do not keep up may have, and one that is always left. */
enum { RELAY_PIECES = 2 };

/* To be called once a turn, before the loop sleeps. Relays may end in it. */
void relay_engine_before_sleep(struct relay_engine *engine);
/* And last of all, when nothing more begins before it sleeps: relays that began in between may have taken pieces. */
void relay_engine_hold_back(struct relay_engine *engine);
/* May relays use the ring? Only while there is a piece for each of its buffers: see engine_uring.c. */
static inline bool relay_engine_ring_is_open(const struct relay_engine *engine)
{
	return engine->conns->ring && buffers_pieces_left(&engine->buffers) >= ring_buffers(engine->conns->ring);
}

/* Towards one side: the connection, how its own sending ended, and what it is still due. */
struct relay_side {
	struct conn *conn;
	bool eof : 1;      /* its FIN was read */
	bool reset : 1;    /* its RST came, or it was lost: nothing can be sent to it */
	bool dry : 1;      /* nothing more can be read from it (EOF or an error was read) */
	bool blocked : 1;  /* what it should get does not fit into its socket now */
	bool fin_sent : 1; /* we shut our direction to it */
	bool written : 1;  /* something was sent to it */
	bool quickack : 1; /* re-arm TCP_QUICKACK after each read */
	bool secured : 1;  /* by TLS */
	uint8_t end : 3;   /* when reset: enum relay_end, how */
	uint8_t bulk : 5;  /* how much reason there is to splice, or to stop it: see engine_epoll.c */
	uint16_t sending;  /* of what is owed: how many bytes the ring is sending, of one buffer */
	uint32_t owed; /* bytes for it that its socket has not taken, whatever holds them; of a secured side as records, but for one in the
	                  kernel */
	char *held;    /* a list of buffers, pieces and reserves with owed bytes, or NULL */
	union {
		struct pipe *pipe;      /* through which bytes for this side are spliced, or NULL */
		struct tls_stream *tls; /* of a secured side */
	};
};

static_assert(sizeof(struct relay_side) == 32, "sessions are many");
static_assert((int)RELAY_NO_MEMORY < 8, "side->end");

struct relay {
	struct relay_engine *engine;
	struct relay_side side[2];
	/* Set by the session before the start. */
	bool framed : 1; /* the session looks at the bytes and decides about ends of input */
	bool shaped : 1; /* the session says how much may be read */
	/* Between the engines. */
	bool leaving : 1;      /* the ring: as soon as nothing is under way */
	bool server_first : 1; /* the server ended what it sends before the client did; stays after relay_stop() */
	uint8_t calm;          /* small messages in a row that were delivered at once */
	/* While a RST waits for what is owed to the other side. */
	bool aborting;
	uint8_t mover;           /* the engine that has it now, a row of relay_movers; 0 = none */
	int abort_owed;          /* bytes the kernel had not sent at the last look */
	uint32_t abort_look_us;  /* how long to the next look: longer while nothing moves */
	uint32_t abort_still_us; /* how long nothing has moved */
};

/* Begin with two connected connections. framed, shaped and side[].quickack, secured and tls are set by the session before; a stream is the
 * session's, and stays where it is until after relay_stop(). 0, or a negative errno when the
 * kernel has no room for a watch. The session may be over before this returns 0. */
must_check int relay_start(struct relay *relay, struct relay_engine *engine, struct conn *client, struct conn *server);
/* Let go of the connections and give back what is held; the session closes them next, or hands them over. A relay that never started may be
 * stopped when its memory was zeroed. */
void relay_stop(struct relay *relay);
/* Between two connections, before relay_start(): count bytes that a side is due before anything else; a secured side gets them through TLS
 * as all others. They lie in a buffer of the engine, which becomes the relay's. */
void relay_owe(struct relay *relay, struct relay_engine *engine, enum side to, char *buffer, uint32_t count);
/* The time asked for by tick_at has come: the session is asked anew about an end that it let wait. */
void relay_tick(struct relay *relay, uint64_t now_ns);
/* What might not be read from a side may be now: read it. The session may be over when this returns. */
void relay_resume(struct relay *relay);
/* Is a side still due bytes that the other one sent, or the RST that is to follow them? */
bool relay_owes(const struct relay *relay, enum side to);
static inline bool relay_is_secured(const struct relay *relay)
{
	return relay->side[SIDE_CLIENT].secured || relay->side[SIDE_SERVER].secured;
}
/* Is anything read and not yet delivered? */
static inline bool relay_holds(const struct relay *relay)
{
	return relay->side[SIDE_CLIENT].owed || relay->side[SIDE_SERVER].owed;
}

#endif
