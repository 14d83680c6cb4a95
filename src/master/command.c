#include "master/command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "master/master.h"
#include "os/process.h"
#include "os/region.h"
#include "shm/layout.h"

#define RELOAD_WAIT_NS (60 * NS_PER_S)
enum { LOOK_EVERY_MS = 10 };

static const struct {
	const char *verb;
	int signal;
} verbs[] = {
	{ "reload", SIGHUP },
	{ "drain", SIGWINCH },
	{ "stop", SIGTERM },
	{ "quit", SIGQUIT },
	{ "reopen", SIGUSR1 },
};

static int open_segment(const char *runtime_dir, struct shm *shm, void **base, uint64_t *size)
{
	char path[512], why[256];
	(void)snprintf(path, sizeof path, "%s/stats", runtime_dir);
	int error = region_open(path, 0, base, size);
	if (error)
		return error;
	error = shm_attach(shm, *base, *size, why, sizeof why);
	if (error)
		region_close(*base, *size);
	return error;
}

/* Wait for the end of a reload that began after `begun` had. */
static int await_reload(const struct shm *shm, uint32_t begun, pid_t pid)
{
	uint64_t deadline_ns = clock_now_ns() + RELOAD_WAIT_NS;
	while ((int32_t)(atomic_load(&shm->header->reloads_ended) - begun) <= 0) {
		if (kill(pid, 0) < 0 && errno == ESRCH) {
			fprintf(stderr, "aegis: the running instance (pid %d) ended\n", (int)pid);
			return EXIT_REFUSED;
		}
		if (clock_now_ns() > deadline_ns) {
			fprintf(stderr, "aegis: the running instance (pid %d) has not answered within 60 s; see its log\n", (int)pid);
			return EXIT_REFUSED;
		}
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	if (atomic_load(&shm->header->last_reload_ok))
		return EXIT_SUCCESS;
	char note[SHM_NOTE_SIZE];
	memcpy(note, shm->header->last_reload_note, sizeof note);
	note[sizeof note - 1] = '\0';
	fprintf(stderr, "aegis: the running instance refused the reload and goes on as before: %s\n", note);
	return EXIT_REFUSED;
}

static int send_signal(pid_t pid, int signal)
{
	if (kill(pid, signal) == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "aegis: cannot signal the running instance (pid %d): %s\n", (int)pid, strerror(errno));
	return EXIT_REFUSED;
}

static int reload(const char *runtime_dir, pid_t pid)
{
	struct shm shm;
	void *base;
	uint64_t size;
	if (open_segment(runtime_dir, &shm, &base, &size))
		return send_signal(pid, SIGHUP); /* not ours to read: the answer is in the log */
	uint32_t begun = atomic_load(&shm.header->reloads_begun);
	int status = send_signal(pid, SIGHUP);
	if (status == EXIT_SUCCESS)
		status = await_reload(&shm, begun, pid);
	region_close(base, size);
	return status;
}

int command_send(const char *runtime_dir, const char *verb)
{
	const char *names[ARRAY_LEN(verbs)];
	char path[512];
	int signal = 0;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		names[i] = verbs[i].verb;
		if (strcmp(verb, verbs[i].verb) == 0)
			signal = verbs[i].signal;
	}
	if (!signal) {
		const char *nearest = text_nearest(verb, names, ARRAY_LEN(verbs));
		fprintf(stderr, "aegis: -s %s: no such command; %s%s%sone of reload, drain, stop, quit, reopen\n", verb,
		        nearest ? "did you mean " : "", nearest ? nearest : "", nearest ? "? It takes " : "it takes ");
		return EXIT_SETTINGS;
	}
	(void)snprintf(path, sizeof path, "%s/aegis.pid", runtime_dir);
	int pid = process_running(path);
	if (pid <= 0) {
		fprintf(stderr, "aegis: no Aegis is running in %s%s%s; -r DIR names another directory\n", runtime_dir,
		        pid == -ENOENT || pid == 0 ? "" : ": ", pid == -ENOENT || pid == 0 ? "" : strerror(-pid));
		return EXIT_NOT_RUNNING;
	}
	return signal == SIGHUP ? reload(runtime_dir, pid) : send_signal(pid, signal);
}
