/* Objects of one size out of one region, sized at start: taking and giving back never allocates.
 *
 * The region is the caller's and must be zeroed, reserved memory (pages cost something when first touched). Objects are
 * handed out last in, first out, so that a small working set stays warm. A taken object keeps what its last user left.
 */
#ifndef AEGIS_BASE_SLAB_H
#define AEGIS_BASE_SLAB_H

#include <stddef.h>

#include "base/attr.h"

struct slab {
	char *region;
	size_t object_bytes;
	size_t capacity; /* objects */
	size_t touched;  /* objects ever handed out */
	size_t in_use;
	void *free; /* list through the first word of each free object */
};

/* The size of the region that capacity objects need; object_bytes is rounded up to a multiple of 16. */
size_t slab_region_bytes(size_t object_bytes, size_t capacity);
void slab_init(struct slab *slab, void *region, size_t object_bytes, size_t capacity);

/* An object, or NULL when all are in use. */
must_check void *slab_take(struct slab *slab);
void slab_give_back(struct slab *slab, void *object);

#endif
