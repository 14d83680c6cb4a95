/* A segment in the test's own memory, of exactly its size, so that the address sanitizer sees a step beyond it. */
#ifndef AEGIS_TESTS_SEGMENT_H
#define AEGIS_TESTS_SEGMENT_H

#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"

static inline void *segment_memory(size_t size)
{
	void *base = NULL;
	if (posix_memalign(&base, CACHE_LINE_BYTES, size ? size : 1) != 0)
		abort();
	memset(base, 0, size);
	return base;
}

static inline void segment_make(struct shm *shm, uint32_t seats, uint32_t listeners, uint32_t servers)
{
	const struct shm_dims dims = { .seats = seats, .listeners = listeners, .servers = servers };
	shm_init(shm, segment_memory((size_t)shm_size_bytes(&dims)), &dims);
}

static inline void segment_drop(struct shm *shm)
{
	free(shm->header);
}

#endif
