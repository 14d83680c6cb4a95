#include "relay/buffers.h"

#include "os/region.h"

/* The region holds the peek buffer first, then the pool; one more than may be held, for scratch. */
int buffers_init(struct buffers *buffers, size_t count)
{
	size_t pool_bytes = slab_region_bytes(RELAY_BUFFER_BYTES, count + 1);
	void *region;
	int error = region_reserve(RELAY_BUFFER_BYTES + pool_bytes, &region);
	if (error)
		return error;
	buffers->peek = region;
	slab_init(&buffers->slab, buffers->peek + RELAY_BUFFER_BYTES, RELAY_BUFFER_BYTES, count + 1);
	buffers->scratch = slab_take(&buffers->slab);
	return 0;
}

void buffers_fini(struct buffers *buffers)
{
	if (buffers->peek)
		region_close(buffers->peek, RELAY_BUFFER_BYTES + slab_region_bytes(RELAY_BUFFER_BYTES, buffers->slab.capacity));
	*buffers = (struct buffers){ 0 };
}

char *buffers_keep_scratch(struct buffers *buffers)
{
	char *kept = buffers->scratch;
	buffers->scratch = slab_take(&buffers->slab);
	return kept;
}

char *buffers_take(struct buffers *buffers)
{
	return slab_take(&buffers->slab);
}

void buffers_give_back(struct buffers *buffers, char *buffer)
{
	if (!buffers->scratch)
		buffers->scratch = buffer;
	else
		slab_give_back(&buffers->slab, buffer);
}
