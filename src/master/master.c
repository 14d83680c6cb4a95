#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "config/settings.h"
#include "master/orders.h"
#include "master/patience.h"
#include "master/segment.h"
#include "master/status.h"
#include "master/supervise.h"
#include "master/transition.h"
#include "os/notify.h"
#include "os/process.h"
#include "os/region.h"
#include "os/runtime_dir.h"
#include "os/signals.h"
#include "os/title.h"

/* Rows in the segment: while a reload renames things, old and new names need one each. */
enum { SEGMENT_LISTENERS = 2 * CONFIG_MAX_LISTENERS, SEGMENT_SERVERS = 2 * CONFIG_MAX_SERVERS, SEGMENT_MIN_WORKERS = 16 };

#define TICK_NS NS_PER_S

void master_log_errors(const struct config_errors *errors)
{
	const char *line = errors->lines;
	while (line && *line) {
		size_t length = strcspn(line, "\n");
		log_error("%.*s", (int)length, line);
		line += length + (line[length] == '\n');
	}
}

void master_tell(struct master *master, enum plan_weight weight, const char *format, ...)
{
	char bytes[1024];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(bytes, sizeof bytes, format, args);
	va_end(args);
	log_line(weight == PLAN_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "%s", bytes);
	plan_add(&master->reload.plan, weight, "", "%s", bytes);
}

void master_tell_lines(struct master *master, enum plan_weight weight, const struct config_errors *lines)
{
	const char *line = lines->lines;
	while (line && *line) {
		size_t length = strcspn(line, "\n");
		log_line(weight == PLAN_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "%.*s", (int)length, line);
		line += length + (line[length] == '\n');
	}
	plan_add_lines(&master->reload.plan, weight, lines);
}

uint32_t master_worker_count(const struct master *master, const struct config *config)
{
	return config->workers ? config->workers : (uint32_t)cpu_worker_count(&master->cpus);
}

void master_set_state(struct master *master, enum instance_state state)
{
	if (!master->guest)
		atomic_store(&master->shm.header->state, (uint32_t)state);
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
			order_reload(master);
			break;
		case SIGTERM:
		case SIGINT:
		case SIGQUIT:
			order_stop(master, strsignal(signal));
			break;
		case SIGUSR1:
			order_reopen_log(master);
			break;
		case SIGUSR2:
			order_upgrade(master);
			break;
		case SIGWINCH:
			order_drain(master);
			break;
		case SIGCHLD:
			master_reap(master);
			break;
		default:
			log_warn("signal %d (%s) is not used by this version", signal, strsignal(signal));
		}
	}
}

/* Seats of workers that are not ours. During an upgrade one that is being taken must not be mistaken for one. */
static void clear_orphans(struct master *master)
{
	if (!master->orphans || loop_timer_active(&master->reclaim) || master->guest || upgrade_under_way(master))
		return;
	master->orphans = segment_clear_gone(&master->shm) > master_own_workers(master);
	if (!master->orphans && !master->adoption.elders)
		boxes_forget_elder(&master->boxes, &master->shm);
}

/* Where two masters have the same keys the one that is in charge makes new ones. */
static void rotate_tickets(struct master *master)
{
	if (!master->running || upgrade_is_handing(master))
		return;
	if (tickets_tick(master->tickets, master->running->config->tls.ticket_rotation_ns, clock_now_ns()))
		log_debug("a new key for session tickets");
}

static void on_tick(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, tick);
	clear_orphans(master);
	master_reap(master); /* SIGCHLD may stand for several; nothing is lost for longer than this */
	helper_tick(&master->helper);
	rotate_tickets(master);
	certificates_tick(master);
	transition_tick(master->transition);
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

static int start_failed(struct master *master, const char *format, ...) printf_like(2, 3);
static int start_failed(struct master *master, const char *format, ...)
{
	char line[512];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(line, sizeof line, format, args);
	va_end(args);
	log_error("%s", line);
	(void)text_copy(master->failure, sizeof master->failure, line);
	return EXIT_START;
}

