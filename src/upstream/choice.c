/* The choice of a server for one client. What balance chooses is asked for a place, and its breaker for leave; who has none of them is left
 * out, and balance chooses again, up to LOOKS_MOST times in all. Where many servers are full it may miss the few that are not: then they
 * are looked at one after the other, so many in a turn of the loop and no more. */
#include <netinet/in.h>
#include <string.h>

#include "base/hash.h"
#include "upstream/conditions.h"

enum { LOOKS_MOST = BALANCE_MAX_TRIED, SCAN_MOST = 1024 };

/* What is known while a server is looked for. */
struct look {
	struct upstream *upstream;
	const struct upstream_client *client;
	uint64_t key;
	uint32_t n; /* servers in tried: first the client's own, then those that were found wanting */
	uint16_t tried[LOOKS_MOST];
	uint8_t full;    /* so many of them had no place */
	uint8_t later;   /* had one, but may not be dialled now */
	uint8_t refused; /* their breakers let nobody through */
	enum choice_way way;
	int over; /* the one that is least beyond its soft limit, of those that are; -1 = none */
};

static_assert(N_USABILITIES <= sizeof((struct record_choice){ 0 }.unusable), "a count for each");
static_assert(CONFIG_MAX_RETRIES + 1 <= LOOKS_MOST / 2, "there are looks left after all retries");

/* False for a unix socket. */
static bool address_of(const struct upstream_client *client, uint32_t scope, struct cell_key *out)
{
	struct addr addr;
	addr_from_sockaddr(&addr, (const struct sockaddr *)client->peer, client->peer->sin6_family ? sizeof *client->peer : 0);
	return cell_key_from_addr(&addr, 32, 128, scope, out);
}

/* What consistent_hash goes by: the same in every worker, and after a restart. Clients without an address are spread. */
static uint64_t key_of(struct upstream *upstream, const struct upstream_client *client)
{
	struct cell_key key;
	if (upstream->config->hash_key == HASH_KEY_SNI && client->name_hash)
		return client->name_hash;
	if (!address_of(client, 0, &key))
		return hash_next(&upstream->addressless);
	/* The port stands at the same place in both families. */
	bool with_port = upstream->config->hash_key == HASH_KEY_ADDRESS_PORT;
	const uint64_t parts[] = { key.high, key.low, with_port ? ntohs(client->peer->sin6_port) : 0 };
	return hash_xxh64(parts, sizeof parts, 0);
}

static bool is_among(int chosen, const uint16_t *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (list[i] == chosen)
			return true;
	return false;
}

/* A server that can be used, as far as is known, and was not found wanting in this look; one that failed for this client only when there is
 * no other. -1 = there is none. */
static int choose(struct look *look)
{
	struct balance *balance = &look->upstream->balance;
	uint32_t failed = look->client->n_tried, wanting = look->n - failed;
	int chosen = balance_choose(balance, look->key, look->tried, look->n);
	if (chosen < 0 || !is_among(chosen, look->tried, look->n))
		return chosen;
	bool can_wait = look->later || (look->full && look->upstream->config->queue.size > 0);
	if (look->over >= 0 || can_wait)
		return -1; /* that one, or a place in line, is better than one that failed */
	if (failed > 0 && is_among(chosen, look->tried + failed, wanting))
		chosen = balance_choose(balance, look->key, look->tried + failed, wanting);
	return is_among(chosen, look->tried + failed, wanting) ? -1 : chosen;
}

static void leave_out(struct look *look, int chosen)
{
	look->tried[look->n++] = (uint16_t)chosen;
}

/* --- places ------------------------------------------------------------------------------------------------------------------ */

static bool has_place(const struct upstream *upstream, const struct server *server)
{
	uint32_t max = atomic_load_explicit(&shm_limit(upstream->shm, server->limit)->max, memory_order_relaxed);
	return max == 0 || limit_used(upstream->shm, server->limit) < max ||
	       (server->pool && pool_holds(server->pool) + pool_boxed(server->pool) > 0);
}

/* One that is ready, or a place for one that is not. A probe shall tell whether the server takes new ones. */
static bool take_place(struct look *look, struct server *server, bool probe, struct hot_conn *hot)
{
	struct upstream *upstream = look->upstream;
	if (!look->client->fresh && !probe && server->pool && pool_take(server->pool, hot))
		return true; /* which comes with its place in the limit */
	if (!upstream_may_dial(upstream, look->client->now_ns)) {
		look->later++;
		return false;
	}
	if (limit_reserve(upstream->shm, upstream->seat, server->limit))
		return true;
	/* Clients come before those that wait for clients. */
	if (server->pool && pool_evict(server->pool) && limit_reserve(upstream->shm, upstream->seat, server->limit))
		return true;
	rate_give_back(upstream->connect_rate, &upstream->connect_max, 1);
	look->full++;
	return false;
}

static bool may_dial(const struct look *look)
{
	return upstream_dial_ns(look->upstream, look->client->now_ns) <= look->client->now_ns;
}

