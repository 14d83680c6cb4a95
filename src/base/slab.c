#include "base/slab.h"

enum { SLAB_ALIGN = 16 };

static size_t rounded(size_t object_bytes)
{
	return (object_bytes + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
}

size_t slab_region_bytes(size_t object_bytes, size_t capacity)
{
	return rounded(object_bytes) * capacity;
}

void slab_init(struct slab *slab, void *region, size_t object_bytes, size_t capacity)
{
	*slab = (struct slab){ .region = region, .object_bytes = rounded(object_bytes), .capacity = capacity };
}

void *slab_take(struct slab *slab)
{
	void *object = slab->free;
	if (object)
		slab->free = *(void **)object;
	else if (slab->touched < slab->capacity)
		object = slab->region + slab->touched++ * slab->object_bytes;
	else
		return NULL;
	slab->in_use++;
	return object;
}

void slab_give_back(struct slab *slab, void *object)
{
	ensure(slab->in_use > 0);
	slab->in_use--;
	*(void **)object = slab->free;
	slab->free = object;
}
