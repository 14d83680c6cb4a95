#include "upstream/conditions.h"

#include <errno.h>
#include <string.h>

#include "shm/moment.h"

enum { SLOW_START_STEPS = 10, WEIGHT_MOST = UINT16_MAX };

int conditions_init(struct upstream *upstream, const struct upstream_places *places)
{
	const struct upstream_config *config = upstream->config;
	struct shm *shm = upstream->shm;
	struct ejection **members = calloc(config->n_servers, sizeof(struct ejection *));
	if (!members)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_servers; i++) {
		upstream->servers[i].condition = &shm->servers[places->servers[i]].condition;
		members[i] = &upstream->servers[i].condition->ejection;
	}
	upstream->members = members;
	upstream->rules = (struct condition_rules){
		.breaker = { .error_threshold = config->circuit_breaker.error_threshold,
		        .probes = config->circuit_breaker.probes,
		        .timeout_ns = config->circuit_breaker.timeout_ns },
		.outlier = { .failures = config->outlier.failures,
		        .max_percent = config->outlier.max_percent,
		        .ejection_ns = config->outlier.ejection_ns },
		.health = { .rise = config->health.rise, .fall = config->health.fall },
		.is_checked = config->health.type != HEALTH_TYPE_NONE,
		.slow_start_ns = config->slow_start_ns,
		.group = { .members = members, .n = (uint32_t)config->n_servers },
		.epoch = &shm->upstreams[places->row].epoch,
	};
	return 0;
}

void conditions_fini(struct upstream *upstream)
{
	free(upstream->members);
	upstream->members = NULL;
}

static uint32_t full_weight(const struct server *server)
{
	const struct override override = condition_override(server->condition);
	return override.has_weight ? override.weight : server->weight;
}

/* A tenth of a small weight is nothing, so they are all multiplied where there is a slow start. */
static uint32_t scale_of(const struct upstream *upstream)
{
	uint32_t most = 0;
	if (!upstream->rules.slow_start_ns)
		return 1;
	for (size_t i = 0; i < upstream->config->n_servers; i++) {
		uint32_t weight = full_weight(&upstream->servers[i]);
		most = weight > most ? weight : most;
	}
	return most <= WEIGHT_MOST / SLOW_START_STEPS ? SLOW_START_STEPS : 1;
}

/* It grows in whole steps, so that at any time all workers have the same one. */
static uint32_t weight_now(const struct upstream *upstream, const struct server *server, uint32_t scale, uint64_t now_ns)
{
	uint64_t duration_ns = upstream->rules.slow_start_ns, step_ns = duration_ns / SLOW_START_STEPS;
	uint32_t weight = full_weight(server) * scale;
	if (!duration_ns)
		return weight;
	uint64_t since_ns = condition_recovered_ns(server->condition, &upstream->rules, now_ns);
	uint64_t age_ns = moment_age_ns(since_ns, now_ns);
	if (age_ns < duration_ns && step_ns > 0)
		age_ns -= age_ns % step_ns;
	return slow_start_weight(weight, since_ns, since_ns + age_ns, duration_ns);
}

static bool set_weight(struct balance_entry *entry, uint32_t weight)
{
	bool changed = entry->weight != weight;
	entry->weight = weight;
	return changed;
}

static bool set_disabled(struct balance_entry *entry, bool disabled)
{
	bool changed = entry->disabled != disabled;
	entry->disabled = disabled;
	return changed;
}

/* What changed in place. Until the master published the settings there are others there, or none. True when balance has to know. */
static bool follow_settings(struct upstream *upstream, struct server *server)
{
	struct balance_entry *entry = &upstream->entries[upstream_index(upstream, server)];
	const struct shm_server *shared = server->shared;
	if (!upstream->all->published)
		return false;
	uint32_t flags = atomic_load_explicit(&shared->flags, memory_order_relaxed);
	bool was_backup = entry->backup;
	server->weight = atomic_load_explicit(&shared->weight, memory_order_relaxed);
	server->soft_limit = atomic_load_explicit(&shared->soft_limit, memory_order_relaxed);
	server->disabled = (flags & SHM_SERVER_DISABLED) != 0;
	entry->backup = (flags & SHM_SERVER_BACKUP) != 0;
	return entry->backup != was_backup;
}

/* Nobody will take them. */
static void close_hot(struct server *server)
{
	while (server->pool && pool_evict(server->pool))
		;
}

/* Its sessions are to be ended if it went down just now. */
static void note_health(struct upstream *upstream, struct server *server)
{
	bool was_down = server->is_down;
	server->is_down = upstream->rules.is_checked && health_state(&server->condition->health) == HEALTH_DOWN;
	if (!server->is_down || was_down || upstream->config->on_down != ON_DOWN_CLOSE)
		return;
	server->fell = true;
	upstream->all->fell = true;
}

/* Settings, usabilities and weights. True when a weight changed, or who is a backup. */
static bool look_at_all(struct upstream *upstream, uint64_t now_ns)
{
	const struct condition_rules *rules = &upstream->rules;
	bool changed = false;
	for (size_t i = 0; i < upstream->config->n_servers; i++)
		changed |= follow_settings(upstream, &upstream->servers[i]);
	uint32_t scale = scale_of(upstream);
	upstream->weight_scale = scale;
	upstream->n_usable = 0;
	memset(upstream->unusable, 0, sizeof upstream->unusable);
	upstream->due_ns = UINT64_MAX;
	for (size_t i = 0; i < upstream->config->n_servers; i++) {
		struct server *server = &upstream->servers[i];
		uint64_t due_ns = condition_due_ns(server->condition, rules, now_ns);
		server->usability = condition_usable(server->condition, rules, server->disabled, now_ns);
		changed |= set_weight(&upstream->entries[i], weight_now(upstream, server, scale, now_ns));
		if (server->usability == USABILITY_DISABLED || upstream->entries[i].weight == 0)
			close_hot(server);
		upstream->n_usable += server->usability == USABILITY_USABLE && upstream->entries[i].weight > 0;
		if (upstream->unusable[server->usability] < UINT8_MAX)
			upstream->unusable[server->usability]++;
		upstream->due_ns = due_ns < upstream->due_ns ? due_ns : upstream->due_ns;
		note_health(upstream, server);
	}
	return changed;
}

static bool can_be_chosen(const struct upstream *upstream, const struct server *server)
{
	if (server->usability == USABILITY_USABLE)
		return true;
	return upstream->any && server->usability != USABILITY_DISABLED && server->usability != USABILITY_DRAINING;
}

void conditions_refresh(struct upstream *upstream, uint64_t now_ns)
{
	/* Before the look: what changes during it is looked at once more. */
	upstream->seen_epoch = atomic_load_explicit(upstream->rules.epoch, memory_order_acquire);
	bool changed = look_at_all(upstream, now_ns);
	upstream->any = upstream->n_usable == 0 && upstream->config->when_all_down == ALL_DOWN_ANY;
	for (size_t i = 0; i < upstream->config->n_servers; i++)
		changed |= set_disabled(&upstream->entries[i], !can_be_chosen(upstream, &upstream->servers[i]));
	if (!changed)
		return;
	balance_update(&upstream->balance);
	upstream_busy(upstream);
}
