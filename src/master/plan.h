/* What a reload with some settings would do, or a start: what changes against the settings in force, what of it takes effect in which
 * way, which live connections it touches, and what is in the way.
 *
 * Process: the master makes one for each reload, and carries it out; `aegis -p` makes the same one and prints it.
 * Owner:   the caller, from a zeroed struct until plan_free().
 * Bounds:  however many settings change, no more than PLAN_MOST_CHANGES are kept one by one; the counts hold for all.
 */
#ifndef AEGIS_MASTER_PLAN_H
#define AEGIS_MASTER_PLAN_H

#include <stdio.h>
#include <sys/types.h>

#include "config/config.h"
#include "config/diff.h"

struct emit;
struct text;

enum { PLAN_MOST_CHANGES = 1000, PLAN_MOST_PROBLEMS = 1000 };

enum plan_outcome {
	PLAN_START,         /* there is nothing to compare with */
	PLAN_TAKE_IN_PLACE, /* by the workers that run */
	PLAN_NEW_GENERATION /* also where nothing changes: to get new workers is what such a reload is for */
};

enum plan_effect { PLAN_IN_PLACE, PLAN_NEW_WORKERS, PLAN_RESTART, N_PLAN_EFFECTS };

struct plan_change {
	enum config_change_kind kind;
	enum plan_effect effect;
	char *path;
	char *before, *after; /* values; of what is added or dropped a few words instead; "" = none */
	bool counted;         /* there is something that connections could be on */
	uint32_t connections; /* live ones, on what changes */
};

enum plan_weight { PLAN_ERROR, PLAN_WARNING, PLAN_NOTE };

struct plan_problem {
	enum plan_weight weight;
	char *path; /* a setting, or what else it is about */
	char *text;
};

/* Health checks: of which servers they have to be made. */
enum plan_checks { PLAN_CHECKS_STAY, PLAN_CHECKS_END, PLAN_CHECKS_BEGIN };

/* How much the settings can take at most, and how much there is. Bytes; 0 = not known. */
struct plan_needs {
	uint64_t descriptors;      /* what a worker may open */
	uint64_t connections;      /* what all workers together can take, by max_connections and descriptors */
	uint64_t per_worker_bytes; /* buffers, pipes and hot connections */
	uint64_t per_connection_bytes;
	uint64_t shared_bytes; /* the segment, as far as it is touched */
	uint64_t total_bytes;
	uint64_t memory_bytes; /* what this machine, or the cgroup, has */
	bool memory_is_cgroup;
};

/* The running instance, as far as the plan tells of it. */
struct plan_instance {
	pid_t pid; /* 0 = none runs */
	uint32_t generation, workers;
	uint32_t connections; /* live, of all generations */
	bool accepts;         /* clients: not drained, and not about to be */
	char state[16];
};

/* What was looked at. */
struct plan_checked {
	size_t addresses, held; /* listeners; those of them that the running instance has already */
	size_t files, names;
};

/* A generation that drains. */
struct plan_draining {
	uint32_t number, connections;
};

struct plan {
	enum plan_outcome outcome;
	struct plan_instance instance;
	uint32_t workers;          /* of the generation to come */
	uint64_t drain_timeout_ns; /* with which the one that runs drains; 0 = for ever */
	uint32_t drain_pace;
	uint32_t ended_generations, ended_connections; /* at once, for drain.max_generations */
	size_t n_listeners, n_upstreams, n_servers;    /* of the settings to come */
	size_t by_kind[CONFIG_REORDERED + 1];
	size_t by_effect[N_PLAN_EFFECTS];
	size_t count; /* of all changes, also of those that are not in the list */
	enum plan_checks checks;
	struct plan_change *changes;
	size_t n_changes;
	struct plan_problem *problems;
	size_t n_problems, n_errors, n_warnings; /* the last two: also of those that are not in the list */
	bool is_checked;                         /* what a start would hit was looked for: checked and needs hold */
	struct plan_checked checked;
	struct plan_needs needs;
};

/* How many connections are on what; the indices are those of the settings in force. */
struct plan_live {
	uint32_t (*listener)(const void *arg, size_t listener);
	uint32_t (*server)(const void *arg, size_t upstream, size_t server);
	uint32_t (*upstream)(const void *arg, size_t upstream);
	const void *arg;
	struct plan_instance instance;
	const struct plan_draining *draining; /* the newest first */
	size_t n_draining;
	uint32_t max_draining; /* there is no room for more */
};

/* Compare. before: the settings in force, NULL = there are none, then live is not asked. workers: of the generation to come. Problems that
 * are in the plan already stay. */
void plan_make(struct plan *plan, const struct config *before, const struct config *after, const struct plan_live *live, uint32_t workers);
void plan_free(struct plan *plan);

void plan_add(struct plan *plan, enum plan_weight weight, const char *path, const char *format, ...) printf_like(4, 5);
/* The lines of a list, one problem each. */
void plan_add_lines(struct plan *plan, enum plan_weight weight, const struct config_errors *errors);

/* For people. name: what the settings come from. */
void plan_print(const struct plan *plan, const char *name, FILE *out);
/* In one line, for the log. */
void plan_sum_up(const struct plan *plan, struct text *out);
/* As one object of JSON under key. */
void plan_emit(const struct plan *plan, struct emit *emit, const char *key);

const char *plan_outcome_name(enum plan_outcome outcome);

#endif
