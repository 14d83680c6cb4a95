/* The bytes of a vault under construction: one piece of memory that grows. What is in it is named by its offset, for it moves. Private to
 * the files that build one. */
#ifndef AEGIS_TLS_HEAP_H
#define AEGIS_TLS_HEAP_H

#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "tls/vault.h"

struct heap {
	unsigned char *bytes;
	size_t length, size;
};

/* Room for so many bytes of zeros, at a multiple of 8. Returns the offset. */
static inline uint64_t heap_take(struct heap *heap, size_t length)
{
	size_t start = (heap->length + 7) & ~(size_t)7;

	if (start + length > heap->size) {
		size_t size = heap->size * 2 > start + length ? heap->size * 2 : start + length + 65536;
		unsigned char *bytes = calloc(1, size);
		ensure(bytes);
		if (heap->bytes) {
			memcpy(bytes, heap->bytes, heap->length);
			explicit_bzero(heap->bytes, heap->length); /* there are keys in it */
			free(heap->bytes);
		}
		heap->bytes = bytes;
		heap->size = size;
	}
	heap->length = start + length;
	return start;
}

static inline struct vault_span heap_put(struct heap *heap, const void *bytes, size_t length)
{
	struct vault_span span = { .offset = heap_take(heap, length), .length = length };

	if (length > 0)
		memcpy(heap->bytes + span.offset, bytes, length);
	return span;
}

static inline void *heap_at(const struct heap *heap, uint64_t offset)
{
	return heap->bytes + offset;
}

static inline void heap_free(struct heap *heap)
{
	if (heap->bytes)
		explicit_bzero(heap->bytes, heap->length);
	free(heap->bytes);
	*heap = (struct heap){ 0 };
}

/* Into a file that nothing was written into, and that nobody can change from then on. 0 or a negative errno. */
must_check int heap_seal(const struct heap *heap, int fd);

#endif
