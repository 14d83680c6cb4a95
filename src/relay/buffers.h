/* The buffers of a worker: one scratch buffer through which all bytes pass, and a bounded pool for what a slow reader has not
 * taken yet.
 *
 * A read goes into the scratch buffer and is sent on at once. Only when the send comes up short does the connection keep the
 * buffer with the rest, and the worker takes another one for scratch: nothing is copied, and an idle connection holds none.
 * When the pool is used up there is no scratch buffer; then reads peek into `peek` and leave in the kernel what was not sent.
 *
 * Pieces are for what a ring has received for a reader that does not take it: see engine_uring.c.
 */
#ifndef AEGIS_RELAY_BUFFERS_H
#define AEGIS_RELAY_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slab.h"

enum { RELAY_BUFFER_BYTES = 64 * 1024, RELAY_PIECE_BYTES = 4 * 1024 };

/* What is left to send of a buffer or a piece, and what follows it. */
struct buffer_rest {
	char *next; /* NULL = none */
	uint32_t at, end;
};

struct buffers {
	struct slab slab, pieces;
	struct buffer_rest *rests, *piece_rests; /* [buffers], [pieces] */
	char *scratch;                           /* NULL while the pool is used up */
	char *peek;
};

/* count is how many buffers may be held by connections, pieces how many pieces. 0 or a negative errno; the memory is only reserved. */
must_check int buffers_init(struct buffers *buffers, size_t count, size_t pieces);
void buffers_fini(struct buffers *buffers);
/* What so many take, when all of them are used. */
uint64_t buffers_bytes(size_t count, size_t pieces);

/* The scratch buffer with bytes from at to end becomes the caller's until buffers_give_back(). */
must_check char *buffers_keep_scratch(struct buffers *buffers, uint32_t at, uint32_t end);
/* Another one, empty, the caller's until buffers_give_back(); NULL when none is left. */
must_check char *buffers_take(struct buffers *buffers);
/* A piece with a copy of up to RELAY_PIECE_BYTES; there must be one. */
must_check char *buffers_take_piece(struct buffers *buffers, const char *bytes, uint32_t count);
static inline size_t buffers_pieces_left(const struct buffers *buffers)
{
	return buffers->pieces.capacity - buffers->pieces.in_use;
}
/* Give memory back: of all buffers while no connection has one, and of all pieces likewise. To be called now and then, e.g. once a second,
 * and not while scratch has something in it. */
void buffers_trim(struct buffers *buffers);
/* A buffer or a piece. */
void buffers_give_back(struct buffers *buffers, char *buffer);
/* Give all of a list back, from *list on (NULL = none). */
void buffers_give_back_list(struct buffers *buffers, char **list);

static inline bool buffers_is_piece(const struct buffers *buffers, const char *buffer)
{
	return (uintptr_t)buffer - (uintptr_t)buffers->pieces.region < buffers->pieces.capacity * RELAY_PIECE_BYTES;
}
static inline struct buffer_rest *buffers_rest(const struct buffers *buffers, const char *buffer)
{
	return buffers_is_piece(buffers, buffer) ? &buffers->piece_rests[(size_t)(buffer - buffers->pieces.region) / RELAY_PIECE_BYTES]
	                                         : &buffers->rests[(size_t)(buffer - buffers->slab.region) / RELAY_BUFFER_BYTES];
}

#endif
