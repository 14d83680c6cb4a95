#include "shm/log_ring.h"

#include <errno.h>
#include <string.h>

enum { STEP = 8 };
/* In place of a length: the next record is at the start. */
#define TO_THE_START UINT32_MAX

struct record_head {
	uint32_t length;
	uint32_t zero;
};
_Static_assert(sizeof(struct record_head) == STEP, "there is always room for one before the end");
_Static_assert(2 * (LOG_RECORD_MOST + STEP) <= LOG_RING_LEAST, "each record fits into an empty ring, wherever that begins");

static bool is_capacity(uint32_t capacity, uint32_t most)
{
	return capacity >= LOG_RING_LEAST && capacity <= most && (capacity & (capacity - 1)) == 0;
}

static uint64_t taken_by(uint64_t length)
{
	return sizeof(struct record_head) + (length + STEP - 1) / STEP * STEP;
}

uint32_t log_ring_capacity(uint64_t bytes)
{
	uint32_t capacity = LOG_RING_LEAST;
	while (2 * (uint64_t)capacity <= bytes && capacity < LOG_RING_ACCESS_MOST)
		capacity *= 2;
	return capacity;
}

/* --- the producer ------------------------------------------------------------------------------------------------------------ */

static void set_capacity(struct log_inlet *inlet, uint32_t capacity)
{
	inlet->capacity = capacity;
	atomic_store_explicit(&inlet->ring->capacity, capacity, memory_order_relaxed); /* seen with the next head */
}

void log_inlet_open(struct log_inlet *inlet, struct log_ring *ring, uint32_t most, uint32_t capacity)
{
	*inlet = (struct log_inlet){ .ring = ring, .wanted = capacity };
	inlet->head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	inlet->tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	inlet->capacity = atomic_load_explicit(&ring->capacity, memory_order_relaxed);
	if (is_capacity(inlet->capacity, most) && inlet->head - inlet->tail <= inlet->capacity && inlet->head % STEP == 0)
		return;
	inlet->head = (inlet->tail + STEP - 1) / STEP * STEP;
	set_capacity(inlet, capacity);
	atomic_store_explicit(&ring->head, inlet->head, memory_order_release);
}

static bool has_room(const struct log_inlet *inlet, uint64_t next)
{
	return next - inlet->tail <= inlet->capacity;
}

void *log_inlet_reserve(struct log_inlet *inlet, size_t length)
{
	uint64_t need = taken_by(length);
	ensure(length <= LOG_RECORD_MOST);
	if (unlikely(inlet->capacity != inlet->wanted)) {
		inlet->tail = atomic_load_explicit(&inlet->ring->tail, memory_order_acquire);
		if (inlet->tail == inlet->head)
			set_capacity(inlet, inlet->wanted);
	}
	uint64_t offset = inlet->head & (inlet->capacity - 1), before_end = inlet->capacity - offset;
	bool wrap = need > before_end;
	uint64_t next = inlet->head + need + (wrap ? before_end : 0);
	if (unlikely(!has_room(inlet, next))) {
		inlet->tail = atomic_load_explicit(&inlet->ring->tail, memory_order_acquire);
		if (!has_room(inlet, next))
			return NULL;
	}
	char *bytes = inlet->ring->bytes;
	if (unlikely(wrap)) {
		memcpy(bytes + offset, &(struct record_head){ .length = TO_THE_START }, sizeof(struct record_head));
		offset = 0;
	}
	memcpy(bytes + offset, &(struct record_head){ .length = (uint32_t)length }, sizeof(struct record_head));
	inlet->next = next;
	return bytes + offset + sizeof(struct record_head);
}

bool log_inlet_commit(struct log_inlet *inlet)
{
	uint64_t half = inlet->capacity / 2, before = inlet->head - inlet->tail;
	inlet->head = inlet->next;
	atomic_store_explicit(&inlet->ring->head, inlet->head, memory_order_release);
	if (likely(inlet->head - inlet->tail < half))
		return false;
	/* By what is known of tail; only then is it worth to look. */
	uint64_t grown = inlet->head - inlet->tail - before;
	inlet->tail = atomic_load_explicit(&inlet->ring->tail, memory_order_acquire);
	uint64_t now = inlet->head - inlet->tail;
	return now >= half && now - grown < half;
}

/* --- the consumer ------------------------------------------------------------------------------------------------------------ */

uint64_t log_ring_position(const struct log_ring *ring)
{
	return atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

int log_ring_read(const struct log_ring *ring, uint32_t most, uint64_t *position, void *out, size_t size)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire), at = *position;
	uint32_t capacity = atomic_load_explicit(&ring->capacity, memory_order_relaxed);
	if (head == at)
		return -EAGAIN;
	if (!is_capacity(capacity, most) || at % STEP != 0)
		return -EBADMSG;
	for (int turn = 0; turn < 2; turn++) {
		uint64_t left = head - at, offset = at & (capacity - 1), before_end = capacity - offset;
		struct record_head record;
		if (left > capacity || left < sizeof record)
			return -EBADMSG;
		memcpy(&record, ring->bytes + offset, sizeof record);
		if (record.length == TO_THE_START) {
			at += before_end;
			continue;
		}
		uint64_t need = taken_by(record.length);
		if (record.length > size || record.length > LOG_RECORD_MOST || need > left || need > before_end)
			return -EBADMSG;
		memcpy(out, ring->bytes + offset + sizeof record, record.length);
		*position = at + need;
		return (int)record.length;
	}
	return -EBADMSG;
}

void log_ring_release(struct log_ring *ring, uint64_t position)
{
	atomic_store_explicit(&ring->tail, position, memory_order_release);
}

uint64_t log_ring_end(const struct log_ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_acquire);
}
