/* Moving bytes between two sockets, both ways, exactly: the copying engine on epoll.
 *
 * Process: a worker. The engine owns the bytes, the session owns the decisions: it learns how many bytes came from whom and
 *          how it ended, and never how they were moved.
 * Owner:   the session embeds struct relay and owns both descriptors; the relay owns the watchers and what it holds until
 *          relay_stop().
 *
 * Each side: OPEN -> EOF (its FIN came) or RESET (its RST came, or it was lost).
 *   EOF    what it sent is delivered, then the FIN is passed on; the other direction goes on.
 *   RESET  what it sent before is still read and delivered, and when the other kernel has sent it all, the other side gets
 *          a RST. What was owed to the side that reset is dropped.
 * The relay is done when both FINs were passed on, or when a RST may be passed on.
 *
 * A slow reader: the rest of one short write is held (at most RELAY_BUFFER_BYTES a direction), then the sender is not read
 * until it is gone, so that the kernel's window holds the sender back.
 * Fairness: a callback moves at most RELAY_TURN_BYTES, then the loop (level-triggered) comes back after the others.
 */
#ifndef AEGIS_RELAY_RELAY_H
#define AEGIS_RELAY_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "os/loop.h"
#include "relay/buffers.h"
#include "shm/counters.h"

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
	RELAY_NO_MEMORY /* the kernel has no memory: abort both */
};

struct relay;

/* What the session does about it. done may end the session: the relay touches nothing of itself after it; the others may not. */
struct relay_session_ops {
	void (*bytes)(struct relay *relay, enum side from, size_t count);
	void (*done)(struct relay *relay, enum relay_end end, enum side by);
	/* relay_tick() is wanted at this time. */
	void (*tick_at)(struct relay *relay, uint64_t due_ns);
};

/* What all relays of a worker share. */
struct relay_engine {
	struct loop *loop;
	struct buffers buffers;
	const struct relay_session_ops *session;
	counter_t *buffer_exhausted; /* times data was left in the kernel because the pool was used up */
};

struct relay_side {
	struct loop_io io;
	int fd;
	bool eof;      /* its FIN was read */
	bool reset;    /* its RST came, or it was lost: nothing can be sent to it */
	bool dry;      /* nothing more can be read from it (EOF or an error was read) */
	bool blocked;  /* what it should get does not fit into its socket now */
	bool fin_sent; /* we shut our direction to it */
	bool quickack; /* re-arm TCP_QUICKACK after each read */
	bool lost;     /* reset, but by a timeout of the kernel */
	uint32_t held_at, held_end;
	char *held; /* bytes for this side that its socket did not take */
};

struct relay {
	struct relay_engine *engine;
	struct relay_side side[2];
	/* while a RST waits for what is owed to the other side */
	bool aborting;
	int abort_owed;         /* bytes the kernel had not sent at the last look */
	uint64_t abort_look_ns; /* how long to the next look: longer while nothing moves */
	uint64_t abort_stalled_ns;
};

/* Begin with two connected descriptors. side[].quickack is set by the session before; side[SIDE_SERVER].io may have watched the
 * descriptor while it was connecting. 0, or a negative errno when the kernel has no room for a watch. */
must_check int relay_start(struct relay *relay, struct relay_engine *engine, int client_fd, int server_fd);
/* Stop the watchers and give back what is held; the session closes the descriptors next. A relay that never started may be stopped when its
 * memory was zeroed. */
void relay_stop(struct relay *relay);
/* The time asked for by tick_at has come. */
void relay_tick(struct relay *relay, uint64_t now_ns);
/* Is a side still due bytes that the other one sent, or the RST that is to follow them? */
bool relay_owes(const struct relay *relay, enum side to);
/* Is anything read and not yet delivered? */
bool relay_holds(const struct relay *relay);
/* Close one side so that the peer sees a RST. For connections that were not relayed, or whose end is one. */
void relay_abort_fd(int fd);

#endif
