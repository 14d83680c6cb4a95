#include "master/reload_plan.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "config/settings.h"
#include "shm/limit.h"
#include "shm/sums.h"
#include "view/emit.h"

/* Connections with a client, by row. */
static uint32_t on_server_row(const struct shm *shm, uint32_t row)
{
	struct server_sum sum = { 0 };
	sums_add_server(shm, row, &sum);
	uint64_t held = limit_used(shm, limit_server(shm, row)), hot = sum.hot + atomic_load(&shm->servers[row].boxed);
	return held > hot ? (uint32_t)(held - hot) : 0;
}

/* --- while a generation runs: its places say which rows ------------------------------------------------------------------------ */

static uint32_t on_listener(const void *arg, size_t listener)
{
	const struct master *master = arg;
	return limit_used(&master->shm, limit_listener(master->running->places.listeners[listener]));
}

static uint32_t on_server(const void *arg, size_t upstream, size_t server)
{
	const struct master *master = arg;
	return on_server_row(&master->shm, master->running->places.servers[upstream][server]);
}

static uint32_t on_upstream(const void *arg, size_t upstream)
{
	const struct master *master = arg;
	uint32_t count = 0;
	for (size_t i = 0; i < master->running->config->upstreams[upstream].n_servers; i++)
		count += on_server(arg, upstream, i);
	return count;
}

static uint32_t nothing_on_listener(const void *arg, size_t listener)
{
	(void)arg;
	(void)listener;
	return 0;
}

static uint32_t nothing_on_server(const void *arg, size_t upstream, size_t server)
{
	(void)arg;
	(void)upstream;
	(void)server;
	return 0;
}

static uint32_t on_generation(const struct master *master, const struct generation *generation)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (generation->workers[i].state != WORKER_DEAD)
			count += atomic_load(&master->shm.seats[generation->workers[i].seat].sessions);
	return count;
}

enum { DRAINING_MOST = 64 };

/* Those of a start that failed are not among them: they have no connections. */
static size_t list_draining(const struct master *master, struct plan_draining out[DRAINING_MOST])
{
	size_t n = 0;
	for (const struct generation *generation = master->draining; generation && n < DRAINING_MOST; generation = generation->next)
		out[n++] = (struct plan_draining){ .number = generation->number, .connections = on_generation(master, generation) };
	return n;
}

void reload_plan_make(struct master *master, const struct config *config)
{
	const struct shm_header *header = master->shm.header;
	struct plan_live live = { .listener = nothing_on_listener,
		.server = nothing_on_server,
		.upstream = nothing_on_listener,
		.arg = master,
		.instance = { .pid = getpid(),
		        .generation = atomic_load(&header->generation),
		        .workers = atomic_load(&header->workers),
		        .connections = limit_used(&master->shm, limit_global()),
		        .accepts = master->running != NULL } };
	struct plan_draining draining[DRAINING_MOST];
	struct settings last = { 0 };
	struct config_errors errors = { 0 };
	live.n_draining = list_draining(master, draining);
	live.draining = draining;
	live.max_draining = master->max_draining;
	if (master->running) {
		live.listener = on_listener;
		live.server = on_server;
		live.upstream = on_upstream;
	} else if (settings_read(master->settings_path, &last, &errors)) {
		config_errors_clear(&errors);
	}
	(void)text_copy(live.instance.state, sizeof live.instance.state, instance_state_name(atomic_load(&header->state)));
	plan_free(&master->reload.plan);
	plan_make(&master->reload.plan, master->running ? master->running->config : last.config, config, &live,
	        master_worker_count(master, config));
	settings_fini(&last);
}

void reload_plan_refuse(struct master *master, const struct config_errors *errors)
{
	plan_free(&master->reload.plan);
	plan_add_lines(&master->reload.plan, PLAN_ERROR, errors);
}

static void report_errors(const struct plan *plan, const char *note, struct emit *emit)
{
	emit_string(emit, "error", note);
	emit_open(emit, "errors", '[');
	for (size_t i = 0; i < plan->n_problems; i++)
		if (plan->problems[i].weight == PLAN_ERROR)
			emit_string(emit, NULL, plan->problems[i].text);
	if (plan->n_errors == 0)
		emit_string(emit, NULL, note);
	emit_close(emit, ']');
}

void reload_plan_report(const struct master *master, bool ok, const char *note, FILE *out)
{
	const struct plan *plan = &master->reload.plan;
	struct emit emit = { .out = out };
	emit_open(&emit, NULL, '{');
	if (ok) {
		emit_string(&emit, "status", "reloaded");
		emit_string(&emit, "note", note);
	} else {
		report_errors(plan, note, &emit);
	}
	emit_string(&emit, "state", instance_state_name(atomic_load(&master->shm.header->state)));
	emit_u64(&emit, "generation", master->running ? master->running->number : 0);
	if (plan->workers)
		plan_emit(plan, &emit, "plan");
	emit_close(&emit, '}');
	fputc('\n', out);
}

void reload_plan_settle(struct master *master)
{
	const struct settings_origin origin = { .pid = getpid(),
		.generation = master->running->number,
		.max_workers = master->max_workers,
		.max_draining = master->max_draining,
		.source = master->source };
	int error = settings_write(
	        master->settings_path, master->running->config, &origin, master->identity.change ? master->identity.gid : (gid_t)-1);
	if (error)
		log_warn(
		        "cannot write %s: %s; aegis -p cannot compare with the settings in force", master->settings_path, strerror(-error));
}
