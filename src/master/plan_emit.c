#include "base/text.h"
#include "master/plan.h"
#include "view/emit.h"

static const char *const kinds[] = {
	[CONFIG_CHANGED] = "changed", [CONFIG_ADDED] = "added", [CONFIG_REMOVED] = "dropped", [CONFIG_REORDERED] = "reordered"
};
static const char *const effects[N_PLAN_EFFECTS] = {
	[PLAN_IN_PLACE] = "in_place", [PLAN_NEW_WORKERS] = "new_workers", [PLAN_RESTART] = "restart"
};
static const char *const weights[] = { [PLAN_ERROR] = "error", [PLAN_WARNING] = "warning", [PLAN_NOTE] = "note" };

static void emit_instance(const struct plan_instance *instance, struct emit *emit)
{
	if (!instance->pid) {
		emit_null(emit, "running");
		return;
	}
	emit_open(emit, "running", '{');
	emit_i32(emit, "pid", instance->pid);
	emit_string(emit, "state", instance->state);
	emit_u64(emit, "generation", instance->generation);
	emit_u64(emit, "workers", instance->workers);
	emit_u64(emit, "connections", instance->connections);
	emit_close(emit, '}');
}

static void emit_counts(const struct plan *plan, struct emit *emit)
{
	emit_open(emit, "counts", '{');
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		emit_u64(emit, kinds[i], plan->by_kind[i]);
	for (size_t i = 0; i < ARRAY_LEN(effects); i++)
		emit_u64(emit, effects[i], plan->by_effect[i]);
	emit_close(emit, '}');
}

static void emit_change(const struct plan_change *change, struct emit *emit)
{
	emit_open(emit, NULL, '{');
	emit_string(emit, "kind", kinds[change->kind]);
	emit_string(emit, "path", change->path);
	emit_string(emit, "effect", effects[change->effect]);
	if (change->kind == CONFIG_CHANGED || change->kind == CONFIG_REMOVED)
		emit_string(emit, "before", change->before);
	if (change->kind == CONFIG_CHANGED || change->kind == CONFIG_ADDED)
		emit_string(emit, "after", change->after);
	if (change->counted)
		emit_u64(emit, "connections", change->connections);
	emit_close(emit, '}');
}

static void emit_problems(const struct plan *plan, struct emit *emit)
{
	emit_open(emit, "problems", '[');
	for (size_t i = 0; i < plan->n_problems; i++) {
		const struct plan_problem *problem = &plan->problems[i];
		emit_open(emit, NULL, '{');
		emit_string(emit, "weight", weights[problem->weight]);
		emit_string(emit, "path", problem->path);
		emit_string(emit, "text", problem->text);
		emit_close(emit, '}');
	}
	emit_close(emit, ']');
	emit_u64(emit, "errors", plan->n_errors);
	emit_u64(emit, "warnings", plan->n_warnings);
}

static void emit_needs(const struct plan_needs *needs, struct emit *emit)
{
	emit_open(emit, "needs", '{');
	emit_u64(emit, "descriptors_per_worker", needs->descriptors);
	emit_u64(emit, "connections_possible", needs->connections);
	emit_u64(emit, "bytes_per_connection", needs->per_connection_bytes);
	emit_u64(emit, "bytes_per_worker", needs->per_worker_bytes);
	emit_u64(emit, "bytes_shared", needs->shared_bytes);
	emit_u64(emit, "bytes_total", needs->total_bytes);
	emit_u64(emit, "bytes_of_memory", needs->memory_bytes);
	emit_bool(emit, "memory_is_cgroup", needs->memory_is_cgroup);
	emit_close(emit, '}');
}

void plan_emit(const struct plan *plan, struct emit *emit, const char *key)
{
	emit_open(emit, key, '{');
	emit_string(emit, "outcome", plan_outcome_name(plan->outcome));
	emit_instance(&plan->instance, emit);
	emit_u64(emit, "workers", plan->workers);
	if (plan->outcome == PLAN_NEW_GENERATION) {
		emit_u64(emit, "connections_drained", plan->instance.connections - plan->ended_connections);
		emit_u64(emit, "connections_ended", plan->ended_connections);
		emit_u64(emit, "generations_ended", plan->ended_generations);
		emit_seconds(emit, "drain_timeout_s", plan->drain_timeout_ns);
	}
	emit_counts(plan, emit);
	emit_open(emit, "changes", '[');
	for (size_t i = 0; i < plan->n_changes; i++)
		emit_change(&plan->changes[i], emit);
	emit_close(emit, ']');
	emit_u64(emit, "changes_left_out", plan->count - plan->n_changes);
	emit_problems(plan, emit);
	if (plan->is_checked)
		emit_needs(&plan->needs, emit);
	emit_close(emit, '}');
}
