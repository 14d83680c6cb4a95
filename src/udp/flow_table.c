#include "udp/flow_table.h"

#include <assert.h>

#include "os/region.h"

static_assert(sizeof(struct flow_key) == 5 * sizeof(uint64_t), "no bytes that nobody sets");

void flow_key_make(struct flow_key *out, uint16_t listener, const struct sockaddr_in6 *peer, const struct local_address *local)
{
	uint8_t *client = (uint8_t *)out->client;
	*out = (struct flow_key){ .listener = listener, .port = peer->sin6_port }; /* which stands at the same place in both families */
	if (peer->sin6_family == AF_INET) {
		client[10] = client[11] = 0xff;
		memcpy(client + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, sizeof(struct in_addr));
	} else {
		memcpy(client, &peer->sin6_addr, sizeof peer->sin6_addr);
		out->scope = peer->sin6_scope_id;
	}
	if (!local)
		return;
	memcpy(out->local, &local->address, sizeof local->address);
	if (local->interface)
		out->scope = local->interface;
}

static inline uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static inline void round_of(uint64_t v[4])
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

uint64_t flow_hash(const uint64_t seed[2], const struct flow_key *key)
{
	uint64_t words[6], v[4] = { seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
		seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573) };
	memcpy(words, key, sizeof *key);
	words[5] = (uint64_t)sizeof *key << 56; /* the length, and no bytes that are left over */
	for (int i = 0; i < 6; i++) {
		v[3] ^= words[i];
		round_of(v);
		v[0] ^= words[i];
	}
	v[2] ^= 0xff;
	round_of(v);
	round_of(v);
	round_of(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t size_bytes(const struct flow_table *table)
{
	return ((uint64_t)table->mask + 1) * sizeof *table->places;
}

int flow_table_init(struct flow_table *table, uint32_t capacity)
{
	uint32_t places = 16;
	void *memory;
	while (places < 2 * (uint64_t)capacity && places < UINT32_C(1) << 31)
		places *= 2;
	*table = (struct flow_table){ .mask = places - 1 };
	int error = region_reserve(size_bytes(table), &memory);
	if (!error)
		table->places = memory;
	return error;
}

void flow_table_fini(struct flow_table *table)
{
	if (table->places)
		region_close(table->places, size_bytes(table));
	*table = (struct flow_table){ 0 };
}

void flow_table_add(struct flow_table *table, uint64_t hash, uint32_t flow)
{
	uint32_t at = flow_table_start(table, hash);
	while (table->places[at].flow)
		at = (at + 1) & table->mask;
	table->places[at] = (struct flow_place){ .hash = (uint32_t)hash, .flow = flow + 1 };
	table->n++;
}

void flow_table_remove(struct flow_table *table, uint64_t hash, uint32_t flow)
{
	uint32_t at = flow_table_start(table, hash);
	while (table->places[at].flow != flow + 1) {
		ensure(table->places[at].flow);
		at = (at + 1) & table->mask;
	}
	/* Whoever stands behind it, and may stand here, moves up: one whose search begins at the gap or before it, counted around. */
	uint32_t gap = at;
	for (;;) {
		at = (at + 1) & table->mask;
		struct flow_place place = table->places[at];
		if (!place.flow)
			break;
		if (((at - place.hash) & table->mask) < ((at - gap) & table->mask))
			continue;
		table->places[gap] = place;
		gap = at;
	}
	table->places[gap].flow = 0;
	table->n--;
}
