#include "master/helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/settings.h"
#include "control/control.h"
#include "master/master.h"
#include "master/orders.h"
#include "master/transition.h"
#include "os/channel.h"

#define TRIAL_NS (2 * NS_PER_S)  /* it ends by itself after one */
#define SILENT_NS (5 * NS_PER_S) /* it speaks once a second */
#define STEADY_NS NS_PER_S       /* as with workers */
#define RESPAWN_FIRST_NS (100 * NS_PER_MS)
#define RESPAWN_MOST_NS (500 * NS_PER_MS) /* shorter than with workers: their rings for the logs fill up meanwhile */
#define RETIRE_NS (500 * NS_PER_MS)
#define RETIRED_NS (3 * NS_PER_S) /* it goes by itself after two */
#define END_NS NS_PER_S

static void on_channel(struct loop_io *io, int events);
static void on_trial_over(struct loop_timer *timer);
static void on_respawn(struct loop_timer *timer);
static void on_take_deferred(struct loop_timer *timer);

void helper_init(struct helper *helper, struct master *master)
{
	*helper = (struct helper){ .running = { .master = master, .channel = -1 }, .next = { .master = master, .channel = -1 } };
	loop_io_init(&helper->running.io, on_channel);
	loop_io_init(&helper->next.io, on_channel);
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++) {
		helper->retired[i] = (struct helper_process){ .master = master, .channel = -1 };
		loop_io_init(&helper->retired[i].io, on_channel);
	}
	loop_timer_init(&helper->trial, on_trial_over);
	loop_timer_init(&helper->respawn, on_respawn);
	loop_timer_init(&helper->take_deferred, on_take_deferred);
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

/* The next one may begin only when it is gone. */
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
	const bool *elders = adopt_held(master);
	bool *held = calloc(master->shm.dims.servers, sizeof *held);
	if (held && elders)
		memcpy(held, elders, master->shm.dims.servers * sizeof *held);
	for (size_t i = 0; held && running && i < running->config->n_upstreams; i++)
		for (size_t j = 0; j < running->config->upstreams[i].n_servers; j++)
			if (control_checks(&running->config->upstreams[i], &running->config->upstreams[i].servers[j]))
				held[running->places.servers[i][j]] = true;
	return held;
}

