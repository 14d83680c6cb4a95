#include "policy/door.h"

#include "base/addr.h"

enum { ADDRESS_BITS4 = 32, ADDRESS_BITS6 = 128, NETWORK_BITS6 = 64 };

int door_init(struct door *door, const struct listener_config *config, struct shm *shm, uint32_t row)
{
	*door = (struct door){ .pace = rate_limit_make(config->rate_limit.connections_per_second, config->rate_limit.burst, 1),
		.rate = config->rate_limit.per == RATE_LIMIT_PER_LISTENER ? &shm->listeners[row].rate : NULL,
		.rates = &shm->rates,
		.scope = row,
		.prefix4 = ADDRESS_BITS4,
		.prefix6 = config->rate_limit.per == RATE_LIMIT_PER_PREFIX ? NETWORK_BITS6 : ADDRESS_BITS6 };
	if (config->n_allow == 0 && config->n_deny == 0)
		return 0;
	return access_new(config->allow, (uint32_t)config->n_allow, config->deny, (uint32_t)config->n_deny, &door->access);
}

void door_fini(struct door *door)
{
	access_free(door->access);
	door->access = NULL;
}

static bool has_address(const struct sockaddr_in6 *peer)
{
	return peer->sin6_family != AF_UNSPEC;
}

static bool within_rate(const struct door *door, const struct sockaddr_in6 *peer, uint64_t now_ns)
{
	struct cell_key key;
	struct addr addr;
	if (door->rate)
		return rate_take(door->rate, &door->pace, now_ns, NULL);
	if (!has_address(peer))
		return true;
	addr_from_sockaddr(&addr, (const struct sockaddr *)peer, sizeof *peer);
	if (!cell_key_from_addr(&addr, door->prefix4, door->prefix6, door->scope, &key))
		return true;
	return rate_table_take(door->rates, &door->pace, &key, now_ns);
}

bool door_admit(const struct door *door, const struct sockaddr_in6 *peer, uint64_t now_ns, enum reason *why_not)
{
	if (unlikely(door->access) && has_address(peer) && !access_check(door->access, (const struct sockaddr *)peer).allowed) {
		*why_not = REASON_DENIED;
		return false;
	}
	if (unlikely(door->pace.interval) && !within_rate(door, peer, now_ns)) {
		*why_not = REASON_RATE_LIMITED;
		return false;
	}
	return true;
}
