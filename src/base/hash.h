/* Hashes for spreading things out: the same value in every process and on every machine, whatever its byte order. Who may choose what is
 * hashed, and knows the seed, can make values collide: use them where nothing but an even spread depends on it. */
#ifndef AEGIS_BASE_HASH_H
#define AEGIS_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH64 (xxHash fast digest algorithm, doc/xxhash_spec.md of github.com/Cyan4973/xxHash). */
uint64_t hash_xxh64(const void *bytes, size_t size, uint64_t seed);

/* Another value, each bit of which depends on every bit of this one; no two values have the same (the last step of SplitMix64: Steele, Lea,
 * Flood, "Fast splittable pseudorandom number generators", 2014). */
static inline uint64_t hash_mix(uint64_t value)
{
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

/* The next value of a sequence, which is SplitMix64. Any state will do to begin with. */
static inline uint64_t hash_next(uint64_t *state)
{
	return hash_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

#endif
