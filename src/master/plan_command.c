#include "master/plan_command.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "control/control.h"
#include "master/master.h"
#include "master/patience.h"
#include "master/plan_checks.h"
#include "os/process.h"
#include "os/runtime_dir.h"
#include "view/emit.h"

enum { DIRECTORY_SIZE = 512, WHY_SIZE = 256, UNKNOWN_SIZE = 2048, DRAINING_MOST = 64 };

/* All that is put together for a plan. */
struct asking {
	const struct config_source *given;
	const char *default_file;
	bool json;
	struct file_at *at; /* for who waits for it */
	char directory[DIRECTORY_SIZE];
	bool is_running;
	pid_t master;               /* 0 = none runs, or its settings are not ours to read */
	char unknown[UNKNOWN_SIZE]; /* why there is nothing to compare with */
	struct settings settings;
	struct snapshot *snapshot;
	struct config_source source;
	struct config *after;
	struct identity identity;
	struct plan plan;
};

/* --- where it runs, and with what ------------------------------------------------------------------------------------------ */

/* As for -s: a file that is broken now must not keep us from finding the instance. */
static void find_directory(struct asking *asking)
{
	struct config_source source = *asking->given;
	struct config_errors errors = { 0 };
	struct config *config = NULL;
	source.at = asking->at;
	if (source.runtime_dir) {
		(void)text_copy(asking->directory, sizeof asking->directory, source.runtime_dir);
		return;
	}
	if (!source.file && !source.quick_listen)
		source.file = asking->default_file;
	if (config_load(&source, &config, &errors) == 0)
		(void)text_copy(asking->directory, sizeof asking->directory, config->runtime_dir);
	else
		runtime_dir_default(asking->directory, sizeof asking->directory);
	config_errors_clear(&errors);
	config_free(config);
}

static void find_instance(struct asking *asking)
{
	char path[DIRECTORY_SIZE + 16], why[WHY_SIZE];
	struct config_errors errors = { 0 };
	(void)snprintf(path, sizeof path, "%s/aegis.pid", asking->directory);
	int pid = process_running(path);
	if (pid <= 0) {
		(void)snprintf(asking->unknown, sizeof asking->unknown, "no Aegis is running in %s", asking->directory);
		return;
	}
	asking->is_running = true;
	(void)snprintf(path, sizeof path, "%s/settings", asking->directory);
	int error = settings_read(path, &asking->settings, &errors);
	if (!error && asking->settings.origin.pid != pid) {
		settings_fini(&asking->settings);
		error = -ENOENT;
	}
	if (error == -EINVAL)
		(void)snprintf(asking->unknown, sizeof asking->unknown, "Aegis runs in %s (pid %d), and is of another version",
		        asking->directory, pid);
	else if (error == -ENOENT)
		(void)snprintf(asking->unknown, sizeof asking->unknown, "Aegis is starting in %s (pid %d)", asking->directory, pid);
	else if (error)
		(void)snprintf(asking->unknown, sizeof asking->unknown, "Aegis runs in %s (pid %d), and %s cannot be read: %s",
		        asking->directory, pid, path, strerror(-error));
	config_errors_clear(&errors);
	if (error)
		return;
	asking->master = pid;
	(void)snprintf(path, sizeof path, "%s/stats", asking->directory);
	if (snapshot_read(path, clock_now_ns(), &asking->snapshot, why, sizeof why))
		plan_add(&asking->plan, PLAN_NOTE, "stats", "cannot be read: connections are not counted");
}

/* What the command line does not say is as the instance was started with. */
static void choose_source(struct asking *asking)
{
	const struct config_source *running = &asking->settings.origin.source;
	asking->source = *asking->given;
	asking->source.at = asking->at;
	struct config_source *source = &asking->source;
	if (asking->master && !source->runtime_dir)
		source->runtime_dir = running->runtime_dir;
	if (asking->master && source->n_overrides == 0) {
		source->overrides = running->overrides;
		source->n_overrides = running->n_overrides;
	}
	if (source->file || source->quick_listen)
		return;
	source->file = asking->master ? running->file : asking->default_file;
	if (!asking->master)
		return;
	source->quick_listen = running->quick_listen;
	source->quick_upstreams = running->quick_upstreams;
	source->n_quick_upstreams = running->n_quick_upstreams;
}

static bool same_rights(const struct asking *asking)
{
	char path[64];
	struct stat st;
	(void)snprintf(path, sizeof path, "/proc/%d", (int)asking->master);
	return !asking->master || (stat(path, &st) == 0 && st.st_uid == geteuid());
}

