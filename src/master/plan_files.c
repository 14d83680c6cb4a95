#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_sink.h"
#include "base/text.h"
#include "master/challenges.h"
#include "master/plan_checks.h"
#include "master/preflight.h"

#define PREFLIGHT_NS (30 * NS_PER_S)

/* --- files ----------------------------------------------------------------------------------------------------------------- */

static bool may(const char *path, int mode)
{
	return faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0;
}

/* What the kernel says who wants to make a file there; 0 = it can hold files. The rights of root tell nothing of it. */
static int why_no_files(const char *directory)
{
	struct statfs fs;
	if (statfs(directory, &fs) < 0)
		return errno;
	if (fs.f_type == PROC_SUPER_MAGIC)
		return ENOENT;
	return fs.f_type == SYSFS_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC ? EACCES : 0;
}

/* 0 or the errno with which it could not be opened for appending, made where it is not there. */
static int why_not_written(const char *path)
{
	char directory[PATH_MAX];
	struct stat st;
	if (lstat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
			return S_ISDIR(st.st_mode) ? EISDIR : ELOOP; /* no link is followed */
		return may(path, W_OK) ? 0 : errno;
	}
	if (errno != ENOENT)
		return errno;
	if (!text_copy(directory, sizeof directory, path))
		return ENAMETOOLONG;
	char *slash = strrchr(directory, '/');
	if (slash)
		slash[slash == directory] = '\0';
	return may(slash ? directory : ".", W_OK | X_OK) ? why_no_files(slash ? directory : ".") : errno;
}

/* To open the socket of syslog or of the journal tells nobody anything. */
static int why_not_opened(const char *target)
{
	struct log_sink sink = { .kind = LOG_SINK_NONE };
	int error = log_sink_open(&sink, target);
	log_sink_close(&sink);
	return -error;
}

static void check_log(struct plan *plan, const struct plan_ground *ground, const char *setting, const char *target)
{
	if (target[0] == '\0' || !ground->same_rights)
		return;
	plan->checked.files += target[0] == '/';
	file_at_begin(ground->at, "%s: %s", setting, target);
	int error = target[0] == '/' ? why_not_written(target) : why_not_opened(target);
	file_at_end(ground->at);
	if (error)
		plan_add(plan, PLAN_ERROR, setting, "cannot write to %s: %s", target, strerror(error));
}

/* An instance that runs has its directory. The first part of the path that is there decides. */
static void check_runtime_dir(struct plan *plan, const struct plan_ground *ground)
{
	char path[PATH_MAX];
	struct stat st;
	if (ground->is_running || !ground->same_rights || !text_copy(path, sizeof path, ground->runtime_dir))
		return;
	plan->checked.files++;
	while (stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		char *slash = strrchr(path, '/');
		if (!slash || slash == path)
			break;
		*slash = '\0';
	}
	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		plan_add(plan, PLAN_ERROR, "runtime_dir", "%s is no directory", path);
	else if (!may(path, W_OK | X_OK))
		plan_add(plan, PLAN_ERROR, "runtime_dir", "cannot write to %s: %s; -r DIR names another directory", path, strerror(errno));
}

static void check_challenges(struct plan *plan, const struct plan_ground *ground)
{
	struct config_errors warnings = { 0 };
	if (!ground->same_rights)
		return;
	for (size_t i = 0; i < ground->after->n_listeners; i++)
		plan->checked.files += ground->after->listeners[i].acme.challenges[0] != '\0';
	challenges_check(ground->after, ground->identity, ground->at, &warnings);
	plan_add_lines(plan, PLAN_WARNING, &warnings);
	config_errors_clear(&warnings);
}

void plan_check_files(struct plan *plan, const struct plan_ground *ground)
{
	check_log(plan, ground, "log.target", ground->after->log.target);
	check_log(plan, ground, "access_log.path", ground->after->access_log.path);
	check_runtime_dir(plan, ground);
	check_challenges(plan, ground);
}

/* --- names and start tests ------------------------------------------------------------------------------------------------- */

/* What the running instance knows of its servers' names: such a name need not be resolvable now. */
static const struct snapshot_server *find_server(const struct snapshot *snapshot, const char *upstream, const char *name)
{
	for (size_t i = 0; snapshot && i < snapshot->n_servers; i++)
		if (snapshot->servers[i].in_use && strcmp(snapshot->servers[i].name, name) == 0 &&
		        strcmp(snapshot->servers[i].upstream, upstream) == 0)
			return &snapshot->servers[i];
	return NULL;
}

static void recall_addresses(const struct plan_ground *ground)
{
	for (size_t i = 0; ground->before && i < ground->before->n_upstreams; i++) {
		struct upstream_config *upstream = &ground->before->upstreams[i];
		for (size_t j = 0; j < upstream->n_servers; j++) {
			struct server_config *server = &upstream->servers[j];
			const struct snapshot_server *known =
			        server->endpoint.kind == ENDPOINT_NAME ? find_server(ground->snapshot, upstream->name, server->name) : NULL;
			server->n_addrs = known ? known->n_addresses : 0;
		}
	}
}

static size_t count_names(const struct config *config)
{
	size_t count = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			count += config->upstreams[i].servers[j].endpoint.kind == ENDPOINT_NAME;
	return count;
}

static void nothing_to_close(void *arg)
{
	(void)arg;
}

/* Until the child has answered in full: 0, or -ETIMEDOUT or another negative errno. */
static int await(struct preflight *preflight)
{
	uint64_t deadline_ns = clock_now_ns() + PREFLIGHT_NS;
	int error = -EAGAIN;
	while (error == -EAGAIN) {
		struct pollfd look = { .fd = preflight->fd, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();
		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		int ready = poll(&look, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1);
		if (ready > 0)
			error = preflight_read(preflight);
		else if (ready < 0 && errno != EINTR)
			error = -errno;
	}
	return error;
}

void plan_check_names(struct plan *plan, const struct plan_ground *ground)
{
	struct preflight preflight = { 0 };
	struct preflight_findings findings = { 0 };
	struct hung hung = { 0 };
	plan->checked.names = count_names(ground->after);
	if (!preflight_needed(ground->after))
		return;
	int error = preflight_start(&preflight, ground->after, ground->identity, nothing_to_close, NULL);
	if (!error)
		error = await(&preflight);
	if (error == -ETIMEDOUT) {
		plan_add(plan, PLAN_ERROR, "upstreams", "names could not be resolved within %d s; is the DNS server reachable?",
		        (int)(PREFLIGHT_NS / NS_PER_S));
	} else if (error) {
		plan_add(plan, PLAN_ERROR, "upstreams", "names cannot be looked up: %s", strerror(-error));
	} else {
		recall_addresses(ground);
		preflight_apply(&preflight, ground->after, ground->before, &findings);
		plan_add_lines(plan, PLAN_ERROR, &findings.errors);
		plan_add_lines(plan, PLAN_ERROR, &findings.unreachable);
		plan_add_lines(plan, PLAN_WARNING, &findings.warnings);
		preflight_findings_clear(&findings);
	}
	preflight_end(&preflight, &hung);
	hung_fini(&hung);
}
