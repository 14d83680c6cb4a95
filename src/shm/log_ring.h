/* Log rings: what a worker has to log passes through shared memory to the control process, which writes it. A worker never waits for a
 * disk, a reader or that process: where there is no room, what it has to say is dropped, and counted by it.
 *
 * Process: each seat has a ring for each log. One producer, the worker in the seat (struct log_inlet is its end); one consumer, the control
 *          process. Either may be killed at any instruction: what is not whole is not seen, what is whole stays, and the next process goes
 * on. Records: contiguous bytes behind their length, from a multiple of 8 on. head and tail count all bytes that ever went in and out.
 * Where a record does not fit before the end of the ring, a mark says so and it begins at the start. Trust:   neither end believes what the
 * other one writes: a length, a position or a capacity that cannot be leads nobody out of the ring.
 */
#ifndef AEGIS_SHM_LOG_RING_H
#define AEGIS_SHM_LOG_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum log_kind { LOG_KIND_ERROR, LOG_KIND_ACCESS, N_LOG_KINDS };

/* Bytes in a ring: a power of two. There is room for the most of each; what is not used costs nothing. */
enum { LOG_RING_LEAST = 16 * 1024, LOG_RING_ERROR_MOST = 64 * 1024, LOG_RING_ACCESS_MOST = 1024 * 1024 };
/* Of one record, without its length. */
enum { LOG_RECORD_MOST = 4096 };

struct log_ring {
	/* writer: the producer */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t head;
	_Atomic uint32_t capacity; /* changed only while the ring is empty; 0 = never used */
	/* writer: the consumer */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t tail;
	/* both */
	_Alignas(CACHE_LINE_BYTES) char bytes[];
};

/* The producer's end. */
struct log_inlet {
	struct log_ring *ring;
	uint32_t capacity;
	uint32_t wanted; /* capacity, as soon as the ring is empty */
	uint64_t head;
	uint64_t tail; /* when it was last looked at */
	uint64_t next; /* head, when what is reserved is committed */
};

/* How large a ring of at most `bytes` (LOG_RING_LEAST or more) is: a power of two. */
uint32_t log_ring_capacity(uint64_t bytes);

/* Become the producer. most: what there is room for behind the ring; capacity: as log_ring_capacity() says. What a predecessor left in it
 * stays, and so does its capacity until that is read. */
void log_inlet_open(struct log_inlet *inlet, struct log_ring *ring, uint32_t most, uint32_t capacity);

/* Where the next record of length bytes (at most LOG_RECORD_MOST) is to be written, aligned to 8; NULL when it does not fit now. Nothing is
 * seen of it before log_inlet_commit(). */
must_check void *log_inlet_reserve(struct log_inlet *inlet, size_t length);
/* The record is there. True when the ring became half full with it: the consumer had better hurry. */
must_check bool log_inlet_commit(struct log_inlet *inlet);

/* For the consumer: copy the next record after *position, which begins as log_ring_position(), to out, and move on. most is what there is
 * room for behind the ring. Its length, -EAGAIN when there is none, or -EBADMSG when the ring cannot be right: nothing that is in it
 * can be told, and it is good again from log_ring_end() on. */
must_check int log_ring_read(const struct log_ring *ring, uint32_t most, uint64_t *position, void *out, size_t size);
must_check uint64_t log_ring_position(const struct log_ring *ring);
/* What was read up to a position is done with. */
void log_ring_release(struct log_ring *ring, uint64_t position);
/* After the last record. */
must_check uint64_t log_ring_end(const struct log_ring *ring);
static inline bool log_ring_is_empty(const struct log_ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_acquire) == atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

#endif
