#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "master/plan.h"

enum { MOST_LINES = 50, PATH_COLUMN = 44, LINE_SIZE = 1024, UNIT_SIZE = 32 };

static const char *s(uint64_t count)
{
	return count == 1 ? "" : "s";
}

/* --- changes --------------------------------------------------------------------------------------------------------------- */

static const char *const headings[N_PLAN_EFFECTS] = {
	[PLAN_IN_PLACE] = "Can change in place:",
	[PLAN_NEW_WORKERS] = "Needs new workers:",
	[PLAN_RESTART] = "Only after a restart:",
};

static void add_what(const struct plan_change *change, struct text *line)
{
	switch (change->kind) {
	case CONFIG_CHANGED:
		text_add(line, "%s -> %s", change->before, change->after);
		break;
	case CONFIG_ADDED:
		text_add(line, "%s", change->after);
		break;
	case CONFIG_REMOVED:
		text_add(line, "%s", change->before);
		break;
	case CONFIG_REORDERED:
		text_add(line, "in another order");
		break;
	}
}

static void print_change(const struct plan_change *change, FILE *out)
{
	static const char marks[] = { [CONFIG_CHANGED] = '~', [CONFIG_ADDED] = '+', [CONFIG_REMOVED] = '-', [CONFIG_REORDERED] = '~' };
	char bytes[LINE_SIZE];
	struct text line = text_of(bytes, sizeof bytes);

	add_what(change, &line);
	if (change->counted && change->connections > 0)
		text_add(&line, "   [%u connection%s]", change->connections, s(change->connections));
	fprintf(out, "  %c %-*s %s\n", marks[change->kind], PATH_COLUMN, change->path, bytes);
}

static void print_changes(const struct plan *plan, enum plan_effect effect, FILE *out)
{
	size_t printed = 0;

	if (plan->by_effect[effect] == 0)
		return;
	fprintf(out, "\n%s\n", headings[effect]);
	for (size_t i = 0; i < plan->n_changes && printed < MOST_LINES; i++)
		if (plan->changes[i].effect == effect) {
			print_change(&plan->changes[i], out);
			printed++;
		}
	if (printed < plan->by_effect[effect])
		fprintf(out, "  ... and %zu more\n", plan->by_effect[effect] - printed);
}

/* --- what happens ---------------------------------------------------------------------------------------------------------- */

static void add_drain(const struct plan *plan, struct text *out)
{
	char timeout[UNIT_SIZE];
	uint32_t count = plan->instance.connections - plan->ended_connections;

	if (plan->ended_connections)
		text_add(out, "; %u connection%s of generations that drain already end%s at once (drain.max_generations)",
		        plan->ended_connections, s(plan->ended_connections), plan->ended_connections == 1 ? "s" : "");
	if (count == 0)
		return;
	text_add(out, "; %u connection%s stay%s with the old ones", count, s(count), count == 1 ? "s" : "");
	if (plan->drain_timeout_ns)
		text_add(out, " for up to %s", units_format_duration(plan->drain_timeout_ns, timeout, sizeof timeout));
	else
		text_add(out, " until they end");
	if (plan->drain_pace)
		text_add(out, ", idle ones end at %u/s", plan->drain_pace);
}

static void add_counts(const struct plan *plan, struct text *out)
{
	static const char *const words[] = {
		[CONFIG_CHANGED] = "changed", [CONFIG_ADDED] = "added", [CONFIG_REMOVED] = "dropped", [CONFIG_REORDERED] = "reordered"
	};
	static const enum config_change_kind order[] = { CONFIG_ADDED, CONFIG_REMOVED, CONFIG_CHANGED, CONFIG_REORDERED };
	const char *before = "";

	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		if (plan->by_kind[order[i]]) {
			text_add(out, "%s%zu %s", before, plan->by_kind[order[i]], words[order[i]]);
			before = ", ";
		}
	if (plan->count == 0)
		text_add(out, "nothing changes");
}

static void add_outcome(const struct plan *plan, struct text *out)
{
	switch (plan->outcome) {
	case PLAN_START:
		text_add(out, "%u worker%s, %zu listener%s, %zu upstream%s, %zu server%s", plan->workers, s(plan->workers),
		        plan->n_listeners, s(plan->n_listeners), plan->n_upstreams, s(plan->n_upstreams), plan->n_servers,
		        s(plan->n_servers));
		break;
	case PLAN_TAKE_IN_PLACE:
		text_add(out, "the %u worker%s that run%s take%s it over; no connection is touched", plan->instance.workers,
		        s(plan->instance.workers), plan->instance.workers == 1 ? "s" : "", plan->instance.workers == 1 ? "s" : "");
		break;
	case PLAN_NEW_GENERATION:
		text_add(out, "%u new worker%s take%s new clients", plan->workers, s(plan->workers), plan->workers == 1 ? "s" : "");
		add_drain(plan, out);
		break;
	}
}