static int make_runtime_dir(struct master *master)
{
	char default_dir[256];
	runtime_dir_default(default_dir, sizeof default_dir);
	bool own = geteuid() != 0 && strcmp(default_dir, master->runtime_dir) == 0;
	int error = process_make_directory(master->runtime_dir, own);
	if (error)
		return start_failed(
		        master, "cannot make the directory %s: %s; -r DIR names another one", master->runtime_dir, strerror(-error));
	return 0;
}

static int take_runtime_dir(struct master *master, const struct config *config)
{
	const char *dir = adopt_is_under_way(master) ? adopt_runtime_dir(master) : config->runtime_dir;
	(void)text_copy(master->runtime_dir, sizeof master->runtime_dir, dir);
	if (asprintf(&master->pid_path, "%s/aegis.pid", dir) < 0 || asprintf(&master->stats_path, "%s/stats", dir) < 0 ||
	        asprintf(&master->settings_path, "%s/settings", dir) < 0)
		return start_failed(master, "out of memory");
	if (adopt_is_under_way(master)) {
		master->pid_fd = adopt_pid_file(master);
		return 0;
	}
	int status = make_runtime_dir(master);
	if (status)
		return status;
	pid_t running = 0;
	master->pid_fd = process_lock_pid_file(master->pid_path, &running);
	if (master->pid_fd == -EEXIST)
		return start_failed(
		        master, "Aegis is already running in %s (pid %d); stop it, or use -r DIR for a second instance", dir, (int)running);
	if (master->pid_fd < 0)
		return start_failed(
		        master, "cannot write %s: %s; -r DIR names another directory", master->pid_path, strerror(-master->pid_fd));
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
	bool adopting = adopt_is_under_way(master);
	int error = adopting ? adopt_segment(master, &dims)
	                     : segment_open(
	                               &master->shm, master->stats_path, &dims, master->identity.change ? master->identity.gid : (gid_t)-1);
	if (error == -EBUSY)
		return start_failed(master,
		        "Aegis is running in %s, but its aegis.pid was removed; stop it, or use -r DIR for a second instance",
		        config->runtime_dir);
	if (error)
		return start_failed(master, "cannot make %s: %s; -r DIR names another directory", master->stats_path, strerror(-error));
	struct shm_header *header = master->shm.header;
	master->shm.nobodys = boxes_places;
	master->shm.nobodys_arg = &master->boxes;
	master->started_ns = clock_now_ns();
	master->started_unix_s = (uint64_t)time(NULL);
	if (master->guest)
		return 0;
	if (!adopting)
		atomic_store(&header->master_pid, getpid());
	atomic_store(&header->started_ns, master->started_ns);
	atomic_store(&header->started_unix_s, master->started_unix_s);
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
		(void)text_copy(master->failure, sizeof master->failure, why);
		return EXIT_SETTINGS;
	}
	int status = take_runtime_dir(master, config);
	if (status)
		return status;
	cpu_usable("", &master->cpus);
	status = open_segment(master, config);
	if (status)
		return status;
	adopt_gates(master);
	if (gates_open(&master->gates, master->runtime_dir, master->identity.change ? master->identity.gid : (gid_t)-1, why, sizeof why))
		return start_failed(master, "%s; -r DIR names another directory", why);
	master->signal_fd = signals_open(signals);
	master->loop = master->signal_fd < 0 ? NULL : loop_new();
	if (!master->loop)
		return start_failed(master, "cannot make an event loop: out of descriptors or memory");
	helper_init(&master->helper, master);
	certificates_init(master);
	if (!adopt_tickets(master) && tickets_new(&master->tickets, &master->tickets_fd))
		return start_failed(master, "cannot make the keys of session tickets: out of memory, or the kernel has no random numbers");
	loop_timer_init(&master->tick, on_tick);
	loop_timer_init(&master->watchdog, on_watchdog);
	loop_timer_init(&master->reclaim, master_on_reclaim);
	loop_io_init(&master->signal_io, on_signal);
	if (loop_io_set(master->loop, &master->signal_io, master->signal_fd, LOOP_READ))
		return start_failed(master, "cannot watch for signals: the kernel has no memory");
	int error = adopt_all(master);
	if (error)
		return start_failed(
		        master, "cannot make the bells of the workers, or take over what the old master has: %s", strerror(-error));
	loop_timer_start(master->loop, &master->tick, TICK_NS);
	if (notify_watchdog_ns())
		loop_timer_start(master->loop, &master->watchdog, notify_watchdog_ns());
	return 0;
}

