#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "master/segment.h"
#include "master/status.h"
#include "master/transition.h"
#include "os/notify.h"
#include "os/process.h"
#include "os/region.h"
#include "os/signals.h"
#include "os/title.h"
#include "worker/worker.h"

enum { EXIT_SETTINGS = 1, EXIT_START = 2 };
enum { SEGMENT_LISTENERS = CONFIG_MAX_LISTENERS, SEGMENT_SERVERS = CONFIG_MAX_SERVERS, SEGMENT_MIN_WORKERS = 16 };

#define TICK_NS NS_PER_S
#define RECLAIM_NS (5 * NS_PER_MS)
#define KILL_AFTER_NS (5 * NS_PER_S) /* beyond drain.timeout: whoever does not end by himself */

void master_log_errors(const struct config_errors *errors)
{
	const char *line = errors->lines;
	while (line && *line) {
		size_t length = strcspn(line, "\n");
		log_error("%.*s", (int)length, line);
		line += length + (line[length] == '\n');
	}
}

void master_set_state(struct master *master, enum instance_state state)
{
	atomic_store(&master->shm.header->state, (uint32_t)state);
}

static struct generation *all_generations(struct master *master, size_t index)
{
	if (index == 0)
		return master->running;
	struct generation *generation = master->draining;
	while (generation && --index > 0)
		generation = generation->next;
	return generation;
}

/* --- in a forked child ------------------------------------------------------------------------------------------------------- */

static void close_channels(const struct generation *generation)
{
	for (uint32_t i = 0; generation && i < generation->n_workers; i++)
		if (generation->workers[i].channel >= 0)
			close(generation->workers[i].channel);
}

static bool serves(const struct generation *generation, const struct listener *listener, uint32_t fd_index, uint32_t slot)
{
	for (size_t i = 0; generation && i < generation->config->n_listeners; i++)
		if (generation->listeners[i] == listener)
			return worker_serves(listener, fd_index, slot, generation->n_workers);
	return false;
}

void master_release_in_child(struct master *master, const struct generation *generation, uint32_t keep_slot)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		for (uint32_t j = 0; j < master->listeners[i]->n_fds; j++)
			if (!serves(generation, master->listeners[i], j, keep_slot))
				close(master->listeners[i]->fds[j]);
	close_channels(master->running);
	for (const struct generation *old = master->draining; old; old = old->next)
		close_channels(old);
	if (generation && generation != master->running)
		close_channels(generation);
	transition_release_in_child(master->transition);
	close(master->signal_fd);
	close(master->pid_fd);
	loop_free(master->loop);
}

/* --- generations come and go ------------------------------------------------------------------------------------------------- */

void master_clear_seat(struct master *master, uint32_t seat)
{
	if (segment_clear_seat(&master->shm, seat) && !loop_timer_active(&master->reclaim))
		loop_timer_start(master->loop, &master->reclaim, RECLAIM_NS);
}

static uint32_t own_workers(const struct master *master)
{
	uint32_t count = master->running ? generation_alive(master->running) : 0;
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		count += generation_alive(generation);
	return count;
}

static void on_reclaim(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, reclaim);
	if (segment_clear_gone(&master->shm) > own_workers(master))
		loop_timer_start(master->loop, &master->reclaim, RECLAIM_NS);
}

static bool listener_needed(const struct master *master, const struct listener *listener)
{
	if (transition_needs(master->transition, listener))
		return true;
	for (size_t i = 0; master->running && i < master->running->config->n_listeners; i++)
		if (master->running->listeners[i] == listener)
			return true;
	/* A drained instance keeps them for its revival; those that cannot be revived are bound anew. */
	return master->draining_by_request && listener_revivable(listener);
}

/* Close the sockets that the settings no longer name, when all who accepted from them have accepted what was queued. */
static void close_unneeded_listeners(struct master *master)
{
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		if (!generation_stopped(generation))
			return;
	for (size_t i = master->n_listeners; i-- > 0;)
		if (!listener_needed(master, master->listeners[i])) {
			log_info("listener %s (%s) is closed", master->listeners[i]->name, master->listeners[i]->address);
			listener_free(master->listeners[i]);
			master->listeners[i] = master->listeners[--master->n_listeners];
		}
}

static void free_ended_generations(struct master *master)
{
	for (struct generation **link = &master->draining; *link;) {
		struct generation *generation = *link;
		if (generation_alive(generation) > 0) {
			link = &generation->next;
			continue;
		}
		*link = generation->next;
		log_info("generation %u is done", generation->number);
		generation_free(generation);
	}
}

