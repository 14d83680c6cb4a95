#include "master/helper.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/control.h"
#include "master/master.h"
#include "master/transition.h"
#include "os/channel.h"

#define TRIAL_NS (2 * NS_PER_S)  /* it ends by itself after one */
#define SILENT_NS (5 * NS_PER_S) /* it speaks once a second */
#define STEADY_NS NS_PER_S       /* the rest is as with workers */
#define RESPAWN_FIRST_NS (100 * NS_PER_MS)
#define RESPAWN_MOST_NS (2 * NS_PER_S)

static void on_channel(struct loop_io *io, int events);
static void on_trial_over(struct loop_timer *timer);
static void on_respawn(struct loop_timer *timer);

void helper_init(struct helper *helper, struct master *master)
{
	*helper = (struct helper){ .running = { .master = master, .channel = -1 }, .next = { .master = master, .channel = -1 } };
	loop_io_init(&helper->running.io, on_channel);
	loop_io_init(&helper->next.io, on_channel);
	loop_timer_init(&helper->trial, on_trial_over);
	loop_timer_init(&helper->respawn, on_respawn);
}

static struct helper *helper_of(const struct helper_process *process)
{
	return &process->master->helper;
}

static void close_channel(struct helper_process *process)
{
	if (process->channel < 0)
		return;
	loop_io_stop(process->master->loop, &process->io);
	close(process->channel);
	process->channel = -1;
}

static void forget(struct helper_process *process)
{
	close_channel(process);
	process->pid = 0;
}

/* It owes nobody anything, and the next one may begin only when it is gone. */
static void end(struct helper_process *process)
{
	if (!process->pid)
		return;
	(void)kill(process->pid, SIGKILL);
	while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
		;
	forget(process);
}

/* --- forking --------------------------------------------------------------------------------------------------------------- */

/* The rows that the running control process writes to, by row; all of them are in shared memory, so that NULL = out of memory. */
static bool *list_held(const struct master *master)
{
	const struct generation *running = master->running;
	bool *held = calloc(master->shm.dims.servers, sizeof *held);
	for (size_t i = 0; held && running && i < running->config->n_upstreams; i++)
		for (size_t j = 0; j < running->config->upstreams[i].n_servers; j++)
			if (control_checks(&running->config->upstreams[i], &running->config->upstreams[i].servers[j]))
				held[running->places.servers[i][j]] = true;
	return held;
}

static _Noreturn void child_main(struct master *master, const struct config *config, const struct places *places, bool trial, int channel)
{
	const struct control_args args = { .config = config,
		.servers = (const uint32_t *const *)places->servers,
		.upstreams = places->upstreams,
		.shm = &master->shm,
		.held = trial ? list_held(master) : NULL,
		.bells = &master->bells,
		.channel = channel,
		.identity = &master->identity };
	master_release_in_child(master, NULL, 0);
	_exit(trial && !args.held ? EXIT_FAILURE : control_run(&args));
}

static int fork_process(struct helper_process *process, const struct config *config, const struct places *places, bool trial)
{
	int ends[2];
	int error = channel_pair(ends);
	if (error)
		return error;
	process->forked_ns = process->heard_ns = clock_now_ns();
	pid_t pid = fork();
	if (pid < 0) {
		error = -errno;
		close(ends[0]);
		close(ends[1]);
		return error;
	}
	if (pid == 0) {
		close(ends[0]);
		child_main(process->master, config, places, trial, ends[1]);
	}
	close(ends[1]);
	process->pid = pid;
	process->channel = ends[0];
	error = loop_io_set(process->master->loop, &process->io, process->channel, LOOP_READ);
	if (error)
		end(process);
	return error;
}

static void tell(struct helper_process *process, enum control_message kind, int fd)
{
	int error = process->pid ? channel_send(process->channel, &(struct channel_message){ .kind = kind }, fd) : 0;
	if (error && error != -EPIPE)
		log_error("the control process (pid %d) does not listen: %s", (int)process->pid, strerror(-error));
}

/* --- transitions ----------------------------------------------------------------------------------------------------------- */

void helper_prepare(struct helper *helper, const struct config *config, const struct places *places)
{
	struct master *master = helper->next.master;
	if (!control_needed(config))
		return;
	int error = fork_process(&helper->next, config, places, true);
	if (error) {
		log_error("cannot fork the control process: %s; trying again soon", strerror(-error));
		return;
	}
	helper->awaited = true;
	loop_timer_start(master->loop, &helper->trial, TRIAL_NS);
}

bool helper_is_prepared(const struct helper *helper)
{
	return !helper->awaited;
}

/* The transition may be over after that. */
static void end_trial(struct helper *helper)
{
	struct master *master = helper->next.master;
	if (!helper->awaited)
		return;
	helper->awaited = false;
	loop_timer_stop(master->loop, &helper->trial);
	if (master->transition)
		transition_try_switch(master->transition);
}

static void on_trial_over(struct loop_timer *timer)
{
	end_trial(container_of(timer, struct helper, trial));
}

void helper_abandon(struct helper *helper)
{
	helper->awaited = false;
	loop_timer_stop(helper->next.master->loop, &helper->trial);
	end(&helper->next);
}

void helper_end_running(struct helper *helper)
{
	loop_timer_stop(helper->running.master->loop, &helper->respawn);
	helper->quick_deaths = 0;
	end(&helper->running);
}

static void try_again(struct helper *helper, uint64_t after_ns)
{
	loop_timer_start(helper->running.master->loop, &helper->respawn, after_ns);
}

