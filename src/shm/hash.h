/* FNV-1a, 64 bits: the same value in every process and on every machine of one byte order. For names that the operator
 * chose, not for what a client sends. */
#ifndef AEGIS_SHM_HASH_H
#define AEGIS_SHM_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