void master_generation_changed(struct master *master)
{
	if (!master->stopping)
		close_unneeded_listeners(master);
	free_ended_generations(master);
	if (master->transition)
		transition_try_switch(master->transition);
	if (master->running || master->draining)
		return;
	if (master->stopping)
		loop_stop(master->loop);
	else if (master->draining_by_request && !master->transition) {
		log_info("drained: no connection is left; HUP takes up service again");
		master_set_state(master, INSTANCE_DRAINED);
	}
}

static void reap_workers(struct master *master)
{
	struct generation *generation;
	bool again = true;
	while (again) { /* a death may free generations: begin anew after each */
		again = false;
		for (size_t i = 0; !again && (i == 0 || all_generations(master, i)); i++) {
			generation = all_generations(master, i);
			for (uint32_t j = 0; generation && !again && j < generation->n_workers; j++) {
				int status;
				if (generation->workers[j].state != WORKER_DEAD &&
				        waitpid(generation->workers[j].pid, &status, WNOHANG) > 0)
					again = generation_reap(generation, generation->workers[j].pid, status);
			}
		}
	}
	transition_reap(master->transition);
}

/* --- reload ------------------------------------------------------------------------------------------------------------------ */

static void note_reload(struct master *master, bool ok, const char *note)
{
	struct shm_header *header = master->shm.header;
	counter_add(ok ? &header->reloads_ok : &header->reloads_failed, 0);
	atomic_fetch_add(&header->last_reload_sequence, 1);
	(void)text_copy(header->last_reload_note, sizeof header->last_reload_note, note);
	atomic_store(&header->last_reload_unix_s, (uint64_t)time(NULL));
	atomic_store(&header->last_reload_ok, ok);
	atomic_fetch_add(&header->last_reload_sequence, 1);
	counter_add(ok ? &header->reloads_ok : &header->reloads_failed, 1);
}

static enum instance_state resting_state(const struct master *master)
{
	if (master->running)
		return INSTANCE_RUNNING;
	return master->draining ? INSTANCE_DRAINING : INSTANCE_DRAINED;
}

static void reload_ended(struct master *master, bool ok, const char *note)
{
	note_reload(master, ok, note);
	if (ok)
		log_info("reloaded: generation %u runs", master->running->number);
	else
		log_error("reload refused, nothing changed: %s", note);
	master_set_state(master, resting_state(master));
	status_tick(master);
	notify_send("READY=1");
}

static void reload(struct master *master)
{
	struct config *config;
	struct config_errors errors = { 0 };
	if (master->stopping)
		return;
	if (master->transition) {
		log_info("a reload is under way: another one follows it");
		master->reload_again = true;
		return;
	}
	log_info("reloading %s", master->source.file ? master->source.file : "the settings");
	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NS_PER_US));
	if (config_load(&master->source, &config, &errors)) {
		char first[SHM_NOTE_SIZE];
		(void)text_copy(first, sizeof first, errors.lines ? errors.lines : "");
		first[strcspn(first, "\n")] = '\0';
		master_log_errors(&errors);
		config_errors_clear(&errors);
		reload_ended(master, false, first);
		return;
	}
	master_set_state(master, INSTANCE_RELOADING);
	transition_begin(master, config);
}

static void started(struct master *master)
{
	master_set_state(master, INSTANCE_RUNNING);
	status_log_start(master);
	status_tick(master);
	notify_send("READY=1");
}

void master_transition_done(struct master *master, struct transition *transition, int status)
{
	bool first = master->last_ready == 0;
	char note[SHM_NOTE_SIZE];
	(void)text_copy(note, sizeof note, transition_note(transition));
	master->transition = NULL;
	transition_free(transition);
	if (status == 0) {
		master->last_ready = master->running->number;
		master->draining_by_request = false;
	}
	if (first && status == 0)
		started(master);
	else if (!first)
		reload_ended(master, status == 0, note);
	else {
		master->exit_status = status;
		master->stopping = true;
	}
	master_generation_changed(master);
	if (master->reload_again) {
		master->reload_again = false;
		reload(master);
	}
}

/* --- stop and drain ---------------------------------------------------------------------------------------------------------- */

static const struct config *settings(const struct master *master)
{
	return master->running ? master->running->config : master->draining ? master->draining->config : NULL;
}

static void for_each_generation(struct master *master, void (*fn)(struct generation *generation))
{
	if (master->running)
		fn(master->running);
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		fn(generation);
}

