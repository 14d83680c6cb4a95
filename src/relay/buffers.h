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

#include "base/slab.h"

enum { RELAY_BUFFER_BYTES = 64 * 1024 };

struct buffers {
	struct slab slab;
	char *scratch; /* NULL while the pool is used up */
	char *peek;
};

/* count is how many may be held by connections. 0 or a negative errno; the memory is only reserved. */
must_check int buffers_init(struct buffers *buffers, size_t count);
void buffers_fini(struct buffers *buffers);

/* The scratch buffer becomes the caller's until buffers_give_back(). */
must_check char *buffers_keep_scratch(struct buffers *buffers);
/* Another one, the caller's until buffers_give_back(); NULL when none is left. */
must_check char *buffers_take(struct buffers *buffers);
void buffers_give_back(struct buffers *buffers, char *buffer);

#endif
