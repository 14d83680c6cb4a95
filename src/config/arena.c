#include "config/arena.h"

#include <stdalign.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t size; /* of bytes */
	alignas(max_align_t) unsigned char bytes[];
};

void *arena_take(struct arena *arena, size_t size)
{
	struct arena_chunk *chunk = arena->chunks;

	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (chunk == NULL || size > chunk->size - arena->used) {
		size_t bytes = size > CHUNK_BYTES ? size : CHUNK_BYTES;
		chunk = calloc(1, sizeof *chunk + bytes);
		ensure(chunk != NULL);
		chunk->size = bytes;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		arena->used = 0;
	}
	void *taken = chunk->bytes + arena->used;
	arena->used += size;
	return taken;
}

char *arena_copy(struct arena *arena, const char *bytes, size_t length)
{
	char *copy = arena_take(arena, length + 1);
	memcpy(copy, bytes, length);
	return copy;
}

void arena_free(struct arena *arena)
{
	while (arena->chunks != NULL) {
		struct arena_chunk *next = arena->chunks->next;
		free(arena->chunks);
		arena->chunks = next;
	}
	arena->used = 0;
}
