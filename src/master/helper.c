#include "master/helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/certificates.h"
#include "master/helper_own.h"
#include "master/respawn.h"
#include "master/transition.h"

#define TRIAL_NS (2 * NS_PER_S)  /* it ends by itself after one */
#define SILENT_NS (5 * NS_PER_S) /* it speaks once a second */
#define RETIRE_NS (500 * NS_PER_MS)
#define RETIRED_NS (3 * NS_PER_S) /* it goes by itself after two */
#define END_NS NS_PER_S

static void on_channel(struct loop_io *io, int events);
static void on_trial_over(struct loop_timer *timer);

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
	loop_timer_init(&helper->respawn, helper_on_respawn);
	loop_timer_init(&helper->take_deferred, helper_on_take_deferred);
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
		if (helper_is_order((enum control_message)message.kind))
			helper_defer_order(process, &message);
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
	helper_end(oldest);
	return oldest;
}

static void retire(struct helper *helper)
{
	struct helper_process *running = &helper->running;
	if (!running->pid)
		return;
	helper_tell(running, CONTROL_RETIRE, -1);
	int error = wait_until_retired(running, RETIRE_NS);
	if (error) {
		if (error == -EAGAIN)
			log_error("the control process (pid %d) does not make way: killing it", (int)running->pid);
		helper_end(running); /* it is dead already, or soon */
		return;
	}
	running->heard_ns = clock_now_ns();
	helper_move(running, retired_place(helper));
}

/* --- transitions ----------------------------------------------------------------------------------------------------------- */

void helper_prepare(struct helper *helper, const struct generation *generation)
{
	struct master *master = helper->next.master;
	const struct helper_ground ground = helper_ground_of(generation);
	int error = helper_fork(&helper->next, &ground, true);
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

void helper_end_trial(struct helper *helper)
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
	helper_end_trial(container_of(timer, struct helper, trial));
}

void helper_abandon(struct helper *helper)
{
	helper->awaited = false;
	loop_timer_stop(helper->next.master->loop, &helper->trial);
	helper_end(&helper->next);
}

void helper_end_running(struct helper *helper)
{
	loop_timer_stop(helper->running.master->loop, &helper->respawn);
	helper->quick_deaths = 0;
	retire(helper);
}

void helper_go(struct helper *helper)
{
	helper->resting = false;
	if (!helper->next.pid) {
		helper_try_again(helper, RESPAWN_FIRST_NS);
		return;
	}
	helper_move(&helper->next, &helper->running);
	helper_tell(&helper->running, CONTROL_GO, -1);
}

void helper_rest(struct helper *helper)
{
	helper_abandon(helper);
	helper->resting = true;
	helper_tell(&helper->running, CONTROL_REST, -1);
}

/* It may have something to write, and somebody to answer. */
static void let_end(struct helper_process *process, uint64_t until_ns)
{
	while (process->pid && clock_now_ns() < until_ns) {
		if (waitpid(process->pid, NULL, WNOHANG) != 0) {
			helper_forget(process);
			return;
		}
		/* Its end of the channel is closed when it is gone, and this is what is waited for. */
		struct pollfd ready = { .fd = process->channel, .events = 0 };
		(void)poll(&ready, 1, 10);
	}
	helper_end(process);
}

void helper_stop(struct helper *helper)
{
	uint64_t until_ns = clock_now_ns() + END_NS;
	loop_timer_stop(helper->running.master->loop, &helper->respawn);
	loop_timer_stop(helper->running.master->loop, &helper->take_deferred);
	helper_abandon(helper);
	helper_tell(&helper->running, CONTROL_END, -1);
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
		helper_end_trial(helper);
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
		if (helper_is_order((enum control_message)message.kind)) {
			const struct asker asker = { .pid = process->pid, .number = message.value };
			helper_take_order(process->master, &asker, message.kind, message.value_ns);
			return; /* it may be another process now */
		}
		if (helper_is_retired(process))
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
			helper_end(&helper->retired[i]);
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

/* --- the rest -------------------------------------------------------------------------------------------------------------- */

void helper_send_log(struct helper *helper, int fd)
{
	helper_tell(&helper->running, CONTROL_LOG, fd);
	helper_tell(&helper->next, CONTROL_LOG, fd);
}

void helper_send_access_log(struct helper *helper, bool next, int fd)
{
	helper_tell(next ? &helper->next : &helper->running, CONTROL_ACCESS_LOG, fd);
}

void helper_renew_certificates(struct helper *helper)
{
	if (helper->running.master->running->excerpt >= 0)
		helper_tell(&helper->running, CONTROL_EXCERPT, helper->running.master->running->excerpt);
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