/* Who workers would be. A reload does not ask again, and who is not root cannot tell for who is. */
static void find_identity(struct asking *asking, struct config_errors *errors)
{
	char why[WHY_SIZE];
	bool ours = same_rights(asking);
	if (privileges_resolve(ours ? asking->after->user : "", ours ? asking->after->group : "", &asking->identity, why, sizeof why) == 0)
		return;
	if (!asking->master)
		config_errors_add(errors, asking->source.file, 0, "user", "%s", why);
	else if (privileges_resolve("", "", &asking->identity, why, sizeof why))
		config_errors_add(errors, asking->source.file, 0, "user", "%s", why);
	else
		plan_add(&asking->plan, PLAN_WARNING, "user", "a restart would fail: %s", why);
}

/* --- live connections, by name --------------------------------------------------------------------------------------------- */

static uint32_t on_listener(const void *arg, size_t listener)
{
	const struct asking *asking = arg;
	const struct snapshot *snapshot = asking->snapshot;
	for (size_t i = 0; snapshot && i < snapshot->n_listeners; i++)
		if (snapshot->listeners[i].in_use &&
		        strcmp(snapshot->listeners[i].name, asking->settings.config->listeners[listener].name) == 0)
			return snapshot->listeners[i].active;
	return 0;
}

static uint32_t on_servers(const struct snapshot *snapshot, const char *upstream, const char *server)
{
	uint32_t count = 0;
	for (size_t i = 0; snapshot && i < snapshot->n_servers; i++)
		if (snapshot->servers[i].in_use && strcmp(snapshot->servers[i].upstream, upstream) == 0 &&
		        (!server || strcmp(snapshot->servers[i].name, server) == 0))
			count += snapshot->servers[i].active;
	return count;
}

static uint32_t on_server(const void *arg, size_t upstream, size_t server)
{
	const struct asking *asking = arg;
	const struct upstream_config *config = &asking->settings.config->upstreams[upstream];
	return on_servers(asking->snapshot, config->name, config->servers[server].name);
}

static uint32_t on_upstream(const void *arg, size_t upstream)
{
	const struct asking *asking = arg;
	return on_servers(asking->snapshot, asking->settings.config->upstreams[upstream].name, NULL);
}

/* Workers are sorted by slot, so a generation comes up more than once. */
static size_t list_draining(const struct snapshot *snapshot, struct plan_draining out[DRAINING_MOST])
{
	size_t n = 0;
	for (size_t i = 0; snapshot && i < snapshot->n_workers; i++) {
		const struct snapshot_worker *worker = &snapshot->workers[i];
		size_t at = 0;
		while (at < n && out[at].number > worker->generation)
			at++;
		if (worker->state != SEAT_DRAINING || (at == DRAINING_MOST && n == at))
			continue;
		if (at == n || out[at].number != worker->generation) {
			n += n < DRAINING_MOST;
			memmove(&out[at + 1], &out[at], (n - at - 1) * sizeof *out);
			out[at] = (struct plan_draining){ .number = worker->generation };
		}
		out[at].connections += worker->connections;
	}
	return n;
}

static struct plan_live live_of(const struct asking *asking, struct plan_draining draining[DRAINING_MOST])
{
	const struct snapshot *snapshot = asking->snapshot;
	struct plan_live live = { .listener = on_listener, .server = on_server, .upstream = on_upstream, .arg = asking };
	live.instance = (struct plan_instance){ .pid = asking->master, .generation = asking->settings.origin.generation, .accepts = true };
	(void)text_copy(live.instance.state, sizeof live.instance.state, "unknown");
	if (!snapshot)
		return live;
	live.n_draining = list_draining(snapshot, draining);
	live.draining = draining;
	live.max_draining = asking->settings.origin.max_draining;
	live.instance.generation = snapshot->generation;
	live.instance.workers = snapshot->workers_wanted;
	live.instance.connections = snapshot->active;
	live.instance.accepts = snapshot->state == INSTANCE_RUNNING || snapshot->state == INSTANCE_RELOADING;
	(void)text_copy(live.instance.state, sizeof live.instance.state, instance_state_name(snapshot->state));
	return live;
}

/* --- the plan -------------------------------------------------------------------------------------------------------------- */

/* A password may stand there, so it is not written down. */
static void tell_of_secrets(struct asking *asking)
{
	const struct config *config = asking->settings.config;
	for (size_t i = 0; config && i < config->n_upstreams; i++)
		if (config->upstreams[i].health.send[0] || config->upstreams[i].health.send_hex[0]) {
			plan_add(&asking->plan, PLAN_NOTE, "health.send", "is kept secret, and not compared");
			return;
		}
}

static bool reads_another_file(const struct asking *asking)
{
	const char *running = asking->settings.origin.source.file, *given = asking->source.file;
	struct stat one, other;
	if (!asking->master || !given || !running)
		return asking->master && (given || running);
	return stat(running, &one) < 0 || stat(given, &other) < 0 || one.st_dev != other.st_dev || one.st_ino != other.st_ino;
}

