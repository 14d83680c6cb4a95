/* The pipes of a worker: through one of them bulk goes from socket to socket without being copied (splice(2)).
 *
 * Process: a worker. States: CLOSED -> IDLE (open and empty) -> taken -> IDLE or CLOSED. Pipes are opened when they are wanted, up to a
 * bound, and are kept then. A direction holds one only while bytes lie in it, as it is with buffers: between two pieces a pipe serves
 * whoever comes next, and a connection that has gone quiet holds none.
 *
 * Why a bound: the kernel lets all processes of a user together have 64 MB of pipes (fs.pipe-user-pages-soft); beyond that a new pipe
 * holds 8 kB and moves bytes slower than copying does. Two generations of workers share it during a reload, and a pipe costs two
 * descriptors.
 */
#ifndef AEGIS_RELAY_PIPES_H
#define AEGIS_RELAY_PIPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct pipe {
	struct pipe *next;
	int in, out; /* where bytes go in, and where they come out; -1 = closed */
	uint32_t bytes;
};

struct pipes {
	struct pipe *all; /* [count] */
	unsigned count;
	struct pipe *idle, *closed;
	uint64_t retry_ns; /* no new one before this: the last one could not be opened */
	bool useless;      /* splice() does not work here */
};

enum { PIPE_BYTES = 256 * 1024, PIPE_BYTES_LEAST = 64 * 1024 };

/* The number of pipes for one of so many workers, each of which may have so many descriptors and hold so many bytes for slow readers in its
 * pipes; 0 = none at all. */
unsigned pipes_share(unsigned workers, uint64_t descriptors, uint64_t bytes);

/* At most count pipes. 0 or -ENOMEM. */
must_check int pipes_init(struct pipes *pipes, unsigned count);
/* Those that are still taken are closed as well. */
void pipes_fini(struct pipes *pipes);

/* An empty pipe, the caller's until pipes_give_back(); NULL when none is free and no further one can be opened now. */
must_check struct pipe *pipes_take(struct pipes *pipes, uint64_t now_ns);
/* empty: nothing lies in it, and it will be used again. Else it is closed, and what lies in it is gone. */
void pipes_give_back(struct pipes *pipes, struct pipe *pipe, bool empty);
/* The kernel, or a filter of system calls, does not let us splice: no pipe is given out any more. */
void pipes_disable(struct pipes *pipes);

#endif