static bool may_be_ready(const struct look *look, const struct server *server)
{
	return !look->client->fresh && server->pool && (pool_holds(server->pool) > 0 || server->pool->box);
}

static bool try_server(struct look *look, int chosen, struct upstream_hold *out)
{
	struct upstream *upstream = look->upstream;
	struct server *server = &upstream->servers[chosen];
	struct upstream_hold hold = { .server = server };
	if (!has_place(upstream, server)) { /* before it is asked for a probe */
		look->full++;
		return false;
	}
	if (!may_dial(look) && !may_be_ready(look, server)) {
		look->later++;
		return false;
	}
	if (!upstream->any && upstream_judges(upstream) &&
	        condition_ask(server->condition, &upstream->rules, look->client->now_ns, &hold.pass) == BREAKER_REFUSE) {
		look->refused++;
		return false;
	}
	if (!take_place(look, server, hold.pass.verdict == BREAKER_PROBE, &hold.hot)) {
		upstream_abandon(upstream, server, &hold.pass);
		return false;
	}
	balance_changed(&upstream->balance, (uint32_t)chosen);
	*out = hold;
	return true;
}

/* --- soft limits ------------------------------------------------------------------------------------------------------------- */

static bool is_beyond(const struct upstream *upstream, int chosen)
{
	uint32_t soft = upstream->servers[chosen].soft_limit;
	return soft > 0 && upstream_load(upstream, (uint32_t)chosen) >= soft;
}

/* By connections for each one that it should have. */
static bool is_less_beyond(const struct upstream *upstream, int one, int other)
{
	uint64_t one_soft = upstream->servers[one].soft_limit, other_soft = upstream->servers[other].soft_limit;
	return upstream_load(upstream, (uint32_t)one) * other_soft < upstream_load(upstream, (uint32_t)other) * one_soft;
}

/* Others are looked for first. True when it is one of those that are beyond. */
static bool put_off(struct look *look, int chosen)
{
	if (!is_beyond(look->upstream, chosen))
		return false;
	if (look->over < 0 || is_less_beyond(look->upstream, chosen, look->over))
		look->over = chosen;
	return true;
}

/* --- affinity ---------------------------------------------------------------------------------------------------------------- */

static bool may_be_kept(const struct look *look, int chosen)
{
	const struct upstream *upstream = look->upstream;
	bool too_good = upstream->entries[chosen].backup && upstream->balance.n_primaries > 0;
	return !too_good && !is_among(chosen, look->tried, look->n);
}

/* The server that the client had last, when it may have it again. -1 = none. One for the worst case is left again as soon as others are
 * there. */
static int remembered(const struct look *look)
{
	struct upstream *upstream = look->upstream;
	struct cell_key key;
	uint64_t name_hash;
	if (!address_of(look->client, upstream->row, &key) ||
	        !affinity_get(&upstream->shm->affinities, &key, upstream->config->affinity.ttl_ns, look->client->now_ns, &name_hash))
		return -1;
	int chosen = upstream_find(upstream, name_hash);
	const struct balance_entry *entry = chosen >= 0 ? &upstream->entries[chosen] : NULL;
	if (!entry || entry->disabled || entry->weight == 0) {
		affinity_drop(&upstream->shm->affinities, &key);
		return -1;
	}
	return may_be_kept(look, chosen) ? chosen : -1;
}

/* The server that its session was with in another worker. */
static int had_before(const struct look *look)
{
	struct upstream *upstream = look->upstream;
	int chosen = look->client->had ? upstream_find_number(upstream, look->client->had) : -1;
	const struct balance_entry *entry = chosen >= 0 ? &upstream->entries[chosen] : NULL;
	return entry && !entry->disabled && entry->weight > 0 && may_be_kept(look, chosen) ? chosen : -1;
}

void upstream_remember(struct upstream *upstream, const struct server *server, const struct upstream_client *client)
{
	struct cell_key key;
	uint64_t ttl_ns = upstream->config->affinity.ttl_ns;
	if (ttl_ns && address_of(client, upstream->row, &key))
		affinity_put(&upstream->shm->affinities, &key, upstream->entries[upstream_index(upstream, server)].name_hash, ttl_ns,
		        client->now_ns);
}

void upstream_forget(struct upstream *upstream, const struct server *server, const struct upstream_client *client)
{
	struct cell_key key;
	uint64_t ttl_ns = upstream->config->affinity.ttl_ns, name_hash;
	if (ttl_ns && address_of(client, upstream->row, &key) &&
	        affinity_get(&upstream->shm->affinities, &key, ttl_ns, client->now_ns, &name_hash) &&
	        name_hash == upstream->entries[upstream_index(upstream, server)].name_hash)
		affinity_drop(&upstream->shm->affinities, &key);
}

/* --- the choice -------------------------------------------------------------------------------------------------------------- */

/* Some server that has a place, from where the last search ended; a backup only when no other has. -1 = none, and until the next turn
 * nobody needs to ask again. */