static _Noreturn void child_main(struct master *master, const struct config *config, const struct places *places, bool trial, int channel)
{
	struct control_args args = { .config = config,
		.servers = (const uint32_t *const *)places->servers,
		.upstreams = places->upstreams,
		.shm = &master->shm,
		.settings_path = master->settings_path,
		.held = trial ? list_held(master) : NULL,
		.bells = &master->bells,
		.log_bell = &master->log_bell,
		.access_log = trial ? &master->next_access_log : &master->access_log,
		.channel = channel,
		.identity = &master->identity };
	gates_describe(&master->gates, trial, &args.admin);
	args.admin.run_uid = master->identity.change ? master->identity.uid : args.admin.uid;
	master_release_in_control(master, &args.admin);
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

static void tell_more(struct helper_process *process, const struct channel_message *message, int fd)
{
	int error = process->pid && process->channel >= 0 ? channel_send(process->channel, message, fd) : 0;
	if (error && error != -EPIPE)
		log_error("the control process (pid %d) does not listen: %s", (int)process->pid, strerror(-error));
}

static void tell(struct helper_process *process, enum control_message kind, int fd)
{
	tell_more(process, &(struct channel_message){ .kind = kind }, fd);
}

/* --- orders ---------------------------------------------------------------------------------------------------------------- */

/* A text of any length is sent as a file without a name. -1 when there is no memory for it. */
static int text_fd(const char *text)
{
	size_t length = strlen(text), done = 0;
	int fd = memfd_create("answer", MFD_CLOEXEC);
	while (fd >= 0 && done < length) {
		ssize_t n = write(fd, text + done, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	return fd;
}

static void answer(struct helper_process *process, uint32_t number, int error, const char *text)
{
	int fd = text_fd(text);
	tell_more(process, &(struct channel_message){ .kind = CONTROL_ANSWER, .value = number, .value_ns = (uint64_t)-error }, fd);
	if (fd >= 0)
		close(fd);
}

void helper_answer(struct helper *helper, const struct asker *asker, int error, const char *text)
{
	if (!asker->pid)
		return;
	if (helper->running.pid == asker->pid)
		answer(&helper->running, asker->number, error, text);
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (helper->retired[i].pid == asker->pid)
			answer(&helper->retired[i], asker->number, error, text);
}

static bool is_order(enum control_message kind)
{
	return kind == CONTROL_ASK_RELOAD || kind == CONTROL_ASK_DRAIN || kind == CONTROL_ASK_UNDRAIN || kind == CONTROL_ASK_CERTIFICATES;
}

static void take_order(struct master *master, const struct asker *asker, uint32_t kind, uint64_t value_ns)
{
	if (kind == CONTROL_ASK_RELOAD)
		order_reload_for(master, asker);
	else if (kind == CONTROL_ASK_DRAIN)
		order_drain_for(master, asker, value_ns);
	else if (kind == CONTROL_ASK_CERTIFICATES)
		certificates_reload(master, asker);
	else
		order_undrain_for(master, asker);
}

/* In the midst of changing hands it is not the time for another order. */
static void defer_order(struct helper_process *process, const struct channel_message *message)
{
	struct helper *helper = helper_of(process);
	if (helper->n_deferred == HELPER_DEFERRED_MOST) {
		answer(process, message->value, -EAGAIN, "");
		return;
	}
	size_t i = helper->n_deferred++;
	helper->deferred[i].asker = (struct asker){ .pid = process->pid, .number = message->value };
	helper->deferred[i].kind = message->kind;
	helper->deferred[i].value_ns = message->value_ns;
	loop_timer_start(process->master->loop, &helper->take_deferred, 0);
}

/* In the order in which they came. */
static void on_take_deferred(struct loop_timer *timer)
{
	struct helper *helper = container_of(timer, struct helper, take_deferred);
	struct deferred_order orders[HELPER_DEFERRED_MOST];
	size_t n = helper->n_deferred;
	memcpy(orders, helper->deferred, sizeof orders);
	helper->n_deferred = 0; /* one of them may have hands change once more */
	for (size_t i = 0; i < n; i++)
		take_order(helper->running.master, &orders[i].asker, orders[i].kind, orders[i].value_ns);
}

/* --- retiring -------------------------------------------------------------------------------------------------------------- */

/* 0 when it has retired, -EAGAIN when it may still say so, or another negative errno. */
static int hear_retired(struct helper_process *process)
{
	struct channel_message message;
	int fd;
	for (;;) {
		int error = channel_receive(process->channel, &message, &fd);
		if (error)
			return error;
		if (fd >= 0)
			close(fd);
		if (message.kind == CONTROL_RETIRED)
			return 0;
		if (is_order((enum control_message)message.kind))
			defer_order(process, &message);
	}
}

static int wait_until_retired(struct helper_process *process, uint64_t within_ns)
{
	uint64_t until_ns = clock_now_ns() + within_ns;
	for (;;) {
		int error = process->channel < 0 ? -EPIPE : hear_retired(process);
		uint64_t now_ns = clock_now_ns();
		if (error != -EAGAIN || now_ns >= until_ns)
			return error;
		struct pollfd ready = { .fd = process->channel, .events = POLLIN };
		(void)poll(&ready, 1, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
	}
}

/* The same process in another place. */
static void move_process(struct helper_process *from, struct helper_process *to)
{
	struct loop *loop = from->master->loop;
	loop_io_stop(loop, &from->io);
	to->pid = from->pid;
	to->channel = from->channel;
	to->forked_ns = from->forked_ns;
	to->heard_ns = from->heard_ns;
	from->pid = 0;
	from->channel = -1;
	if (to->channel >= 0 && loop_io_set(loop, &to->io, to->channel, LOOP_READ))
		(void)kill(to->pid, SIGKILL); /* no memory to hear it: the next one may be luckier */
}

/* A place for one more; the oldest is out of time. */
static struct helper_process *retired_place(struct helper *helper)
{
	struct helper_process *oldest = &helper->retired[0];
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++) {
		if (!helper->retired[i].pid)
			return &helper->retired[i];
		if (helper->retired[i].heard_ns < oldest->heard_ns)
			oldest = &helper->retired[i];
	}
	end(oldest);
	return oldest;
}

static void retire(struct helper *helper)
{
	struct helper_process *running = &helper->running;
	if (!running->pid)
		return;
	tell(running, CONTROL_RETIRE, -1);
	int error = wait_until_retired(running, RETIRE_NS);
	if (error) {
		if (error == -EAGAIN)
			log_error("the control process (pid %d) does not make way: killing it", (int)running->pid);
		end(running); /* it is dead already, or soon */
		return;
	}
	running->heard_ns = clock_now_ns();
	move_process(running, retired_place(helper));
}

/* --- transitions ----------------------------------------------------------------------------------------------------------- */

void helper_prepare(struct helper *helper, const struct config *config, const struct places *places)
{
	struct master *master = helper->next.master;
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
	retire(helper);
}

static void try_again(struct helper *helper, uint64_t after_ns)
{
	loop_timer_start(helper->running.master->loop, &helper->respawn, after_ns);
}

void helper_go(struct helper *helper)
{
	helper->resting = false;
	if (!helper->next.pid) {
		try_again(helper, RESPAWN_FIRST_NS);
		return;
	}
	move_process(&helper->next, &helper->running);
	tell(&helper->running, CONTROL_GO, -1);
}

void helper_rest(struct helper *helper)
{
	helper_abandon(helper);
	helper->resting = true;
	tell(&helper->running, CONTROL_REST, -1);
}

/* It may have something to write, and somebody to answer. */
static void let_end(struct helper_process *process, uint64_t until_ns)
{
	while (process->pid && clock_now_ns() < until_ns) {
		if (waitpid(process->pid, NULL, WNOHANG) != 0) {
			forget(process);
			return;
		}
		/* Its end of the channel is closed when it is gone, and this is what is waited for. */
		struct pollfd ready = { .fd = process->channel, .events = 0 };
		(void)poll(&ready, 1, 10);
	}
	end(process);
}

void helper_stop(struct helper *helper)
{
	uint64_t until_ns = clock_now_ns() + END_NS;
	loop_timer_stop(helper->running.master->loop, &helper->respawn);
	loop_timer_stop(helper->running.master->loop, &helper->take_deferred);
	helper_abandon(helper);
	tell(&helper->running, CONTROL_END, -1);
	let_end(&helper->running, until_ns);
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		let_end(&helper->retired[i], until_ns);
}

/* --- listening ------------------------------------------------------------------------------------------------------------- */

static void hear(struct helper_process *process, enum control_message kind)
{
	struct helper *helper = helper_of(process);
	if (process == &helper->running && kind == CONTROL_CERTIFICATES)
		certificates_reload(process->master, NULL);
	if (process != &helper->next)
		return;
	if (kind == CONTROL_CHECKED)
		end_trial(helper);
	else if (kind == CONTROL_REFUSED)
		transition_control_refused(process->master->transition);
}

static bool is_retired(const struct helper_process *process)
{
	const struct helper *helper = helper_of(process);
	return process != &helper->running && process != &helper->next;
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
		if (is_order((enum control_message)message.kind)) {
			const struct asker asker = { .pid = process->pid, .number = message.value };
			take_order(process->master, &asker, message.kind, message.value_ns);
			return; /* it may be another process now */
		}
		if (is_retired(process))
			continue;
		process->heard_ns = clock_now_ns();
		if (message.kind != CONTROL_BEAT) {
			hear(process, (enum control_message)message.kind);
			return;
		}
	}
}

static void end_overdue(struct helper *helper)
{
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (helper->retired[i].pid && clock_now_ns() - helper->retired[i].heard_ns > RETIRED_NS)
			end(&helper->retired[i]);
}

void helper_tick(struct helper *helper)
{
	struct helper_process *running = &helper->running;
	end_overdue(helper);
	if (running->pid && clock_now_ns() - running->heard_ns > SILENT_NS)
		on_channel(&running->io, LOOP_READ); /* it may be the master that stood still */
	if (!running->pid || clock_now_ns() - running->heard_ns <= SILENT_NS)
		return;
	log_error("the control process (pid %d) has not been heard of for %llu s: killing it", (int)running->pid,
	        (unsigned long long)(SILENT_NS / NS_PER_S));
	(void)kill(running->pid, SIGKILL);
}

/* --- dying ----------------------------------------------------------------------------------------------------------------- */

/* Those that were last in force, whatever the file says by now; the file is for where somebody took them away. 0, or a negative errno,
 * and it was logged. */
static int load_resting(const struct master *master, struct config **out)
{
	struct settings last = { 0 };
	struct config_errors errors = { 0 };
	int error = settings_read(master->settings_path, &last, &errors);
	config_errors_clear(&errors);
	if (!error) {
		*out = last.config;
		last.config = NULL;
		settings_fini(&last);
		return 0;
	}
	log_warn("cannot read %s: %s; the control process gets the settings of the file", master->settings_path, strerror(-error));
	error = config_load(&master->source, out, &errors);
	if (error)
		master_log_errors(&errors);
	config_errors_clear(&errors);
	return error;
}

/* While nothing runs it has nothing to check, but who asks is answered. */
static int fork_resting(struct helper *helper)
{
	static const struct places nowhere;
	struct master *master = helper->running.master;
	struct config *config;
	if (master->draining)
		return fork_process(&helper->running, master->draining->config, &master->draining->places, false);
	int error = load_resting(master, &config);
	if (error)
		return error;
	config->n_upstreams = 0;
	config->n_listeners = 0;
	error = fork_process(&helper->running, config, &nowhere, false);
	config_free(config);
	return error;
}

/* One, where there is none. True when it was forked. */
static bool spawn(struct helper *helper)
{
	struct master *master = helper->running.master;
	const struct generation *generation = master->running;
	if (helper->running.pid || (!generation && !helper->resting))
		return false;
	int error = generation ? fork_process(&helper->running, generation->config, &generation->places, false) : fork_resting(helper);
	if (error) {
		log_error("cannot start the control process: %s; trying again", strerror(-error));
		try_again(helper, NS_PER_S);
		return false;
	}
	if (!generation)
		tell(&helper->running, CONTROL_REST, -1);
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
	log_warn("the control process keeps dying: the next try in %llu ms; until then no server is checked, no name resolved and no "
	         "operator answered",
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
	if (!is_retired(process) || WIFSIGNALED(status))
		log_death(process, status);
	forget(process);
	return true;
}

static bool reap_retired(struct helper *helper)
{
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (reap(&helper->retired[i]))
			return true;
	return false;
}

bool helper_reap_one(struct helper *helper)
{
	if (reap(&helper->running)) {
		replace(helper);
		return true;
	}
	if (reap_retired(helper))
		return true;
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

void helper_send_access_log(struct helper *helper, bool next, int fd)
{
	tell(next ? &helper->next : &helper->running, CONTROL_ACCESS_LOG, fd);
}

void helper_release_in_child(const struct helper *helper)
{
	if (helper->running.channel >= 0)
		close(helper->running.channel);
	if (helper->next.channel >= 0)
		close(helper->next.channel);
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (helper->retired[i].channel >= 0)
			close(helper->retired[i].channel);
}
