#include "master/plan.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "config/options.h"
#include "control/control.h"

struct making {
	struct plan *plan;
	const struct config *before, *after;
	const struct plan_live *live;
	uint32_t *on_upstream; /* [before->n_upstreams], counted so far: one more than there are */
};

const char *plan_outcome_name(enum plan_outcome outcome)
{
	static const char *const names[] = {
		[PLAN_START] = "start", [PLAN_TAKE_IN_PLACE] = "in_place", [PLAN_NEW_GENERATION] = "new_generation"
	};
	return names[outcome];
}

static char *copy_of(const char *text)
{
	char *copy = strdup(text);
	ensure(copy);
	return copy;
}

/* --- problems -------------------------------------------------------------------------------------------------------------- */

static void add_problem(struct plan *plan, enum plan_weight weight, const char *path, const char *text)
{
	plan->n_errors += weight == PLAN_ERROR;
	plan->n_warnings += weight == PLAN_WARNING;
	if (plan->n_problems == PLAN_MOST_PROBLEMS)
		return;
	if ((plan->n_problems & (plan->n_problems - 1)) == 0) {
		size_t room = plan->n_problems ? 2 * plan->n_problems : 1;
		plan->problems = realloc(plan->problems, room * sizeof *plan->problems);
		ensure(plan->problems);
	}
	plan->problems[plan->n_problems++] = (struct plan_problem){ .weight = weight, .path = copy_of(path), .text = copy_of(text) };
}

