/* The buffers of a worker: one scratch buffer through which all bytes pass, and a bounded pool for what a slow reader has not
 * taken yet.
 *
 * A read goes into the scratch buffer and is sent on at once. Only when the send comes up short does the connection keep the
 * buffer with the rest, and the worker takes another one for scratch: nothing is copied, and an idle connection holds none.
 * When the pool is used up there is no scratch buffer; then reads peek into `peek` and leave in the kernel what was not sent.
 */
#ifndef AEGIS_RELAY_BUFFERS_H
#define AEGIS_RELAY_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slab.h"

enum { RELAY_BUFFER_BYTES = 64 * 1024 };

/* What is left to send of a buffer, and the buffer that follows it. */
struct buffer_rest {
	char *next; /* NULL = none */
	uint32_t at, end;
};

struct buffers {
	struct slab slab;
	struct buffer_rest *rests; /* [buffers] */
	char *scratch;             /* NULL while the pool is used up */
	char *peek;
};

/* count is how many may be held by connections. 0 or a negative errno; the memory is only reserved. */
must_check int buffers_init(struct buffers *buffers, size_t count);
void buffers_fini(struct buffers *buffers);

/* The scratch buffer with bytes from at to end becomes the caller's until buffers_give_back(). */
must_check char *buffers_keep_scratch(struct buffers *buffers, uint32_t at, uint32_t end);
/* Another one, empty, the caller's until buffers_give_back(); NULL when none is left. */
must_check char *buffers_take(struct buffers *buffers);
void buffers_give_back(struct buffers *buffers, char *buffer);

/* A list of buffers, *list is the first (NULL = none): append bytes. False, and nothing is appended, when there are not enough buffers. */
must_check bool buffers_append(struct buffers *buffers, char **list, const char *bytes, size_t count);
/* Give all of a list back. */
void buffers_give_back_list(struct buffers *buffers, char **list);

static inline struct buffer_rest *buffers_rest(const struct buffers *buffers, const char *buffer)
{
	return &buffers->rests[(size_t)(buffer - buffers->slab.region) / RELAY_BUFFER_BYTES];
}

#endif