/* Another master uses the files in the runtime directory, and the sockets. */
static bool another_goes_on(const struct master *master)
{
	return adopt_is_under_way(master) || upgrade_is_replaced(master);
}

static void clean_up(struct master *master)
{
	certificates_fini(master);
	hung_fini(&master->hung);
	upgrade_fini(master);
	adopt_fini(master);
	boxes_hand_over(&master->boxes, another_goes_on(master));
	boxes_forget_elder(&master->boxes, &master->shm); /* if that was not noticed yet */
	if (another_goes_on(master))
		gates_let_go(&master->gates);
	gates_close(&master->gates);
	while (master->n_listeners > 0)
		listener_free(master->listeners[--master->n_listeners]);
	free(master->listeners);
	if (master->shm.header) {
		if (!another_goes_on(master))
			(void)unlink(master->stats_path);
		region_close(master->shm.header, shm_size_bytes(&master->shm.dims));
	}
	if (master->pid_fd >= 0) {
		settings_remove(master->settings_path, getpid());
		if (!another_goes_on(master))
			(void)unlink(master->pid_path);
		close(master->pid_fd);
	}
	if (master->signal_fd >= 0)
		close(master->signal_fd);
	loop_free(master->loop);
	bells_close(&master->bells);
	bells_close(&master->log_bell);
	owners_close(&master->owners);
	log_sink_close(&master->access_log);
	free(master->pid_path);
	free(master->stats_path);
	free(master->settings_path);
	plan_free(&master->reload.plan);
	tickets_close(master->tickets);
	if (master->tickets_fd >= 0)
		close(master->tickets_fd);
}

/* Load the settings. 0, or what the program exits with. */
static int load(struct master *master, struct config **out)
{
	struct config_errors errors = { 0 };
	if (patience_try(&master->source, PATIENCE_NS, &master->hung, &errors) == 0 && config_load(&master->source, out, &errors) == 0)
		return 0;
	if (adopt_is_under_way(master))
		master_log_errors(&errors); /* where that goes the operator looks */
	else
		fputs(errors.lines ? errors.lines : "", stderr);
	(void)text_copy(master->failure, sizeof master->failure, errors.lines ? errors.lines : "invalid settings");
	master->failure[strcspn(master->failure, "\n")] = '\0';
	config_errors_clear(&errors);
	return EXIT_SETTINGS;
}

static int begin(struct master *master)
{
	struct config *config;
	char why[256];
	if (adopt_begin(master, why, sizeof why))
		return start_failed(master, "%s", why);
	int status = load(master, &config);
	if (status)
		return status;
	title_set("aegis: master %s", master->source.file ? master->source.file : "(no file)");
	status = prepare(master, config);
	if (status) {
		config_free(config);
		return status;
	}
	transition_begin(master, config);
	if (!master->stopping || master->draining)
		loop_run(master->loop);
	return master->exit_status;
}

int master_run(const struct config_source *source, bool quick, char *const *argv)
{
	struct master master = { .source = *source, .quick = quick, .pid_fd = -1, .signal_fd = -1, .tickets_fd = -1 };
	log_set_process("master");
	gates_init(&master.gates);
	owners_init(&master.owners);
	upgrade_init(&master, argv);
	int status = begin(&master);
	if (master.loop)
		helper_stop(&master.helper); /* what it has to write comes before the last word */
	if (adopt_is_under_way(&master))
		adopt_give_up(&master, master.failure[0] ? master.failure : "stopped before it was complete");
	else if (status == 0)
		log_info(upgrade_is_replaced(&master) ? "drained" : "stopped");
	clean_up(&master);
	return status;
}
