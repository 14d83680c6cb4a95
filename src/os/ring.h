/* An io_uring: many operations for one system call.
 *
 * Process: a worker; one thread, after the fork and the drop of privileges. Only the thread that made the ring may use it.
 * Turn:    ring_recv(), ring_send() and so on only queue. ring_wait() hands over all that is queued, sleeps, and calls back: one
 *          system call. To queue never fails; what goes wrong arrives as the result of the operation.
 * Port:    is embedded in what owns operations; it is called when one completes and lives until all have completed. One of each
 *          kind may be under way at a time. Of several calls for one operation, the last is the one without RING_MORE.
 * Buffers: receiving takes a buffer from the ring's pool only when bytes are there. A call with RING_BUFFER passes it to the
 *          port, which gives it back.
 * Order:   operations start in the order in which they were queued, and those that need not wait are done in that order.
 *
 * Ending a connection: the kernel keeps a socket alive for as long as an operation waits on it, whoever has closed the descriptor: a close
 * alone sends nothing, for ever. So cancel what is under way and close, in one turn: the peer has its FIN when the last of the cancelled
 * operations is told, mostly one system call later. Or close(2) when it is told.
 *
 * Needs Linux 6.1. Built without liburing, or where the kernel or its administrator says no, ring_new() fails and says why.
 */
#ifndef AEGIS_OS_RING_H
#define AEGIS_OS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/attr.h"

struct ring;
struct ring_port;

enum ring_op { RING_RECV, RING_SEND, RING_CONNECT, RING_ACCEPT, RING_POLL, RING_OPS };

enum {
	RING_MORE = 1,   /* the operation goes on; without it this was its last call */
	RING_BUFFER = 2, /* buffer_id is a buffer that now is the port's */
};

enum { RING_PORT_ALIGN = 8 }; /* bytes; what is not aligned so is refused by ensure() */

/* A result: what the system call of that name returns, or a negative errno. */
typedef void ring_fn(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer_id);

struct ring_port {
	ring_fn *fn;
} __attribute__((aligned(RING_PORT_ALIGN)));

struct ring_shape {
	unsigned entries;      /* that can be queued before they are handed over early, e.g. 1024 */
	unsigned completions;  /* that the kernel keeps without allocating, e.g. 1024, */
	unsigned at_once;      /* or more: where it tells of all that is ready at once, e.g. 4096 */
	unsigned buffers;      /* a power of two, at most 32768 */
	unsigned buffer_bytes; /* each, e.g. 4096 */
};

/* Since the ring was made. */
struct ring_sums {
	uint64_t enters;     /* system calls */
	uint64_t submitted;  /* operations handed over */
	uint64_t completed;  /* calls to ports */
	uint64_t no_buffers; /* receives that ended for want of a buffer */
	uint64_t overflows;  /* turns that began with more completions than the queue holds */
};

/* A ring that works: each kind of operation that is not sure to be there has been tried on it. Memory for buffers is only reserved; what
 * is touched is what is used at once. NULL, and the reason for people in why. */
must_check struct ring *ring_new(const struct ring_shape *shape, char *why, size_t why_size);

/* No port is called any more: their memory may be gone. What is still under way is cancelled, connections accepted but not yet told are
 * closed. */
void ring_free(struct ring *ring);

/* Would ring_new() work here? False, and the reason in why. Leaves nothing behind. */
bool ring_probe(char *why, size_t why_size);

/* Hand over what is queued, sleep until something has completed or timeout_ns is over (-1 = for ever, 0 = only look), call woke(arg) once
 * (NULL = nobody) and then the ports. The number of calls, 0 also on a signal or a timeout; or a negative errno, after which the ring is of
 * no use (-EBADR: the kernel ran out of memory and has lost completions). When more has completed than one call takes, the next one does
 * not sleep: newer kernels (6.18 does) look at some 20 sockets a time. */
must_check int ring_wait(struct ring *ring, int64_t timeout_ns, void (*woke)(void *arg), void *arg);

/* Has something completed for the port that it was not told yet? Looks at all that waits to be told; true when that cannot be known. */
bool ring_holds(const struct ring *ring, const struct ring_port *port, enum ring_op op);

/* --- to queue ------------------------------------------------------------------------------------------------------------------------- */

/* Receive until it ends: a call for each piece, at most a buffer in size. Ends with 0 at the end of the stream, -ENOBUFS when the buffers
 * are used up (not an error: receive again when some are back; when ring_buffers_free() says that there are some, at once), any other
 * negative errno, and now and then with a piece but without RING_MORE (receive again). poll_first: likely nothing has come yet, do
 * not look before waiting. */
void ring_recv(struct ring *ring, struct ring_port *port, int fd, bool poll_first);

/* Send all of it; the bytes stay where they are until it completes. The result is count, or less when an error or a cancel came in
 * between, or a negative errno. Never two at a time on one socket: a short first one would leave a hole in the stream. */
void ring_send(struct ring *ring, struct ring_port *port, int fd, const void *bytes, size_t count);
/* The same without waiting: what has room now. Likewise RING_SEND; the result is also -EAGAIN when nothing has. */
void ring_send_what_fits(struct ring *ring, struct ring_port *port, int fd, const void *bytes, size_t count);

/* addr stays where it is until the next ring_wait(). 0 or a negative errno. */
void ring_connect(struct ring *ring, struct ring_port *port, int fd, const struct sockaddr *addr, socklen_t length);

/* Accept until it ends: a call with a new descriptor (SOCK_NONBLOCK | SOCK_CLOEXEC) for each connection. A call without RING_MORE ends it,
 * with a descriptor or a negative errno. */
void ring_accept(struct ring *ring, struct ring_port *port, int fd);

/* The result is the mask of what is there. Once; or, multishot, first for what is there and then on each change (an edge: an epoll
 * descriptor with level-triggered descriptors inside must be emptied, or asked once at a time). */
void ring_poll(struct ring *ring, struct ring_port *port, int fd, unsigned poll_mask, bool multishot);

/* Close fd when what was queued before has started. Nobody is told. Cancel first what is under way on it. */
void ring_close(struct ring *ring, int fd);

/* Cancel the port's operation. It still completes: as -ECANCELED, or as what it was before the cancel came (a send may have gone out in
 * part: then the result is that part). Nothing happens where there is no such operation. */
void ring_cancel(struct ring *ring, struct ring_port *port, enum ring_op op);

/* Not queued: a system call, now. (The ring would start a thread for it.) A send that is under way or still queued must have completed. */
void ring_shutdown(struct ring *ring, int fd, int how);

/* --- buffers -------------------------------------------------------------------------------------------------------------------------- */

char *ring_buffer(const struct ring *ring, unsigned buffer_id);
/* Hold the free buffers back from the kernel, but for those that it has, until told otherwise: none is free then. */
void ring_hold_back(struct ring *ring, bool hold_back);
/* Bytes in it are no longer looked at. */
void ring_buffer_give_back(struct ring *ring, unsigned buffer_id);
/* How many are not with ports. */
unsigned ring_buffers_free(const struct ring *ring);
/* How many there are. */
unsigned ring_buffers(const struct ring *ring);
/* Give the memory back of buffers that were not needed since the last call. To be called now and then, e.g. once a second. */
void ring_trim(struct ring *ring);

const struct ring_sums *ring_sums(const struct ring *ring);

#endif