static void make(struct asking *asking)
{
	struct cpu_set cpus;
	cpu_usable("", &cpus);
	struct plan_draining draining[DRAINING_MOST];
	const struct plan_live live = live_of(asking, draining);
	const struct plan_ground ground = { .before = asking->settings.config,
		.after = asking->after,
		.origin = asking->master ? &asking->settings.origin : NULL,
		.snapshot = asking->snapshot,
		.runtime_dir = asking->after->runtime_dir,
		.is_running = asking->is_running,
		.identity = &asking->identity,
		.same_rights = same_rights(asking),
		.workers = asking->after->workers ? asking->after->workers : (uint32_t)cpu_worker_count(&cpus),
		.at = asking->at };
	plan_make(&asking->plan, asking->settings.config, asking->after, &live, ground.workers);
	if (!ground.same_rights)
		plan_add(&asking->plan, PLAN_NOTE, "user",
		        "Aegis runs as another user, who may open other files; ask as that user to have files and ports below 1024 "
		        "checked");
	if (reads_another_file(asking))
		plan_add(&asking->plan, PLAN_NOTE, "", "the running instance reads another file, and a reload takes that: %s",
		        asking->settings.origin.source.file ? asking->settings.origin.source.file : "none, its command line is all");
	tell_of_secrets(asking);
	plan_check_ports(&asking->plan, &ground);
	plan_check_files(&asking->plan, &ground);
	plan_check_names(&asking->plan, &ground);
	plan_check_certificates(&asking->plan, &ground);
	plan_check_needs(&asking->plan, &ground);
	asking->plan.is_checked = true;
}

static const char *name_of(const struct asking *asking)
{
	return asking->source.file ? asking->source.file : "the command line";
}

/* --- the answer ------------------------------------------------------------------------------------------------------------ */

static int answer_invalid(const struct asking *asking, const struct config_errors *errors)
{
	if (!asking->json) {
		fputs(errors->lines, stderr);
		fprintf(stderr, "aegis: %zu error%s\n", errors->count, errors->count == 1 ? "" : "s");
		return EXIT_SETTINGS;
	}
	struct emit emit = { .out = stdout };
	struct plan plan = { 0 };
	plan_add_lines(&plan, PLAN_ERROR, errors);
	emit_open(&emit, NULL, '{');
	emit_string(&emit, "status", "invalid");
	emit_open(&emit, "errors", '[');
	for (size_t i = 0; i < plan.n_problems; i++)
		emit_string(&emit, NULL, plan.problems[i].text);
	emit_close(&emit, ']');
	emit_close(&emit, '}');
	putchar('\n');
	plan_free(&plan);
	return EXIT_SETTINGS;
}

static int status_of(const struct asking *asking)
{
	if (asking->plan.n_errors)
		return EXIT_START;
	return asking->master ? EXIT_SUCCESS : EXIT_NOT_RUNNING;
}

static int answer(const struct asking *asking)
{
	static const char *const words[] = { [EXIT_SUCCESS] = "ok", [EXIT_START] = "fails", [EXIT_NOT_RUNNING] = "not_running" };
	int status = status_of(asking);
	if (!asking->json) {
		if (!asking->master)
			printf("%c%s; there is nothing to compare with.\n", asking->unknown[0] == 'n' ? 'N' : asking->unknown[0],
			        asking->unknown + 1);
		plan_print(&asking->plan, name_of(asking), stdout);
		return status;
	}
	struct emit emit = { .out = stdout };
	emit_open(&emit, NULL, '{');
	emit_string(&emit, "status", words[status]);
	emit_string(&emit, "file", name_of(asking));
	if (!asking->master)
		emit_string(&emit, "not_compared", asking->unknown);
	plan_emit(&asking->plan, &emit, "plan");
	emit_close(&emit, '}');
	putchar('\n');
	return status;
}

/* In a child: a file may hang. */
static int make_and_answer(void *arg, struct file_at *at)
{
	struct asking asking = *(const struct asking *)arg;
	struct config_errors errors = { 0 };
	int status;
	asking.at = at;
	find_directory(&asking);
	find_instance(&asking);
	choose_source(&asking);
	if (config_load(&asking.source, &asking.after, &errors) == 0) {
		file_at_begin(at, "admin.token_file: %s", asking.after->admin.token_file);
		control_find_errors(asking.after, &errors);
		file_at_end(at);
		find_identity(&asking, &errors);
	}
	if (errors.count) {
		status = answer_invalid(&asking, &errors);
	} else {
		make(&asking);
		status = answer(&asking);
	}
	config_errors_clear(&errors);
	config_free(asking.after);
	settings_fini(&asking.settings);
	snapshot_free(asking.snapshot);
	plan_free(&asking.plan);
	return status;
}

int plan_command(const struct config_source *given, const char *default_file, bool json)
{
	struct asking asking = { .given = given, .default_file = default_file, .json = json };
	struct config_errors errors = { 0 };
	int status = patience_do(make_and_answer, &asking, &errors);
	if (status < 0)
		status = answer_invalid(&asking, &errors);
	config_errors_clear(&errors);
	return status;
}
