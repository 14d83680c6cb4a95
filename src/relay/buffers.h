/* The buffers of a worker: one scratch buffer through which all bytes pass, and a bounded pool for what a slow reader has not
 * taken yet.
 *
 * A read goes into the scratch buffer and is sent on at once. Only when the send comes up short does the connection keep the
 * buffer with the rest, and the worker takes another one for scratch: nothing is copied, and an idle connection holds none.
 * When the pool is used up there is no scratch buffer; then reads peek into `peek` and leave in the kernel what was not sent.
 *
 * Pieces are for what a ring has received for a reader that does not take it: see engine_uring.c. Reserves are for records that were made
 * and do not fit into their socket while the pool is used up: see engine_tls.c.
 */
#ifndef AEGIS_RELAY_BUFFERS_H
#define AEGIS_RELAY_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slab.h"

enum { RELAY_BUFFER_BYTES = 64 * 1024, RELAY_PIECE_BYTES = 4 * 1024, RELAY_RESERVE_BYTES = 32 * 1024 };

/* What is left to send of a buffer, a piece or a reserve, and what follows it. */
struct buffer_rest {
	char *next; /* NULL = none */
	uint32_t at, end;
};

struct buffers {
	struct slab slab, pieces, reserves;
	struct buffer_rest *rests, *piece_rests, *reserve_rests; /* [buffers], [pieces], [reserves] */
	char *scratch;                                           /* NULL while the pool is used up */
	char *peek;                                              /* RELAY_BUFFER_BYTES, always there */
};

/* count is how many buffers may be held by connections, pieces how many pieces, and so on. 0 or a negative errno; the memory is only
 * reserved. */
must_check int buffers_init(struct buffers *buffers, size_t count, size_t pieces, size_t reserves);
void buffers_fini(struct buffers *buffers);
/* What so many take, when all of them are used. */
uint64_t buffers_bytes(size_t count, size_t pieces);

/* The scratch buffer with bytes from at to end becomes the caller's until buffers_give_back(). */
must_check char *buffers_keep_scratch(struct buffers *buffers, uint32_t at, uint32_t end);
static inline bool buffers_are_used_up(const struct buffers *buffers)
{
	return buffers->slab.in_use == buffers->slab.capacity;
}
/* Another one, empty, the caller's until buffers_give_back(); NULL when they are used up. */
must_check char *buffers_take(struct buffers *buffers);
/* A piece with a copy of up to RELAY_PIECE_BYTES; there must be one. */
must_check char *buffers_take_piece(struct buffers *buffers, const char *bytes, uint32_t count);
static inline size_t buffers_pieces_left(const struct buffers *buffers)
{
	return buffers->pieces.capacity - buffers->pieces.in_use;
}
/* A reserve, empty, or NULL. */
must_check char *buffers_take_reserve(struct buffers *buffers);
/* Give memory back: of all buffers while no connection has one, and of all pieces likewise. To be called now and then, e.g. once a second,
 * and not while scratch has something in it. */
void buffers_trim(struct buffers *buffers);
/* A buffer, a piece or a reserve. */
void buffers_give_back(struct buffers *buffers, char *buffer);
/* Give all of a list back, from *list on (NULL = none). */
void buffers_give_back_list(struct buffers *buffers, char **list);

static inline bool buffers_are_from(const struct slab *slab, const char *buffer)
{
	return (uintptr_t)buffer - (uintptr_t)slab->region < slab->capacity * slab->object_bytes;
}
static inline struct buffer_rest *buffers_rest(const struct buffers *buffers, const char *buffer)
{
	if (buffers_are_from(&buffers->slab, buffer))
		return &buffers->rests[(size_t)(buffer - buffers->slab.region) / RELAY_BUFFER_BYTES];
	return buffers_are_from(&buffers->pieces, buffer)
	               ? &buffers->piece_rests[(size_t)(buffer - buffers->pieces.region) / RELAY_PIECE_BYTES]
	               : &buffers->reserve_rests[(size_t)(buffer - buffers->reserves.region) / RELAY_RESERVE_BYTES];
}
/* How many bytes fit into one. */
static inline size_t buffers_size(const struct buffers *buffers, const char *buffer)
{
	return buffers_are_from(&buffers->slab, buffer)     ? buffers->slab.object_bytes
	       : buffers_are_from(&buffers->pieces, buffer) ? buffers->pieces.object_bytes
	                                                    : buffers->reserves.object_bytes;
}

#endif
