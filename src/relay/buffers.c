#include "relay/buffers.h"

#include <string.h>

#include "os/region.h"

/* One region: the peek buffer, the pool, the pieces, the reserves, then what is known of each. The pool has one more than may be held, for
 * scratch. */
struct shape {
	size_t pool, pieces, reserves, rests, piece_rests, reserve_rests, size;
};

static struct shape shape_of(size_t count, size_t pieces, size_t reserves)
{
	struct shape shape = { .pool = RELAY_BUFFER_BYTES };
	shape.pieces = shape.pool + slab_region_bytes(RELAY_BUFFER_BYTES, count);
	shape.reserves = shape.pieces + slab_region_bytes(RELAY_PIECE_BYTES, pieces);
	shape.rests = shape.reserves + slab_region_bytes(RELAY_RESERVE_BYTES, reserves);
	shape.piece_rests = shape.rests + count * sizeof(struct buffer_rest);
	shape.reserve_rests = shape.piece_rests + pieces * sizeof(struct buffer_rest);
	shape.size = shape.reserve_rests + reserves * sizeof(struct buffer_rest);
	return shape;
}

uint64_t buffers_bytes(size_t count, size_t pieces)
{
	return shape_of(count + 1, pieces, 0).size;
}

int buffers_init(struct buffers *buffers, size_t count, size_t pieces, size_t reserves)
{
	const struct shape shape = shape_of(count + 1, pieces, reserves);
	void *region;
	int error = region_reserve(shape.size, &region);
	if (error)
		return error;
	buffers->peek = region;
	slab_init(&buffers->slab, buffers->peek + shape.pool, RELAY_BUFFER_BYTES, count + 1);
	slab_init(&buffers->pieces, buffers->peek + shape.pieces, RELAY_PIECE_BYTES, pieces);
	slab_init(&buffers->reserves, buffers->peek + shape.reserves, RELAY_RESERVE_BYTES, reserves);
	buffers->rests = (void *)(buffers->peek + shape.rests);
	buffers->piece_rests = (void *)(buffers->peek + shape.piece_rests);
	buffers->reserve_rests = (void *)(buffers->peek + shape.reserve_rests);
	buffers->scratch = slab_take(&buffers->slab);
	return 0;
}

void buffers_fini(struct buffers *buffers)
{
	if (buffers->peek)
		region_close(buffers->peek, shape_of(buffers->slab.capacity, buffers->pieces.capacity, buffers->reserves.capacity).size);
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

char *buffers_take_piece(struct buffers *buffers, const char *bytes, uint32_t count)
{
	char *piece = slab_take(&buffers->pieces);
	ensure(piece && count <= RELAY_PIECE_BYTES);
	memcpy(piece, bytes, count);
	*buffers_rest(buffers, piece) = (struct buffer_rest){ .end = count };
	return piece;
}

char *buffers_take_reserve(struct buffers *buffers)
{
	char *reserve = slab_take(&buffers->reserves);
	if (reserve)
		*buffers_rest(buffers, reserve) = (struct buffer_rest){ 0 };
	return reserve;
}

static void empty_slab(struct slab *slab)
{
	region_discard(slab->region, slab->touched * slab->object_bytes);
	slab_init(slab, slab->region, slab->object_bytes, slab->capacity);
}

void buffers_trim(struct buffers *buffers)
{
	if (buffers->pieces.in_use == 0 && buffers->pieces.touched > 0)
		empty_slab(&buffers->pieces);
	if (buffers->reserves.in_use == 0 && buffers->reserves.touched > 0)
		empty_slab(&buffers->reserves);
	if (buffers->slab.in_use == 1 && buffers->slab.touched > 1 && buffers->scratch) {
		empty_slab(&buffers->slab);
		buffers->scratch = slab_take(&buffers->slab);
	}
}

void buffers_give_back(struct buffers *buffers, char *buffer)
{
	if (buffers_are_from(&buffers->pieces, buffer))
		slab_give_back(&buffers->pieces, buffer);
	else if (buffers_are_from(&buffers->reserves, buffer))
		slab_give_back(&buffers->reserves, buffer);
	else if (!buffers->scratch)
		buffers->scratch = buffer;
	else
		slab_give_back(&buffers->slab, buffer);
}

void buffers_give_back_list(struct buffers *buffers, char **list)
{
	while (*list) {
		char *buffer = *list;
		*list = buffers_rest(buffers, buffer)->next;
		buffers_give_back(buffers, buffer);
	}
}
