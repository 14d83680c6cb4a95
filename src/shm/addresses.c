#include "shm/addresses.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct sockaddr_in6) <= ADDRESSES_WORDS * sizeof(uint64_t), "an address has room");

/* A seqlock of one writer; see limit.c for the fences. */
void addresses_publish(struct addresses *addresses, const struct addr *addrs, size_t n)
{
	uint32_t sequence = atomic_load_explicit(&addresses->sequence, memory_order_relaxed) | 1;
	atomic_store_explicit(&addresses->sequence, sequence, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	uint32_t count = 0;
	for (size_t i = 0; i < n && count < ADDRESSES_MOST; i++) {
		uint64_t words[ADDRESSES_WORDS] = { 0 };
		if (addrs[i].length == 0 || addrs[i].length > sizeof words)
			continue;
		memcpy(words, &addrs[i].sa, addrs[i].length);
		for (size_t j = 0; j < ADDRESSES_WORDS; j++)
			atomic_store_explicit(&addresses->words[count][j], words[j], memory_order_relaxed);
		count++;
	}
	atomic_store_explicit(&addresses->n, count, memory_order_relaxed);
	uint32_t next = sequence + 1;
	atomic_store_explicit(&addresses->sequence, next ? next : 2, memory_order_release);
}

static void unpack(const struct addresses *addresses, size_t at, struct addr *out)
{
	uint64_t words[ADDRESSES_WORDS];
	for (size_t j = 0; j < ADDRESSES_WORDS; j++)
		words[j] = atomic_load_explicit(&addresses->words[at][j], memory_order_relaxed);
	struct sockaddr_in6 sa;
	memcpy(&sa, words, sizeof sa);
	addr_from_sockaddr(out, (const struct sockaddr *)&sa, sa.sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof sa);
}

bool addresses_read(const struct addresses *addresses, uint32_t *sequence, struct addr *out, size_t *n)
{
	struct addr found[ADDRESSES_MOST];
	uint32_t before = atomic_load_explicit(&addresses->sequence, memory_order_acquire);
	if (before == *sequence || before % 2 != 0)
		return false;
	uint32_t count = atomic_load_explicit(&addresses->n, memory_order_relaxed);
	if (count == 0 || count > ADDRESSES_MOST)
		return false;
	for (size_t i = 0; i < count; i++)
		unpack(addresses, i, &found[i]);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&addresses->sequence, memory_order_relaxed) != before)
		return false;
	memcpy(out, found, count * sizeof *out);
	*n = count;
	*sequence = before;
	return true;
}