/* The running generation ends, and nobody goes on with its sockets. */
static void drain_running(struct master *master)
{
	struct generation *generation = master->running;
	if (!generation)
		return;
	const struct config *config = generation->config;
	for (size_t i = 0; i < master->n_listeners; i++)
		listener_hide(master->listeners[i]);
	generation_drain(generation, true, config->drain.pace, config->drain.timeout_ns);
	master->running = NULL;
	generation->next = master->draining;
	master->draining = generation;
}

static void stop_now(struct master *master)
{
	log_warn("asked to stop again: ending all connections now");
	for_each_generation(master, generation_quit);
	loop_timer_start(master->loop, &master->deadline, NS_PER_S);
}

static void stop(struct master *master, const char *name)
{
	if (master->stopping) {
		stop_now(master);
		return;
	}
	const struct config *config = settings(master);
	uint64_t timeout_ns = config ? config->drain.timeout_ns : 0;
	log_info("%s: stopping; %u connections have %llu s to end", name, limit_used(&master->shm, limit_global()),
	        (unsigned long long)(timeout_ns / NS_PER_S));
	notify_send("STOPPING=1");
	master->stopping = true;
	master->reload_again = false;
	if (master->transition)
		transition_cancel(master->transition);
	master->exit_status = EXIT_SUCCESS;
	master_set_state(master, INSTANCE_STOPPING);
	drain_running(master);
	if (timeout_ns)
		loop_timer_start(master->loop, &master->deadline, timeout_ns + KILL_AFTER_NS);
	master_generation_changed(master);
}

static void on_deadline(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, deadline);
	log_error("workers do not end: killing them");
	for_each_generation(master, generation_kill);
}

static void drain(struct master *master)
{
	if (master->stopping || !master->running)
		return;
	if (master->transition)
		transition_cancel(master->transition);
	log_info("draining: no new connections, %u have to end; HUP takes up service again", limit_used(&master->shm, limit_global()));
	master->draining_by_request = true;
	master_set_state(master, INSTANCE_DRAINING);
	drain_running(master);
	status_tick(master);
}

static void reopen_log(struct master *master)
{
	int error = log_reopen();
	if (error) {
		log_error("cannot open the log file again: %s; going on with the old one", strerror(-error));
		return;
	}
	int fd = log_file_fd();
	if (fd < 0)
		return;
	if (master->running)
		generation_send_log(master->running, fd);
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		generation_send_log(generation, fd);
	log_info("log file opened again");
}

/* --- signals and ticks ------------------------------------------------------------------------------------------------------- */

static void on_signal(struct loop_io *io, int events)
{
	struct master *master = container_of(io, struct master, signal_io);
	int signal, sender;
	(void)events;
	while ((signal = signals_next(master->signal_fd, &sender)) != 0) {
		switch (signal) {
		case SIGHUP:
			reload(master);
			break;
		case SIGTERM:
		case SIGINT:
		case SIGQUIT:
			stop(master, strsignal(signal));
			break;
		case SIGUSR1:
			reopen_log(master);
			break;
		case SIGWINCH:
			drain(master);
			break;
		case SIGCHLD:
			reap_workers(master);
			break;
		default:
			log_warn("signal %d (%s) is not used by this version", signal, strsignal(signal));
		}
	}
}

static void on_tick(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, tick);
	if (master->orphans && !loop_timer_active(&master->reclaim))
		master->orphans = segment_clear_gone(&master->shm) > own_workers(master);
	status_tick(master);
	loop_timer_start(master->loop, &master->tick, TICK_NS);
}

static void on_watchdog(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, watchdog);
	notify_send("WATCHDOG=1");
	loop_timer_start(master->loop, &master->watchdog, notify_watchdog_ns());
}

/* --- from start to end ------------------------------------------------------------------------------------------------------- */

static int start_failed(const char *format, ...) printf_like(1, 2);
static int start_failed(const char *format, ...)
{
	char line[512];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(line, sizeof line, format, args);
	va_end(args);
	log_error("%s", line);
	return EXIT_START;
}

static int take_runtime_dir(struct master *master, const struct config *config)
{
	char default_dir[256];
	config_default_runtime_dir(default_dir, sizeof default_dir);
	bool own = geteuid() != 0 && strcmp(default_dir, config->runtime_dir) == 0;
	(void)text_copy(master->runtime_dir, sizeof master->runtime_dir, config->runtime_dir);
	int error = process_make_directory(config->runtime_dir, own);
	if (error)
		return start_failed("cannot make the directory %s: %s; -r DIR names another one", config->runtime_dir, strerror(-error));
	if (asprintf(&master->pid_path, "%s/aegis.pid", config->runtime_dir) < 0 ||
	        asprintf(&master->stats_path, "%s/stats", config->runtime_dir) < 0)
		return start_failed("out of memory");
	pid_t running = 0;
	master->pid_fd = process_lock_pid_file(master->pid_path, &running);
	if (master->pid_fd == -EEXIST)
		return start_failed("Aegis is already running in %s (pid %d); stop it, or use -r DIR for a second instance",
		        config->runtime_dir, (int)running);
	if (master->pid_fd < 0)
		return start_failed("cannot write %s: %s; -r DIR names another directory", master->pid_path, strerror(-master->pid_fd));
	return 0;
}

