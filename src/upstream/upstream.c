#include "upstream/upstream.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "upstream/conditions.h"

/* Slots of a table to look at in a turn: some tens of microseconds. */
enum { WORK_A_TURN = 16384 };

uint32_t upstream_load(const struct upstream *upstream, uint32_t index)
{
	const struct server *server = &upstream->servers[index];
	/* Those that wait for a client are no load; of the other workers' ones this one knows nothing. */
	uint32_t used = limit_used(upstream->shm, server->limit);
	uint32_t hot = server->pool ? pool_holds(server->pool) + pool_boxed(server->pool) : 0;
	return used > hot ? used - hot : 0;
}

static uint32_t load_of_entry(const void *arg, uint32_t entry)
{
	return upstream_load(arg, entry);
}

static enum balance_algorithm algorithm_of(const struct upstream_config *config)
{
	static const enum balance_algorithm algorithms[] = { [BALANCE_ROUND_ROBIN] = BALANCE_BY_ROUND_ROBIN,
		[BALANCE_LEAST_CONNECTIONS] = BALANCE_BY_LEAST_CONNECTIONS,
		[BALANCE_P2C] = BALANCE_BY_P2C,
		[BALANCE_RANDOM] = BALANCE_BY_RANDOM,
		[BALANCE_CONSISTENT_HASH] = BALANCE_BY_CONSISTENT_HASH };
	static_assert(ARRAY_LEN(algorithms) == BALANCE_ALGORITHMS, "the words of the settings and the algorithms");
	return algorithms[config->balance];
}

static int init_pools(struct upstream *upstream, const struct upstream_places *places)
{
	const struct upstream_config *config = upstream->config;
	if (config->pool.warm == 0 && config->pool.keep == 0)
		return 0;
	upstream->pools = calloc(config->n_servers, sizeof *upstream->pools);
	if (!upstream->pools)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_servers; i++) {
		upstream->servers[i].pool = &upstream->pools[i];
		pool_init(&upstream->pools[i], upstream->all->pools, &upstream->servers[i], config, &upstream->rules,
		        &upstream->shm->servers[places->servers[i]], places->boxes ? &places->boxes[i] : NULL);
	}
	return 0;
}

static int init_server(struct upstream *upstream, size_t index, uint32_t row)
{
	const struct server_config *config = &upstream->config->servers[index];
	upstream->servers[index] = (struct server){ .config = config,
		.upstream = upstream,
		.shared = &upstream->shm->servers[row],
		.weight = config->weight,
		.soft_limit = config->soft_limit,
		.disabled = config->disabled,
		.row = shm_server_row(upstream->shm, upstream->seat, row),
		.limit = limit_server(upstream->shm, row),
		.usability = config->disabled ? USABILITY_DISABLED : USABILITY_USABLE };
	upstream->entries[index] = (struct balance_entry){ .name_hash = hash_xxh64(config->name, strlen(config->name), 0),
		.weight = config->weight,
		.backup = config->backup,
		.disabled = config->disabled };
	return server_init_addrs(&upstream->servers[index], &upstream->shm->servers[row].addresses);
}

static int compare_names(const void *left, const void *right)
{
	const struct balance_name *a = left, *b = right;
	return a->hash < b->hash ? -1 : a->hash > b->hash;
}

static int init_names(struct upstream *upstream)
{
	size_t n = upstream->config->n_servers;
	upstream->by_name = calloc(n, sizeof *upstream->by_name);
	if (!upstream->by_name)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		upstream->by_name[i] = (struct balance_name){ .hash = upstream->entries[i].name_hash, .entry = i };
	qsort(upstream->by_name, n, sizeof *upstream->by_name, compare_names);
	return 0;
}

int upstream_find(const struct upstream *upstream, uint64_t name_hash)
{
	const struct balance_name wanted = { .hash = name_hash };
	const struct balance_name *found = bsearch(&wanted, upstream->by_name, upstream->config->n_servers, sizeof wanted, compare_names);
	return found ? (int)found->entry : -1;
}

/* The number is the upper half of the hash by which they are sorted. */
int upstream_find_number(struct upstream *upstream, uint32_t number)
{
	size_t first = 0, n = upstream->config->n_servers;
	if (!upstream->by_name && init_names(upstream))
		return -1;
	while (n > 0) {
		size_t half = n / 2;
		bool before = upstream->by_name[first + half].hash >> 32 < number;
		first += before ? half + 1 : 0;
		n = before ? n - half - 1 : half;
	}
	if (first == upstream->config->n_servers || upstream->by_name[first].hash >> 32 != number)
		return -1;
	return (int)upstream->by_name[first].entry;
}

static void init_line(struct upstream *upstream)
{
	const struct upstream_config *config = upstream->config;
	upstream->has_line = config->queue.size > 0 || config->connect_rate_per_s > 0;
	upstream->connect_rate = &upstream->shm->upstreams[upstream->row].connect_rate;
	upstream->connect_max = rate_limit_make(config->connect_rate_per_s, config->connect_burst, 1);
	line_init(&upstream->line, upstream->all->lines, upstream->row, config->pool.warm > 0 || config->pool.keep > 0);
}