void plan_sum_up(const struct plan *plan, struct text *out)
{
	if (plan->outcome != PLAN_START) {
		add_counts(plan, out);
		text_add(out, "; ");
	}
	add_outcome(plan, out);
}

/* --- problems and needs ---------------------------------------------------------------------------------------------------- */

static void print_problems(const struct plan *plan, enum plan_weight weight, const char *word, FILE *out)
{
	size_t printed = 0, all = weight == PLAN_ERROR ? plan->n_errors : weight == PLAN_WARNING ? plan->n_warnings : 0;

	for (size_t i = 0; i < plan->n_problems && printed < MOST_LINES; i++) {
		const struct plan_problem *problem = &plan->problems[i];
		if (problem->weight != weight)
			continue;
		fprintf(out, "  %s: %s%s%s\n", word, problem->path, *problem->path ? ": " : "", problem->text);
		printed++;
	}
	if (printed < all)
		fprintf(out, "  ... and %zu more\n", all - printed);
}

static void print_needs(const struct plan_needs *needs, FILE *out)
{
	char total[UNIT_SIZE], each[UNIT_SIZE], shared[UNIT_SIZE], have[UNIT_SIZE];

	fprintf(out, "Memory at most: %s (%s a worker, %llu bytes a connection, %s shared)",
	        units_human_bytes(needs->total_bytes, total, sizeof total), units_human_bytes(needs->per_worker_bytes, each, sizeof each),
	        (unsigned long long)needs->per_connection_bytes, units_human_bytes(needs->shared_bytes, shared, sizeof shared));
	if (needs->memory_bytes)
		fprintf(out, " of the %s of %s", units_human_bytes(needs->memory_bytes, have, sizeof have),
		        needs->memory_is_cgroup ? "the cgroup" : "this machine");
	fputs("; what sockets hold comes on top.\n", out);
}

static void print_checked(const struct plan *plan, FILE *out)
{
	const struct plan_checked *checked = &plan->checked;

	if (!plan->is_checked)
		return;
	fprintf(out, "\nChecked: %zu address%s", checked->addresses, checked->addresses == 1 ? "" : "es");
	if (checked->held)
		fprintf(out, " (%zu in use by this instance)", checked->held);
	fprintf(out, ", %zu file%s, %zu name%s, descriptors, memory, room for workers.\n", checked->files, s(checked->files),
	        checked->names, s(checked->names));
	print_needs(&plan->needs, out);
}

static void print_verdict(const struct plan *plan, FILE *out)
{
	const char *what = plan->outcome == PLAN_START ? "start" : "reload";

	if (plan->n_errors)
		fprintf(out, "\nThe %s would fail: %zu error%s.\n", what, plan->n_errors, s(plan->n_errors));
	else
		fprintf(out, "\nNothing is in the way of the %s.\n", what);
}

void plan_print(const struct plan *plan, const char *name, FILE *out)
{
	char bytes[LINE_SIZE];
	struct text line = text_of(bytes, sizeof bytes);
	const struct plan_instance *instance = &plan->instance;

	if (plan->outcome == PLAN_START)
		fprintf(out, "Plan of a start with %s\n", name);
	else
		fprintf(out, "Plan of a reload with %s\nThe running instance: pid %d, %s, generation %u, %u worker%s, %u connection%s\n",
		        name, (int)instance->pid, instance->state, instance->generation, instance->workers, s(instance->workers),
		        instance->connections, s(instance->connections));
	for (enum plan_effect effect = 0; effect < N_PLAN_EFFECTS; effect++)
		print_changes(plan, effect, out);
	plan_sum_up(plan, &line);
	fprintf(out, "\nSummary: %s.\n", bytes);
	print_checked(plan, out);
	if (plan->n_problems) {
		fputc('\n', out);
		print_problems(plan, PLAN_ERROR, "error", out);
		print_problems(plan, PLAN_WARNING, "warning", out);
		print_problems(plan, PLAN_NOTE, "note", out);
	}
	print_verdict(plan, out);
}
