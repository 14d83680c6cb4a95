#include "relay/buffers.h"

#include <string.h>

#include "os/region.h"

/* The region holds the peek buffer first, then the pool, then what is known of each buffer; one more than may be held, for scratch. */
static size_t region_bytes(size_t count)
{
	return RELAY_BUFFER_BYTES + slab_region_bytes(RELAY_BUFFER_BYTES, count) + count * sizeof(struct buffer_rest);
}

int buffers_init(struct buffers *buffers, size_t count)
{
	void *region;
	int error = region_reserve(region_bytes(count + 1), &region);
	if (error)
		return error;
	buffers->peek = region;
	char *pool = buffers->peek + RELAY_BUFFER_BYTES;
	slab_init(&buffers->slab, pool, RELAY_BUFFER_BYTES, count + 1);
	buffers->rests = (void *)(pool + slab_region_bytes(RELAY_BUFFER_BYTES, count + 1));
	buffers->scratch = slab_take(&buffers->slab);
	return 0;
}

void buffers_fini(struct buffers *buffers)
{
	if (buffers->peek)
		region_close(buffers->peek, region_bytes(buffers->slab.capacity));
	*buffers = (struct buffers){ 0 };
}

char *buffers_keep_scratch(struct buffers *buffers, uint32_t at, uint32_t end)
{
	char *kept = buffers->scratch;
	*buffers_rest(buffers, kept) = (struct buffer_rest){ .at = at, .end = end };
	buffers->scratch = slab_take(&buffers->slab);
	return kept;
}

char *buffers_take(struct buffers *buffers)
{
	char *buffer = slab_take(&buffers->slab);
	if (buffer)
		*buffers_rest(buffers, buffer) = (struct buffer_rest){ 0 };
	return buffer;
}

void buffers_give_back(struct buffers *buffers, char *buffer)
{
	if (!buffers->scratch)
		buffers->scratch = buffer;
	else
		slab_give_back(&buffers->slab, buffer);
}

bool buffers_append(struct buffers *buffers, char **list, const char *bytes, size_t count)
{
	char *last = NULL;
	for (char *buffer = *list; buffer; buffer = buffers_rest(buffers, buffer)->next)
		last = buffer;
	size_t room = last ? RELAY_BUFFER_BYTES - buffers_rest(buffers, last)->end : 0;
	size_t more = count > room ? (count - room + RELAY_BUFFER_BYTES - 1) / RELAY_BUFFER_BYTES : 0;
	if (more > buffers->slab.capacity - buffers->slab.in_use)
		return false;
	while (count > 0) {
		if (room == 0) {
			char *fresh = buffers_take(buffers);
			ensure(fresh);
			*(last ? &buffers_rest(buffers, last)->next : list) = fresh;
			last = fresh;
			room = RELAY_BUFFER_BYTES;
		}
		size_t piece = count < room ? count : room;
		struct buffer_rest *rest = buffers_rest(buffers, last);
		memcpy(last + rest->end, bytes, piece);
		rest->end += (uint32_t)piece;
		bytes += piece;
		count -= piece;
		room -= piece;
	}
	return true;
}

void buffers_give_back_list(struct buffers *buffers, char **list)
{
	while (*list) {
		char *buffer = *list;
		*list = buffers_rest(buffers, buffer)->next;
		buffers_give_back(buffers, buffer);
	}
}