static int open_segment(struct master *master, const struct config *config)
{
	uint32_t wanted = config->workers > (uint32_t)master->cpus.n ? config->workers : (uint32_t)master->cpus.n;
	master->max_workers = wanted > SEGMENT_MIN_WORKERS ? wanted : SEGMENT_MIN_WORKERS;
	master->max_draining = config->drain.max_generations;
	/* the running generation, the next one, those that drain, and one of which the last worker is being ended */
	struct shm_dims dims = { .seats = master->max_workers * (config->drain.max_generations + 3),
		.listeners = SEGMENT_LISTENERS,
		.servers = SEGMENT_SERVERS };
	int error = segment_open(&master->shm, master->stats_path, &dims, master->identity.change ? master->identity.gid : (gid_t)-1);
	if (error)
		return start_failed("cannot make %s: %s", master->stats_path, strerror(-error));
	struct shm_header *header = master->shm.header;
	atomic_store(&header->master_pid, getpid());
	atomic_store(&header->started_ns, clock_now_ns());
	atomic_store(&header->started_unix_s, (uint64_t)time(NULL));
	(void)text_copy(header->engine, sizeof header->engine, "epoll");
	(void)text_copy(header->config_file, sizeof header->config_file, master->source.file ? master->source.file : "");
	master_set_state(master, INSTANCE_STARTING);
	master->orphans = true;
	return 0;
}

static int prepare(struct master *master, const struct config *config)
{
	static const int signals[] = { SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD, 0 };
	char why[256];
	if (privileges_resolve(config->user, config->group, &master->identity, why, sizeof why)) {
		log_error("%s", why);
		return EXIT_SETTINGS;
	}
	int status = take_runtime_dir(master, config);
	if (status)
		return status;
	cpu_usable("", &master->cpus);
	status = open_segment(master, config);
	if (status)
		return status;
	master->signal_fd = signals_open(signals);
	master->loop = master->signal_fd < 0 ? NULL : loop_new();
	if (!master->loop)
		return start_failed("cannot make an event loop: out of descriptors or memory");
	loop_timer_init(&master->tick, on_tick);
	loop_timer_init(&master->watchdog, on_watchdog);
	loop_timer_init(&master->reclaim, on_reclaim);
	loop_timer_init(&master->deadline, on_deadline);
	loop_io_init(&master->signal_io, on_signal);
	if (loop_io_set(master->loop, &master->signal_io, master->signal_fd, LOOP_READ))
		return start_failed("cannot watch for signals: the kernel has no memory");
	loop_timer_start(master->loop, &master->tick, TICK_NS);
	if (notify_watchdog_ns())
		loop_timer_start(master->loop, &master->watchdog, notify_watchdog_ns());
	return 0;
}

static void clean_up(struct master *master)
{
	while (master->n_listeners > 0)
		listener_free(master->listeners[--master->n_listeners]);
	free(master->listeners);
	if (master->shm.header) {
		(void)unlink(master->stats_path);
		region_close(master->shm.header, shm_size_bytes(&master->shm.dims));
	}
	if (master->pid_fd >= 0) {
		(void)unlink(master->pid_path);
		close(master->pid_fd);
	}
	if (master->signal_fd >= 0)
		close(master->signal_fd);
	loop_free(master->loop);
	free(master->pid_path);
	free(master->stats_path);
}

int master_run(const struct config_source *source, bool quick)
{
	struct master master = { .source = *source, .quick = quick, .pid_fd = -1, .signal_fd = -1 };
	struct config *config;
	struct config_errors errors = { 0 };
	log_set_process("master");
	if (config_load(source, &config, &errors)) {
		fputs(errors.lines ? errors.lines : "", stderr);
		config_errors_clear(&errors);
		return EXIT_SETTINGS;
	}
	title_set("aegis: master %s", source->file ? source->file : "(no file)");
	int status = prepare(&master, config);
	if (status) {
		config_free(config);
	} else {
		transition_begin(&master, config);
		if (!master.stopping || master.draining)
			loop_run(master.loop);
		status = master.exit_status;
	}
	if (status == 0)
		log_info("stopped");
	clean_up(&master);
	return status;
}
