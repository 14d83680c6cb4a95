#include "base/hash.h"

#include <endian.h>
#include <string.h>

#define PRIME_1 UINT64_C(0x9e3779b185ebca87)
#define PRIME_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define PRIME_3 UINT64_C(0x165667b19e3779f9)
#define PRIME_4 UINT64_C(0x85ebca77c2b2ae63)
#define PRIME_5 UINT64_C(0x27d4eb2f165667c5)

static uint64_t rotated(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static uint64_t read_64(const unsigned char *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof value);
	return le64toh(value);
}

static uint32_t read_32(const unsigned char *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof value);
	return le32toh(value);
}

static uint64_t taken_in(uint64_t lane, uint64_t input)
{
	return rotated(lane + input * PRIME_2, 31) * PRIME_1;
}

static uint64_t hash_stripes(const unsigned char *at, size_t n, uint64_t seed)
{
	uint64_t lanes[4] = { seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1 };
	for (; n > 0; n--, at += 32)
		for (int i = 0; i < 4; i++)
			lanes[i] = taken_in(lanes[i], read_64(at + 8 * i));
	uint64_t hash = rotated(lanes[0], 1) + rotated(lanes[1], 7) + rotated(lanes[2], 12) + rotated(lanes[3], 18);
	for (int i = 0; i < 4; i++)
		hash = (hash ^ taken_in(0, lanes[i])) * PRIME_1 + PRIME_4;
	return hash;
}

uint64_t hash_xxh64(const void *bytes, size_t size, uint64_t seed)
{
	const unsigned char *at = bytes;
	size_t left = size % 32;
	uint64_t hash = size >= 32 ? hash_stripes(at, size / 32, seed) : seed + PRIME_5;
	at += size - left;
	hash += size;
	for (; left >= 8; left -= 8, at += 8)
		hash = rotated(hash ^ taken_in(0, read_64(at)), 27) * PRIME_1 + PRIME_4;
	if (left >= 4) {
		hash = rotated(hash ^ read_32(at) * PRIME_1, 23) * PRIME_2 + PRIME_3;
		left -= 4, at += 4;
	}
	for (; left > 0; left--, at++)
		hash = rotated(hash ^ *at * PRIME_5, 11) * PRIME_1;
	hash = (hash ^ hash >> 33) * PRIME_2;
	hash = (hash ^ hash >> 29) * PRIME_3;
	return hash ^ hash >> 32;
}