void plan_add(struct plan *plan, enum plan_weight weight, const char *path, const char *format, ...)
{
	char bytes[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(bytes, sizeof bytes, format, args);
	va_end(args);
	add_problem(plan, weight, path, bytes);
}

void plan_add_lines(struct plan *plan, enum plan_weight weight, const struct config_errors *errors)
{
	const char *line = errors->lines;

	while (line && *line) {
		size_t length = strcspn(line, "\n");
		char *text = strndup(line, length);
		ensure(text);
		add_problem(plan, weight, "", text);
		free(text);
		line += length + (line[length] == '\n');
	}
}

/* --- what changes ---------------------------------------------------------------------------------------------------------- */

/* Counted once: there may be thousands of servers. */
static uint32_t on_upstream(const struct making *making, size_t upstream)
{
	if (!making->on_upstream[upstream])
		making->on_upstream[upstream] = 1 + making->live->upstream(making->live->arg, upstream);
	return making->on_upstream[upstream] - 1;
}

static void count_connections(const struct making *making, const struct config_change *change, struct plan_change *out)
{
	const struct config_place *old = &change->old;

	out->counted = true;
	if (old->listener != CONFIG_NOWHERE)
		out->connections = making->live->listener(making->live->arg, old->listener);
	else if (old->server != CONFIG_NOWHERE)
		out->connections = making->live->server(making->live->arg, old->upstream, old->server);
	else if (change->kind == CONFIG_ADDED)
		out->counted = false;
	else if (old->upstream != CONFIG_NOWHERE)
		out->connections = on_upstream(making, old->upstream);
	else
		out->connections = making->live->instance.connections;
}

/* A few words on a listener, an upstream or a server. */
static void describe(const struct config *config, const struct config_place *place, char *out, size_t size)
{
	struct text text = text_of(out, size);

	if (place->listener != CONFIG_NOWHERE) {
		const struct listener_config *listener = &config->listeners[place->listener];
		text_add(&text, "%s to %s%s", listener->address, listener->upstream_name ? "upstream " : "upstreams by name",
		        listener->upstream_name ? listener->upstream_name : "");
	} else if (place->upstream != CONFIG_NOWHERE && place->server != CONFIG_NOWHERE) {
		text_add(&text, "%s", config->upstreams[place->upstream].servers[place->server].address);
	} else if (place->upstream != CONFIG_NOWHERE) {
		size_t n = config->upstreams[place->upstream].n_servers;
		text_add(&text, "%zu server%s", n, n == 1 ? "" : "s");
	}
}

static enum plan_effect effect_of(const struct config_change *change)
{
	if (change->in_place)
		return PLAN_IN_PLACE;
	return change->option && change->option->reload == RELOAD_RESTART ? PLAN_RESTART : PLAN_NEW_WORKERS;
}

static void on_change(void *arg, const struct config_change *change)
{
	enum { DESCRIPTION_SIZE = 512 };
	struct making *making = arg;
	struct plan *plan = making->plan;
	char before[DESCRIPTION_SIZE] = "", after[DESCRIPTION_SIZE] = "";
	enum plan_effect effect = effect_of(change);

	plan->count++;
	plan->by_kind[change->kind]++;
	plan->by_effect[effect]++;
	if (plan->n_changes == PLAN_MOST_CHANGES)
		return;
	if (!plan->changes)
		plan->changes = calloc(PLAN_MOST_CHANGES, sizeof *plan->changes);
	ensure(plan->changes);
	if (change->kind == CONFIG_REMOVED)
		describe(making->before, &change->old, before, sizeof before);
	if (change->kind == CONFIG_ADDED)
		describe(making->after, &change->new, after, sizeof after);
	struct plan_change *row = &plan->changes[plan->n_changes++];
	*row = (struct plan_change){ .kind = change->kind,
		.effect = effect,
		.path = copy_of(change->path),
		.before = copy_of(*before ? before : change->before),
		.after = copy_of(*after ? after : change->after) };
	count_connections(making, change, row);
}

/* --- in place, or with new workers ----------------------------------------------------------------------------------------- */

static bool is_checked(const struct upstream_config *upstream, const struct server_config *server)
{
	return control_checks(upstream, server) || (upstream->start_test != START_TEST_OFF && !server->disabled);
}

/* Do other servers have to be checked, now or all the time? The two have the same ones in the same order. */
static enum plan_checks compare_checks(const struct config *before, const struct config *after)
{
	enum plan_checks checks = PLAN_CHECKS_STAY;
	for (size_t i = 0; i < after->n_upstreams; i++)
		for (size_t j = 0; j < after->upstreams[i].n_servers; j++) {
			bool was = is_checked(&before->upstreams[i], &before->upstreams[i].servers[j]);
			bool is = is_checked(&after->upstreams[i], &after->upstreams[i].servers[j]);
			if (is && !was)
				return PLAN_CHECKS_BEGIN;
			checks = was && !is ? PLAN_CHECKS_END : checks;
		}
	return checks;
}

static enum plan_outcome decide(struct plan *plan, const struct config *before, const struct config *after)
{
	if (!plan->instance.accepts || plan->count == 0 || plan->by_effect[PLAN_IN_PLACE] != plan->count)
		return PLAN_NEW_GENERATION;
	plan->checks = compare_checks(before, after);
	/* A dead server gets no client: preflight and trial of a transition find out first. */
	return plan->checks == PLAN_CHECKS_BEGIN ? PLAN_NEW_GENERATION : PLAN_TAKE_IN_PLACE;
}

/* When there are more of them than may drain, the oldest end at once. */
static void end_oldest(struct plan *plan, const struct config *after, const struct plan_live *live)
{
	size_t most = after->drain.max_generations < live->max_draining ? after->drain.max_generations : live->max_draining;
	uint32_t on_running = live->instance.connections;
	for (size_t i = 0; i < live->n_draining; i++) {
		uint32_t count = live->draining[i].connections;
		on_running -= count < on_running ? count : on_running;
		if (i + live->instance.accepts >= most) {
			plan->ended_generations++;
			plan->ended_connections += count;
		}
	}
	if (most == 0 && live->instance.accepts) {
		plan->ended_generations++;
		plan->ended_connections += on_running;
	}
}

static size_t count_servers(const struct config *config)
{
	size_t count = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		count += config->upstreams[i].n_servers;
	return count;
}

void plan_make(struct plan *plan, const struct config *before, const struct config *after, const struct plan_live *live, uint32_t workers)
{
	struct making making = { .plan = plan, .before = before, .after = after, .live = live };

	plan->workers = workers;
	plan->drain_timeout_ns = after->drain.timeout_ns;
	plan->drain_pace = after->drain.pace;
	plan->n_listeners = after->n_listeners;
	plan->n_upstreams = after->n_upstreams;
	plan->n_servers = count_servers(after);
	plan->outcome = PLAN_START;
	if (!before)
		return;
	plan->instance = live->instance;
	making.on_upstream = calloc(before->n_upstreams, sizeof *making.on_upstream);
	ensure(making.on_upstream);
	config_diff(before, after, on_change, &making);
	free(making.on_upstream);
	plan->outcome = decide(plan, before, after);
	if (plan->outcome == PLAN_NEW_GENERATION)
		end_oldest(plan, after, live);
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_changes; i++) {
		free(plan->changes[i].path);
		free(plan->changes[i].before);
		free(plan->changes[i].after);
	}
	for (size_t i = 0; i < plan->n_problems; i++) {
		free(plan->problems[i].path);
		free(plan->problems[i].text);
	}
	free(plan->changes);
	free(plan->problems);
	*plan = (struct plan){ 0 };
}