void helper_go(struct helper *helper)
{
	struct master *master = helper->running.master;
	if (!helper->next.pid) {
		if (control_needed(master->running->config))
			try_again(helper, RESPAWN_FIRST_NS);
		return;
	}
	helper->running.pid = helper->next.pid;
	helper->running.channel = helper->next.channel;
	helper->running.forked_ns = helper->next.forked_ns;
	helper->running.heard_ns = helper->next.heard_ns;
	loop_io_stop(master->loop, &helper->next.io);
	helper->next.pid = 0;
	helper->next.channel = -1;
	if (loop_io_set(master->loop, &helper->running.io, helper->running.channel, LOOP_READ))
		(void)kill(helper->running.pid, SIGKILL); /* no memory to hear it: the next one may be luckier */
	tell(&helper->running, CONTROL_GO, -1);
}

void helper_stop(struct helper *helper)
{
	helper_abandon(helper);
	helper_end_running(helper);
}

/* --- listening ------------------------------------------------------------------------------------------------------------- */

static void hear(struct helper_process *process, enum control_message kind)
{
	struct helper *helper = helper_of(process);
	if (process != &helper->next)
		return;
	if (kind == CONTROL_CHECKED)
		end_trial(helper);
	else if (kind == CONTROL_REFUSED)
		transition_control_refused(process->master->transition);
}

static void on_channel(struct loop_io *io, int events)
{
	struct helper_process *process = container_of(io, struct helper_process, io);
	struct channel_message message;
	int fd;
	(void)events;
	while (process->channel >= 0) {
		int error = channel_receive(process->channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error) { /* as with workers */
			loop_io_stop(process->master->loop, io);
			if (error != -EPIPE)
				(void)kill(process->pid, SIGKILL);
			return;
		}
		if (fd >= 0)
			close(fd);
		process->heard_ns = clock_now_ns();
		if (message.kind != CONTROL_BEAT) {
			hear(process, (enum control_message)message.kind);
			return; /* it may be another process now */
		}
	}
}

void helper_tick(struct helper *helper)
{
	struct helper_process *running = &helper->running;
	if (running->pid && clock_now_ns() - running->heard_ns > SILENT_NS)
		on_channel(&running->io, LOOP_READ); /* it may be the master that stood still */
	if (!running->pid || clock_now_ns() - running->heard_ns <= SILENT_NS)
		return;
	log_error("the control process (pid %d) has not been heard of for %llu s: killing it", (int)running->pid,
	        (unsigned long long)(SILENT_NS / NS_PER_S));
	(void)kill(running->pid, SIGKILL);
}

/* --- dying ----------------------------------------------------------------------------------------------------------------- */

/* One for the running generation, where it needs one and there is none. True when it was forked. */
static bool spawn(struct helper *helper)
{
	const struct generation *generation = helper->running.master->running;
	if (!generation || helper->running.pid || !control_needed(generation->config))
		return false;
	int error = fork_process(&helper->running, generation->config, &generation->places, false);
	if (error) {
		log_error("cannot fork the control process: %s; trying again", strerror(-error));
		try_again(helper, NS_PER_S);
		return false;
	}
	tell(&helper->running, CONTROL_GO, -1);
	return true;
}

void helper_renew(struct helper *helper)
{
	(void)spawn(helper); /* or it is tried again */
}

static void respawn(struct helper *helper)
{
	if (!spawn(helper))
		return;
	counter_add(&helper->running.master->shm.header->control_restarts, 1);
	log_info("the control process is replaced by pid %d", (int)helper->running.pid);
}

static void on_respawn(struct loop_timer *timer)
{
	respawn(container_of(timer, struct helper, respawn));
}

static void replace(struct helper *helper)
{
	uint64_t lived_ns = clock_now_ns() - helper->running.forked_ns;
	helper->quick_deaths = lived_ns < STEADY_NS ? helper->quick_deaths + 1 : 0;
	if (helper->quick_deaths <= 1) {
		respawn(helper);
		return;
	}
	uint32_t doublings = helper->quick_deaths - 2 < 7 ? helper->quick_deaths - 2 : 7;
	uint64_t delay_ns = RESPAWN_FIRST_NS << doublings;
	if (delay_ns > RESPAWN_MOST_NS)
		delay_ns = RESPAWN_MOST_NS;
	log_warn("the control process keeps dying: the next try in %llu ms; until then no server is checked and no name resolved",
	        (unsigned long long)(delay_ns / NS_PER_MS));
	try_again(helper, delay_ns);
}

static void log_death(const struct helper_process *process, int status)
{
	if (WIFSIGNALED(status))
		log_error("the control process (pid %d) was killed by signal %d (%s)%s", (int)process->pid, WTERMSIG(status),
		        strsignal(WTERMSIG(status)), WCOREDUMP(status) ? ", core dumped" : "");
	else
		log_error("the control process (pid %d) exited with status %d", (int)process->pid, WEXITSTATUS(status));
}

static bool reap(struct helper_process *process)
{
	int status;
	if (!process->pid || waitpid(process->pid, &status, WNOHANG) <= 0)
		return false;
	log_death(process, status);
	forget(process);
	return true;
}

bool helper_reap_one(struct helper *helper)
{
	if (reap(&helper->running)) {
		replace(helper);
		return true;
	}
	if (!reap(&helper->next))
		return false;
	end_trial(helper);
	return true;
}

/* --- the rest -------------------------------------------------------------------------------------------------------------- */

void helper_send_log(struct helper *helper, int fd)
{
	tell(&helper->running, CONTROL_LOG, fd);
	tell(&helper->next, CONTROL_LOG, fd);
}

void helper_release_in_child(const struct helper *helper)
{
	if (helper->running.channel >= 0)
		close(helper->running.channel);
	if (helper->next.channel >= 0)
		close(helper->next.channel);
}
