/* What the files of the ring share: ring.c (its turns, and its end) and ring_make.c. The only file that names liburing's header. See
 * ring.h. */
#ifndef AEGIS_OS_RING_OWN_H
#define AEGIS_OS_RING_OWN_H

#include <liburing.h>

#include "os/ring.h"

/* Newer than the headers of liburing 2.3; the numbers are the kernel's for good. */
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif

enum {
	RING_BUFFER_GROUP = 0,
	RING_POSTED_LEAST = 32 /* buffers */
};

struct ring {
	struct io_uring io;
	unsigned enter_flags;
	/* The submission queue. Its tail is told to the kernel when handing over. */
	unsigned *sq_head, *sq_tail, *sq_flags;
	struct io_uring_sqe *sqes;
	unsigned sq_entries, sq_mask, tail;
	/* The completion queue. */
	unsigned *cq_head, *cq_tail;
	struct io_uring_cqe *cqes;
	unsigned cq_mask;
	/* Buffers are with the kernel (posted), with ports, or idle. The idle ones are a stack, and few are posted, so that it is the warm
	 * ones that are used again: the kernel takes posted ones in the order in which they were posted. */
	char *buffers;
	struct io_uring_buf_ring *post;
	uint16_t *idle;
	uint64_t region_bytes;
	unsigned buffer_count, buffer_bytes, idle_count, posted;
	unsigned window;          /* how many to have posted when going to sleep */
	unsigned used, used_most; /* buffers used in this turn; most in a turn since ring_trim() */
	bool *touched;            /* [buffers] it has memory */
	bool hold_back;
	uint16_t post_tail;
	struct ring_sums sums;
};

#endif
