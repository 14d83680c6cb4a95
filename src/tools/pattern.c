#include "tools/pattern.h"

void pattern_fill(struct pattern *pattern)
{
	for (size_t i = 0; i < sizeof pattern->bytes; i++) {
		size_t j = i % PATTERN_PERIOD;
		pattern->bytes[i] = (unsigned char)(j * 7 + j / 251);
	}
}

int pattern_iov(const struct pattern *pattern, uint64_t offset, uint64_t left, struct iovec *iov, int n)
{
	int used = 0;
	while (used < n && left > 0) {
		size_t at = (size_t)(offset % PATTERN_PERIOD);
		size_t size = sizeof pattern->bytes - at;
		if (size > left)
			size = (size_t)left;
		iov[used].iov_base = (void *)(uintptr_t)&pattern->bytes[at];
		iov[used].iov_len = size;
		used++;
		offset += size;
		left -= size;
	}
	return used;
}

uint64_t fnv1a_add(uint64_t hash, const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}
