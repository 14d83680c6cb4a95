/* Half of the rules allow, half deny; three of four peers are of a rule, the others of anywhere. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "micro.h"
#include "policy/access.h"

enum { PEERS = 1 << 16 };

struct peer {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
};

struct access_bench {
	struct access *access;
	struct cidr *rules;
	struct peer *peers;
	uint32_t n, next;
};

/* Prefixes as long as they are in real lists: half of them single hosts (IPv4) or networks of a customer (IPv6). */
static struct cidr random_rule(uint32_t family)
{
	struct cidr rule = { .family = (uint8_t)family };
	uint32_t half = family == AF_INET ? 16 : 32, bits = half + micro_random() % (half + 1);

	if (micro_random() % 2 == 0)
		bits = 2 * half;
	for (uint32_t i = 0; i < bits; i++)
		if (micro_random() % 2 == 0)
			rule.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
	if (family == AF_INET6)
		rule.bytes[0] = 0x20 | (rule.bytes[0] & 0x0f);
	rule.bits = (uint8_t)bits;
	return rule;
}

static struct peer random_peer(const struct cidr *rule)
{
	struct peer peer = { .sa.sa_family = rule->family };
	bool anywhere = micro_random() % 4 == 0;
	uint8_t bytes[16];

	for (uint32_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)micro_random();
	for (uint32_t i = 0; i < rule->bits && !anywhere; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8);
		bytes[i / 8] = (uint8_t)((bytes[i / 8] & ~bit) | (rule->bytes[i / 8] & bit));
	}
	if (rule->family == AF_INET)
		memcpy(&peer.in.sin_addr, bytes, sizeof peer.in.sin_addr);
	else
		memcpy(&peer.in6.sin6_addr, bytes, sizeof peer.in6.sin6_addr);
	return peer;
}

static int make(const struct access_bench *bench, struct access **out)
{
	uint32_t n_allow = bench->n / 2;

	return access_new(bench->rules, n_allow, bench->rules + n_allow, bench->n - n_allow, out);
}

void *access_begin(uint32_t n, uint32_t kind)
{
	struct access_bench *bench = micro_memory(1, sizeof *bench);

	bench->n = n;
	bench->rules = micro_memory(n, sizeof *bench->rules);
	bench->peers = micro_memory(PEERS, sizeof *bench->peers);
	for (uint32_t i = 0; i < n; i++)
		bench->rules[i] = random_rule(kind);
	for (uint32_t i = 0; i < PEERS; i++)
		bench->peers[i] = random_peer(&bench->rules[micro_random() % n]);
	errno = -make(bench, &bench->access);
	if (errno == 0)
		return bench;
	access_end(bench);
	return NULL;
}

uint64_t access_run(void *state, uint64_t times)
{
	struct access_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		struct access_verdict verdict = access_check(bench->access, &bench->peers[bench->next++ % PEERS].sa);
		sum += verdict.allowed + verdict.rule;
	}
	micro_sink = sum;
	return times;
}

uint64_t access_make_run(void *state, uint64_t times)
{
	const struct access_bench *bench = state;
	struct access *made;
	uint64_t done = 0;

	for (; done < times; done += bench->n) {
		ensure(make(bench, &made) == 0);
		access_free(made);
	}
	return done;
}

void access_end(void *state)
{
	struct access_bench *bench = state;

	access_free(bench->access);
	free(bench->rules);
	free(bench->peers);
	free(bench);
}
