#include "shm/cell.h"

#include <endian.h>
#include <string.h>

#include "base/addr.h"

/* The first `bits` of 128. */
static void keep_prefix(struct cell_key *key, unsigned bits)
{
	if (bits < 64)
		key->high &= bits ? ~UINT64_C(0) << (64 - bits) : 0;
	if (bits < 128)
		key->low &= bits > 64 ? ~UINT64_C(0) << (128 - bits) : 0;
}

bool cell_key_from_addr(const struct addr *addr, unsigned prefix4, unsigned prefix6, uint32_t scope, struct cell_key *out)
{
	enum { IPV4_STARTS_AT = 96 };
	const uint64_t ipv4 = UINT64_C(0xffff00000000); /* ::ffff:0:0/96, in the lower half */
	struct cell_key key = { .scope = scope };
	if (!addr->length)
		return false;
	if (addr->sa.sa_family == AF_INET) {
		key.low = ipv4 | ntohl(addr->in.sin_addr.s_addr);
	} else if (addr->sa.sa_family == AF_INET6) {
		uint64_t halves[2];
		memcpy(halves, &addr->in6.sin6_addr, sizeof halves);
		key.high = be64toh(halves[0]);
		key.low = be64toh(halves[1]);
	} else {
		return false;
	}
	bool is_ipv4 = !key.high && key.low >> 32 == ipv4 >> 32;
	keep_prefix(&key, is_ipv4 ? IPV4_STARTS_AT + prefix4 : prefix6);
	*out = key;
	return true;
}

static inline uint64_t rotate(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

uint64_t cell_hash(const uint64_t seed[2], const struct cell_key *key)
{
	const uint64_t words[3] = { key->high, key->low, UINT64_C(20) << 56 | key->scope };
	uint64_t v[4] = { seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
		seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573) };
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		v[3] ^= words[i];
		sip_round(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