static int find_place(struct look *look)
{
	struct upstream *upstream = look->upstream;
	size_t n = upstream->config->n_servers;
	int backup = -1;
	if (upstream->searched_ns == look->client->now_ns)
		return -1;
	for (uint32_t looks = 0; looks < SCAN_MOST && looks < n; looks++) {
		uint32_t index = upstream->search_at;
		const struct balance_entry *entry = &upstream->entries[index];
		upstream->search_at = index + 1 < n ? index + 1 : 0;
		if (entry->disabled || entry->weight == 0 || !has_place(upstream, &upstream->servers[index]) ||
		        is_among((int)index, look->tried, look->n))
			continue;
		if (!entry->backup)
			return (int)index;
		backup = backup < 0 ? (int)index : backup;
	}
	if (backup < 0)
		upstream->searched_ns = look->client->now_ns;
	return backup;
}

static bool take_by_balance(struct look *look, struct upstream_hold *out)
{
	int chosen;
	while (look->n < LOOKS_MOST && (chosen = choose(look)) >= 0) {
		if (!put_off(look, chosen) && try_server(look, chosen, out))
			return true;
		leave_out(look, chosen);
	}
	look->way = CHOICE_BEYOND_SOFT_LIMIT;
	return look->over >= 0 && try_server(look, look->over, out);
}

static bool take(struct look *look, struct upstream_hold *out)
{
	struct upstream *upstream = look->upstream;
	int chosen = had_before(look);
	look->way = CHOICE_AS_BEFORE;
	if (chosen < 0 && upstream->config->affinity.ttl_ns) {
		chosen = remembered(look);
		look->way = CHOICE_BY_AFFINITY;
	}
	if (chosen >= 0) {
		if (try_server(look, chosen, out))
			return true;
		leave_out(look, chosen);
	}
	look->way = CHOICE_BY_BALANCE;
	if (take_by_balance(look, out))
		return true;
	if (!look->full || look->n < LOOKS_MOST || upstream->config->n_servers <= LOOKS_MOST)
		return false;
	look->way = CHOICE_BY_SEARCH;
	chosen = find_place(look);
	return chosen >= 0 && try_server(look, chosen, out);
}

static uint16_t count16(size_t n)
{
	return n < UINT16_MAX ? (uint16_t)n : UINT16_MAX;
}

/* For the flight recorder: how it went, while it is known. */
static void note_choice(const struct look *look, const struct upstream_hold *taken)
{
	struct upstream *upstream = look->upstream;
	struct record_choice *last = &upstream->last;
	*last = (struct record_choice){ .way = (uint8_t)look->way,
		.balance = (uint8_t)upstream->config->balance,
		.any = upstream->any,
		.tried = (uint8_t)look->client->n_tried,
		.full = look->full,
		.not_yet = look->later,
		.refused = look->refused,
		.n_servers = count16(upstream->config->n_servers),
		.n_usable = count16(upstream->n_usable) };
	if (taken) {
		uint16_t index = upstream_index(upstream, taken->server);
		last->conn = taken->hot.conn ? taken->hot.used ? CHOICE_KEPT : CHOICE_WARM : CHOICE_NEW;
		last->probe = taken->pass.verdict == BREAKER_PROBE;
		last->weight = (uint16_t)((upstream->entries[index].weight + upstream->weight_scale - 1) / upstream->weight_scale);
		last->load = upstream_load(upstream, index);
	} else {
		memcpy(last->unusable, upstream->unusable, sizeof upstream->unusable);
	}
}

static enum upstream_choice look_for(struct upstream *upstream, const struct upstream_client *client, struct upstream_hold *out)
{
	struct look look = { .upstream = upstream, .client = client, .n = client->n_tried, .over = -1 };
	if (!upstream->pools && (upstream->n_usable > 0 || upstream->any) && !may_dial(&look)) {
		note_choice(&look, NULL);
		return UPSTREAM_LATER; /* whatever balance would choose */
	}
	for (uint32_t i = 0; i < client->n_tried; i++)
		look.tried[i] = client->tried[i];
	if (upstream->config->balance == BALANCE_CONSISTENT_HASH)
		look.key = key_of(upstream, client);
	if (take(&look, out)) {
		note_choice(&look, out);
		return UPSTREAM_TAKEN;
	}
	note_choice(&look, NULL);
	return look.later ? UPSTREAM_LATER : look.full ? UPSTREAM_FULL : UPSTREAM_NONE;
}

enum upstream_choice upstream_take(struct upstream *upstream, const struct upstream_client *client, struct upstream_hold *out)
{
	conditions_notice(upstream, client->now_ns);
	enum upstream_choice choice = look_for(upstream, client, out);
	if (likely(choice != UPSTREAM_NONE) || upstream->any || upstream->config->when_all_down != ALL_DOWN_ANY)
		return choice;
	/* The last ones were refused by their breakers: if nobody is left now, any will do. */
	conditions_refresh(upstream, client->now_ns);
	return upstream->any ? look_for(upstream, client, out) : choice;
}
