/* What the tests of the relay stand on: a relay between two real connections, driven by a real loop, all in one process. The test holds
 * the peers' ends and acts between the turns of the loop. */
#ifndef TESTS_UNIT_RELAY_GROUND_H
#define TESTS_UNIT_RELAY_GROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/clock.h"
#include "os/ring_loop.h"
#include "relay/pipes.h"
#include "relay/relay.h"

/* How a test wants it; a test program passes one as the initial state. */
struct shape {
	bool ring;       /* the engine on io_uring */
	bool local;      /* unix sockets */
	bool framed;     /* with the session looking on */
	bool shaped;     /* with the session saying how much may be read: nothing at first */
	bool options;    /* the server's connection wants its options */
	bool starved;    /* no buffer for slow readers at all */
	bool later;      /* the test starts the relay by itself */
	int small;       /* bytes for the buffers of the server's sockets, 0 = as they are */
	int ample;       /* at least so much can wait to be read by the relay, 0 = what the kernel deems enough */
	unsigned pipes;  /* 0 = no splicing */
	size_t buffers;  /* 0 = 8 */
	unsigned pieces; /* for each buffer of the ring, 0 = as usual */
	int segment;     /* bytes in a segment from the client, 0 = as it is */
};

struct ground {
	const struct shape *shape;
	struct loop *loop;
	struct ring *ring;
	struct ring_loop ring_loop;
	struct conns conns;
	struct relay_engine engine;
	struct pipes pipes;
	struct relay relay;
	counter_t exhausted, starvations, spliced, no_pipe;
	int client, server; /* the peers' ends */
	struct conn *client_conn, *server_conn;
	size_t bytes[2], looked[2];
	size_t allowed[2]; /* of what a side sends, all in all; only of shaped relays */
	unsigned allow_calls;
	size_t this_turn[2], most_in_a_turn[2];
	unsigned options_calls, ending_calls;
	enum relay_ending ending;                 /* what the session says */
	void (*in_a_turn)(struct ground *ground); /* called once, in the middle of a turn, when bytes came; NULL = nothing */
	char *piece;                              /* of the engine, a test's own; NULL = none */
	size_t stop_looking_at;                   /* look() ends the session there; 0 = never */
	bool done;
	enum relay_end end;
	enum side by;
	struct loop_timer tick; /* what tick_at() asked for */
	struct loop_timer poll; /* lets the test act between turns */
	uint64_t deadline_ns;
	bool (*step)(struct ground *ground); /* true = this run is over */
	/* The stream of a test: how much was written to one end and read from the other, of how much. */
	size_t written, seen, total;
};

/* For cmocka: state is a struct shape before, the struct ground after. */
int ground_set_up(void **state);
int ground_tear_down(void **state);
void ground_start(struct ground *ground);

/* Turn the loop until step says that it is over. Fails the test when that does not come. */
void ground_run(struct ground *ground, bool (*step)(struct ground *ground));

/* So many bytes more may be read from a side: the relay is resumed. */
void ground_allow(struct ground *ground, enum side from, size_t bytes);

/* Write to a peer's end what it takes, up to ground->total in all. True when all is written. */
bool ground_feed(struct ground *ground, int fd);
/* Read and compare what is there, at most so much. Returns the last result of recv(). */
ssize_t ground_drain(struct ground *ground, int fd, size_t most);
/* A new stream of so many bytes begins. */
void ground_stream(struct ground *ground, size_t total);
/* Close with a RST. */
void ground_reset(int *fd);
/* Pipes that are with relays, and pipes that are open. */
unsigned ground_taken_pipes(const struct ground *ground);
unsigned ground_open_pipes(const struct ground *ground);

/* Steps that many tests need. */
bool step_is_done(struct ground *ground);
bool step_client_to_server(struct ground *ground);        /* as fast as it goes */
bool step_client_to_server_slowly(struct ground *ground); /* the reader takes little at a time */
bool step_server_to_client(struct ground *ground);
bool step_client_is_held_back(struct ground *ground); /* the client writes, nobody reads, nothing moves any more */
bool step_server_saw_the_end(struct ground *ground);
bool step_client_saw_the_end(struct ground *ground);

#endif
