#include "shm/recorder.h"

#include <sys/socket.h>

enum { RECORD_WORDS = sizeof(struct record) / sizeof(uint64_t), MAPPED_BYTES = 12 };

const char *record_kind_name(enum record_kind kind)
{
	static const char *const names[] = {
#define X(id, name) [RECORD_##id] = name,
		RECORD_KINDS(X)
#undef X
	};
	return kind < N_RECORD_KINDS ? names[kind] : "unknown";
}

/* The size that a ring may have, or 0. */
static uint32_t checked(uint32_t size)
{
	const uint32_t least = RECORDER_BYTES_LEAST / sizeof(struct record), most = RECORDER_BYTES_MOST / sizeof(struct record);
	return size >= least && size <= most && (size & (size - 1)) == 0 ? size : 0;
}

static void open_ring(struct recorder *out, struct recorder_head *shared, void *ring, uint32_t size)
{
	*out = (struct recorder){
		.shared = shared, .ring = ring, .next = atomic_load_explicit(&shared->head, memory_order_relaxed), .size = size
	};
}

uint64_t recorder_bytes_used(uint64_t bytes)
{
	uint64_t used = RECORDER_BYTES_LEAST;
	while (used < bytes && used < RECORDER_BYTES_MOST)
		used *= 2;
	return used;
}

void recorder_begin(struct recorder *out, struct recorder_head *shared, void *ring, uint64_t bytes)
{
	uint32_t size = bytes > 0 ? (uint32_t)(recorder_bytes_used(bytes) / sizeof(struct record)) : 0;
	open_ring(out, shared, ring, size);
	atomic_store_explicit(&shared->size, size, memory_order_release);
}

void recorder_go_on(struct recorder *out, struct recorder_head *shared, void *ring)
{
	open_ring(out, shared, ring, checked(atomic_load_explicit(&shared->size, memory_order_relaxed)));
}

uint64_t recorder_oldest(const struct recorder_head *shared, uint32_t *n)
{
	uint64_t head = atomic_load_explicit(&shared->head, memory_order_acquire);
	uint32_t size = checked(atomic_load_explicit(&shared->size, memory_order_acquire));
	*n = head < size ? (uint32_t)head : size ? size - 1 : 0; /* the next one is perhaps being written */
	return head - *n;
}

bool recorder_read(const struct recorder_head *shared, const void *ring, uint64_t number, struct record *out)
{
	uint32_t size = checked(atomic_load_explicit(&shared->size, memory_order_acquire));
	if (size == 0 || number >= atomic_load_explicit(&shared->head, memory_order_acquire))
		return false;
	const _Atomic uint64_t *from = (const _Atomic uint64_t *)ring + (number & (size - 1)) * RECORD_WORDS;
	uint64_t words[RECORD_WORDS];
	for (int i = 0; i < RECORD_WORDS; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&shared->head, memory_order_relaxed) - number >= size)
		return false;
	memcpy(out, words, sizeof *out);
	return out->sequence == (uint32_t)number && out->kind > RECORD_NONE && out->kind < N_RECORD_KINDS;
}

void record_address_of(struct record_address *out, const struct sockaddr_in6 *peer)
{
	static const uint8_t mapped[MAPPED_BYTES] = { [10] = 0xff, [11] = 0xff };
	*out = (struct record_address){ .family = 0 };
	if (peer->sin6_family == AF_UNSPEC)
		return;
	out->port = ntohs(peer->sin6_port); /* at the same place in both families */
	if (peer->sin6_family == AF_INET) {
		out->family = 4;
		memcpy(out->bytes, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
	} else if (memcmp(&peer->sin6_addr, mapped, sizeof mapped) == 0) {
		out->family = 4;
		memcpy(out->bytes, (const uint8_t *)&peer->sin6_addr + MAPPED_BYTES, 4);
	} else {
		out->family = 6;
		memcpy(out->bytes, &peer->sin6_addr, sizeof out->bytes);
	}
}