int upstream_init(
        struct upstream *upstream, struct upstreams *all, const struct upstream_config *config, const struct upstream_places *places)
{
	size_t n = config->n_servers;
	*upstream = (struct upstream){
		.config = config, .all = all, .shm = all->shm, .seat = all->seat, .row = places->row, .weight_scale = 1
	};
	upstream->servers = calloc(n, sizeof *upstream->servers);
	upstream->entries = calloc(n, sizeof *upstream->entries);
	int error = upstream->servers && upstream->entries ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < n; i++)
		error = init_server(upstream, i, places->servers[i]);
	if (!error)
		error = conditions_init(upstream, places);
	if (!error) {
		uint64_t seed = hash_xxh64(config->name, strlen(config->name), (uint64_t)all->seat << 32 | all->start);
		error = balance_init(&upstream->balance, algorithm_of(config), upstream->entries, (uint32_t)n, all->start, seed,
		        load_of_entry, upstream);
	}
	if (!error && config->affinity.ttl_ns)
		error = init_names(upstream);
	init_line(upstream);
	if (!error)
		error = init_pools(upstream, places);
	if (error)
		upstream_fini(upstream);
	return error;
}

void upstream_fini(struct upstream *upstream)
{
	balance_fini(&upstream->balance);
	conditions_fini(upstream);
	for (size_t i = 0; upstream->servers && i < upstream->config->n_servers; i++)
		free(upstream->servers[i].name);
	free(upstream->pools);
	free(upstream->by_name);
	free(upstream->servers);
	free(upstream->entries);
	*upstream = (struct upstream){ 0 };
}

void upstream_follow(struct upstream *upstream, uint64_t now_ns)
{
	conditions_refresh(upstream, now_ns); /* what changed while the worker came up moved the epoch before it looked */
}

void upstream_look(struct upstream *upstream, uint64_t now_ns)
{
	conditions_notice(upstream, now_ns);
}

void upstream_busy(struct upstream *upstream)
{
	if (upstream->busy)
		return;
	upstream->busy = true;
	upstream->next_busy = upstream->all->busy;
	upstream->all->busy = upstream;
}

bool upstreams_work(struct upstreams *all)
{
	struct upstream *upstream = all->busy;
	if (likely(!upstream))
		return false;
	if (!balance_work(&upstream->balance, WORK_A_TURN)) {
		upstream->busy = false;
		all->busy = upstream->next_busy;
	}
	return all->busy != NULL;
}

void upstream_report(struct upstream *upstream, struct server *server, struct breaker_pass *pass, bool ok, uint64_t now_ns)
{
	if (upstream_judges(upstream))
		condition_report(server->condition, &upstream->rules, pass, ok, now_ns);
}

void upstream_abandon(struct upstream *upstream, struct server *server, struct breaker_pass *pass)
{
	if (upstream_judges(upstream))
		condition_abandon(server->condition, &upstream->rules, pass);
}

void upstream_leave_fallen(struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->config->n_servers; i++) {
		struct server *server = &upstream->servers[i];
		server->leaving = server->fell;
		server->fell = false;
		while (server->leaving && server->pool && pool_evict(server->pool))
			;
	}
}

void upstream_left_fallen(struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->config->n_servers; i++)
		upstream->servers[i].leaving = false;
}

void upstream_free_place(struct server *server)
{
	struct upstream *upstream = server->upstream;
	limit_release(upstream->shm, upstream->seat, server->limit);
	upstream->searched_ns = 0;
	line_freed(&upstream->line);
}

void upstream_give_back(struct upstream *upstream, struct server *server)
{
	upstream_free_place(server);
	balance_changed(&upstream->balance, upstream_index(upstream, server));
}

bool upstream_keep(struct upstream *upstream, struct server *server, const struct hot_conn *hot)
{
	bool kept = pool_give_back(server->pool, hot);
	if (kept) {
		balance_changed(&upstream->balance, upstream_index(upstream, server));
		line_freed(&upstream->line);
	}
	return kept;
}

bool upstream_spare(struct line *line)
{
	struct upstream *upstream = container_of(line, struct upstream, line);
	for (size_t i = 0; upstream->pools && i < upstream->config->n_servers; i++)
		if (pool_evict(&upstream->pools[i]))
			return true;
	return false;
}

/* --- connect_rate ------------------------------------------------------------------------------------------------------------ */

bool upstream_may_dial(struct upstream *upstream, uint64_t now_ns)
{
	return rate_take(upstream->connect_rate, &upstream->connect_max, now_ns, NULL);
}

uint64_t upstream_dial_ns(const struct upstream *upstream, uint64_t now_ns)
{
	return now_ns + rate_wait_ns(upstream->connect_rate, &upstream->connect_max, now_ns);
}
