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

#define WAIT_NS (60 * NS_PER_S)
#define HANDED_NS (5 * NS_PER_S) /* for an old worker that stands still nobody waits longer */
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
	{ "upgrade", SIGUSR2 },
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

/* What is waited for: a count of beginnings and ends, and what came of the last one. */
struct awaited {
	const char *what;
	int signal;
	_Atomic uint32_t *begun, *ended, *ok;
	const char *note;
};

/* Wait for the end of one that began after `begun` had. */
static int await(const struct awaited *awaited, uint32_t begun, const char *pid_path, pid_t pid)
{
	uint64_t deadline_ns = clock_now_ns() + WAIT_NS;
	bool replaced = false;
	while ((int32_t)(atomic_load(awaited->ended) - begun) <= 0) {
		int running = awaited->signal == SIGUSR2 ? process_running(pid_path) : pid;
		if (running > 0 && running != pid && !replaced) {
			replaced = true; /* and accepts until it says that it does not */
			deadline_ns = clock_now_ns() + HANDED_NS;
		}
		if (kill(pid, 0) < 0 && errno == ESRCH) {
			if (process_running(pid_path) > 0)
				return EXIT_SUCCESS; /* it was upgraded meanwhile; the new one has read the settings */
			fprintf(stderr, "aegis: the running instance (pid %d) ended\n", (int)pid);
			return EXIT_REFUSED;
		}
		if (clock_now_ns() > deadline_ns && replaced)
			return EXIT_SUCCESS;
		if (clock_now_ns() > deadline_ns) {
			fprintf(stderr, "aegis: the running instance (pid %d) has not answered within 60 s; see its log\n", (int)pid);
			return EXIT_REFUSED;
		}
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	if (atomic_load(awaited->ok))
		return EXIT_SUCCESS;
	char note[SHM_NOTE_SIZE];
	memcpy(note, awaited->note, sizeof note);
	note[sizeof note - 1] = '\0';
	fprintf(stderr, "aegis: the running instance refused the %s and goes on as before: %s\n", awaited->what, note);
	return EXIT_REFUSED;
}

static int send_signal(pid_t pid, int signal)
{
	if (kill(pid, signal) == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "aegis: cannot signal the running instance (pid %d): %s\n", (int)pid, strerror(errno));
	return EXIT_REFUSED;
}

/* The new program has a segment of its own. Until it says there that the old one accepts no more. */
static void await_handed_over(const char *runtime_dir)
{
	uint64_t deadline_ns = clock_now_ns() + HANDED_NS;
	struct shm shm;
	void *base;
	uint64_t size;
	if (open_segment(runtime_dir, &shm, &base, &size))
		return; /* nor can that be read */
	while (atomic_load(&shm.header->upgrades_ended) != atomic_load(&shm.header->upgrades_begun) && clock_now_ns() < deadline_ns)
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	region_close(base, size);
}

/* What runs has a segment that we cannot read, and be it because it is older than we are: whether it went well the pid file tells. */
static int upgrade_blindly(const char *runtime_dir, const char *pid_path, pid_t pid)
{
	uint64_t deadline_ns = clock_now_ns() + WAIT_NS;
	int status = send_signal(pid, SIGUSR2);
	while (status == EXIT_SUCCESS && process_running(pid_path) == pid) {
		if (clock_now_ns() > deadline_ns) {
			fprintf(stderr, "aegis: the running instance (pid %d) has not handed over within 60 s; its log says why\n",
			        (int)pid);
			return EXIT_REFUSED;
		}
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	if (status == EXIT_SUCCESS && process_running(pid_path) <= 0) {
		fprintf(stderr, "aegis: the running instance (pid %d) ended\n", (int)pid);
		return EXIT_REFUSED;
	}
	if (status == EXIT_SUCCESS)
		await_handed_over(runtime_dir);
	return status;
}

static int send_and_await(const char *runtime_dir, const char *pid_path, pid_t pid, int signal)
{
	struct shm shm;
	void *base;
	uint64_t size;
	if (open_segment(runtime_dir, &shm, &base, &size))
		return signal == SIGUSR2 ? upgrade_blindly(runtime_dir, pid_path, pid)
		                         : send_signal(pid, signal); /* the answer is in the log */
	struct shm_header *header = shm.header;
	const struct awaited reload = { "reload", SIGHUP, &header->reloads_begun, &header->reloads_ended, &header->last_reload_ok,
		header->last_reload_note };
	const struct awaited upgrade = { "upgrade", SIGUSR2, &header->upgrades_begun, &header->upgrades_ended, &header->last_upgrade_ok,
		header->last_upgrade_note };
	const struct awaited *awaited = signal == SIGHUP ? &reload : &upgrade;
	uint32_t begun = atomic_load(awaited->begun);
	int status = send_signal(pid, signal);
	if (status == EXIT_SUCCESS)
		status = await(awaited, begun, pid_path, pid);
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
		fprintf(stderr, "aegis: -s %s: no such command; %s%s%sone of reload, drain, stop, quit, reopen, upgrade\n", verb,
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
	if (signal == SIGHUP || signal == SIGUSR2)
		return send_and_await(runtime_dir, path, pid, signal);
	return send_signal(pid, signal);
}
