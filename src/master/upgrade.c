#include "master/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/handover.h"
#include "master/heir.h"
#include "master/master.h"
#include "master/orders.h"
#include "master/segment.h"
#include "master/status.h"
#include "master/supervise.h"
#include "master/transition.h"
#include "master/yield.h"
#include "os/channel.h"
#include "os/notify.h"
#include "os/process.h"
#include "shm/carry.h"

#define READY_NS (30 * NS_PER_S)  /* the new master with all its workers */
#define HANDING_NS (5 * NS_PER_S) /* to switch */
#define COUNT_NS NS_PER_S

static void on_channel(struct loop_io *io, int events);
static void on_deadline(struct loop_timer *timer);
static void on_count(struct loop_timer *timer);

void upgrade_init(struct master *master, char *const *argv)
{
	struct upgrade *upgrade = &master->upgrade;
	*upgrade = (struct upgrade){ .program = process_program(argv[0]), .arguments = argv, .channel = -1 };
	loop_io_init(&upgrade->io, on_channel);
	loop_timer_init(&upgrade->deadline, on_deadline);
	loop_timer_init(&upgrade->count, on_count);
}

bool upgrade_under_way(const struct master *master)
{
	return master->upgrade.state == UPGRADE_STARTING || master->upgrade.state == UPGRADE_HANDING;
}

bool upgrade_is_handing(const struct master *master)
{
	return master->upgrade.state == UPGRADE_HANDING;
}

bool upgrade_is_replaced(const struct master *master)
{
	return master->upgrade.state == UPGRADE_REPLACED;
}

static void close_channel(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	if (upgrade->channel < 0)
		return;
	loop_io_stop(master->loop, &upgrade->io);
	close(upgrade->channel);
	upgrade->channel = -1;
}

static void tell(struct master *master, enum upgrade_message kind, uint32_t value)
{
	struct upgrade *upgrade = &master->upgrade;
	int error = upgrade->channel < 0 ? -EPIPE
	                                 : channel_send(upgrade->channel, &(struct channel_message){ .kind = kind, .value = value }, -1);
	if (error && error != -EPIPE)
		log_error("the new master (pid %d) does not listen: %s", (int)upgrade->pid, strerror(-error));
}

/* --- what came of it ---------------------------------------------------------------------------------------------------------- */

/* For aegis -s upgrade, which waits for that. */
static void note_upgrade(struct master *master, bool ok, const char *note)
{
	struct shm_header *header = master->shm.header;
	(void)text_copy(header->last_upgrade_note, sizeof header->last_upgrade_note, note);
	atomic_store(&header->last_upgrade_ok, ok);
	atomic_store(&header->upgrades_ended, atomic_load(&header->upgrades_begun));
}

/* None of our workers accepts any more: who waits for the upgrade meets the new program only. The one that follows may have begun. */
static void note_success(struct master *master)
{
	struct shm_header *header = master->shm.header;
	uint32_t begun = master->upgrade.begun;
	if ((int32_t)(begun - atomic_load(&header->upgrades_ended)) <= 0)
		return;
	header->last_upgrade_note[0] = '\0';
	atomic_store(&header->last_upgrade_ok, 1);
	atomic_store(&header->upgrades_ended, begun);
}

static void refuse(struct master *master, const char *why)
{
	log_error("no upgrade: %s", why);
	counter_add(&master->shm.header->upgrades_failed, 1);
	atomic_fetch_add(&master->shm.header->upgrades_begun, 1);
	note_upgrade(master, false, why);
}

/* --- it failed ---------------------------------------------------------------------------------------------------------------- */

/* The new master is no more. Its exit status goes to the note, where it said nothing. */
static void end_new_master(struct upgrade *upgrade)
{
	int status = 0;
	if (!upgrade->pid)
		return;
	(void)kill(upgrade->pid, SIGKILL); /* of one that has ended the status stays what it is */
	while (waitpid(upgrade->pid, &status, 0) < 0 && errno == EINTR)
		;
	upgrade->pid = 0;
	if (upgrade->note[0])
		return;
	if (WIFEXITED(status))
		(void)snprintf(upgrade->note, sizeof upgrade->note, "the new program exited with status %d before it was ready",
		        WEXITSTATUS(status));
	else
		(void)snprintf(upgrade->note, sizeof upgrade->note, "the new program was killed by signal %d (%s) before it was ready",
		        WTERMSIG(status), strsignal(WTERMSIG(status)));
}

static void forget_readers(struct upgrade *upgrade)
{
	free(upgrade->readers);
	upgrade->readers = NULL;
}

/* What the new master wrote, as the one in charge, is ours again. */
static void take_charge_again(struct master *master)
{
	struct shm_header *header = master->shm.header;
	bool shared = master->guest;
	master->guest = false;
	for (size_t i = 0; i < master->n_listeners; i++) {
		master->listeners[i]->shared = false;
		listener_stay(master->listeners[i]);
	}
	yield_to_heir(master, NULL);
	forget_readers(&master->upgrade);
	boxes_hand_over(&master->boxes, false);
	if (!shared)
		segment_take_back_last(master->stats_path);
	atomic_store(&header->master_pid, getpid());
	atomic_store(&header->started_ns, master->started_ns);
	atomic_store(&header->started_unix_s, master->started_unix_s);
	if (process_write_pid(master->pid_fd))
		log_error("cannot write %s again", master->pid_path);
	elders_watch(master);
}

static void go_on(struct master *master, bool handing)
{
	master->orphans = true; /* seats of the new master's workers */
	transition_publish(master, master->running);
	if (handing)
		generation_listen_again(master->running);
	generation_replace_dead(master->running);
	helper_renew(&master->helper);
	master_set_state(master, INSTANCE_RUNNING);
}

static void fail(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	bool handing = upgrade->state == UPGRADE_HANDING;
	loop_timer_stop(master->loop, &upgrade->deadline);
	loop_timer_stop(master->loop, &upgrade->count);
	end_new_master(upgrade);
	close_channel(master);
	carry_free(upgrade->carry);
	upgrade->carry = NULL;
	upgrade->state = UPGRADE_NONE;
	if (handing)
		take_charge_again(master);
	else
		segment_drop_next(master->stats_path);
	go_on(master, handing);
	atomic_store(&master->shm.header->heir_pid, 0);
	counter_add(&master->shm.header->upgrades_failed, 1);
	note_upgrade(master, false, upgrade->note);
	log_error("upgrade given up, nothing changed: %s", upgrade->note);
	status_tick(master);
	notify_send("READY=1");
	if (upgrade->reopen_asked)
		order_reopen_log(master);
	if (upgrade->reload_asked)
		order_reload(master);
}

static void fail_because(struct master *master, const char *format, ...) printf_like(2, 3);
static void fail_because(struct master *master, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(master->upgrade.note, sizeof master->upgrade.note, format, args);
	va_end(args);
	fail(master);
}

static void on_deadline(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, upgrade.deadline);
	if (master->upgrade.state == UPGRADE_HANDING)
		fail_because(master, "the new program did not take over within %llu s", (unsigned long long)(HANDING_NS / NS_PER_S));
	else
		fail_because(master, "the new program was not ready within %llu s", (unsigned long long)(READY_NS / NS_PER_S));
}

void upgrade_cancel(struct master *master, const char *why)
{
	master->upgrade.wanted = false;
	master->upgrade.reload_asked = master->upgrade.reopen_asked = false;
	if (upgrade_under_way(master))
		fail_because(master, "%s", why);
}

/* --- it succeeds -------------------------------------------------------------------------------------------------------------- */

static void say_counts(struct master *master, enum upgrade_message kind)
{
	struct upgrade *upgrade = &master->upgrade;
	size_t length;
	char *text = carry_write(upgrade->carry, &master->shm, &length);
	int error = text ? upgrade_say(upgrade->channel, kind, text, length) : -ENOMEM;
	free(text);
	if (error && error != -EPIPE)
		log_error("the counters cannot be handed over to the new master: %s", strerror(-error));
}

static void tell_counts(struct master *master)
{
	if (!master->upgrade.carry)
		return;
	say_counts(master, UPGRADE_COUNTS);
	loop_timer_start(master->loop, &master->upgrade.count, COUNT_NS);
}

static void on_count(struct loop_timer *timer)
{
	tell_counts(container_of(timer, struct master, upgrade.count));
}

/* The new master is ready. From here on, until it has switched or failed, it is in charge. */
static void hand_over(struct master *master, bool same_segment)
{
	struct upgrade *upgrade = &master->upgrade;
	helper_end_running(&master->helper);
	upgrade->state = UPGRADE_HANDING;
	upgrade->same_segment = master->guest = same_segment;
	for (size_t i = 0; i < master->n_listeners; i++)
		master->listeners[i]->shared = true;
	boxes_hand_over(&master->boxes, same_segment);
	loop_timer_stop(master->loop, &master->reclaim);
	elders_leave(master, same_segment);
	loop_timer_start(master->loop, &upgrade->deadline, HANDING_NS);
	if (same_segment) {
		tell(master, UPGRADE_GO, 0);
		return;
	}
	upgrade->carry = carry_new();
	if (upgrade->carry)
		say_counts(master, UPGRADE_GO);
	else
		tell(master, UPGRADE_GO, 0);
}

static void drain_all(struct master *master, uint32_t pace, uint64_t timeout_ns)
{
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		generation_drain(generation, false, pace, timeout_ns);
}

/* Its workers accept: ours no longer do. */
static void be_replaced(struct master *master, uint32_t pace, uint64_t timeout_ns)
{
	struct upgrade *upgrade = &master->upgrade;
	loop_timer_stop(master->loop, &upgrade->deadline);
	upgrade->state = UPGRADE_REPLACED;
	upgrade->begun = atomic_load(&master->shm.header->upgrades_begun);
	notify_send("MAINPID=%d", (int)upgrade->pid);
	notify_release_in_child(); /* the rest is the new master's to say */
	log_info("upgraded: pid %d goes on; %u connections have %llu s to end", (int)upgrade->pid, limit_used(&master->shm, limit_global()),
	        (unsigned long long)(timeout_ns / NS_PER_S));
	close(master->pid_fd);
	master->pid_fd = -1;
	gates_let_go(&master->gates);
	loop_timer_stop(master->loop, &master->watchdog);
	while (master->adoption.elders)
		elder_free(master->adoption.elders);
	if (upgrade->carry)
		loop_timer_start(master->loop, &upgrade->count, COUNT_NS);
	if (!upgrade->same_segment)
		segment_forget_last(master->stats_path);
	if (upgrade->reopen_asked)
		(void)kill(upgrade->pid, SIGUSR1);
	if (upgrade->reload_asked)
		(void)kill(upgrade->pid, SIGHUP);
	master->stopping = true;
	master->exit_status = EXIT_SUCCESS;
	struct generation *generation = master->running;
	master->running = NULL;
	generation->next = master->draining;
	master->draining = generation;
	generation_drain(generation, false, pace, timeout_ns);
	if (upgrade->readers)
		yield_close_rivals_of_heir(master, upgrade->readers);
	forget_readers(upgrade);
	if (!upgrade->same_segment) { /* what our workers have to log nobody else reads */
		helper_rest(&master->helper);
		helper_renew(&master->helper);
	}
	status_tick(master);
	master_generation_changed(master);
}

void upgrade_generation_changed(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	if (upgrade->state != UPGRADE_REPLACED || upgrade->said_stopped)
		return;
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		if (!generation_stopped(generation))
			return;
	upgrade->said_stopped = true;
	note_success(master);
	tell(master, UPGRADE_STOPPED, 0);
}

void upgrade_buried(struct master *master, uint32_t seat)
{
	tell(master, UPGRADE_BURIED, seat);
}

/* --- listening ---------------------------------------------------------------------------------------------------------------- */

static void hear_failure(struct master *master, int fd)
{
	char *text = fd < 0 ? NULL : upgrade_read_text(fd, SHM_NOTE_SIZE - 1);
	struct text note = text_of(master->upgrade.note, sizeof master->upgrade.note);
	if (text)
		text_add_printable(&note, text);
	free(text);
}

/* From now on: a datagram of one of their sessions must not be taken for somebody else's here. What stands in their way is closed when
 * there is no way back, or where that is so already: then they have reloaded. */
static void hear_readers(struct master *master, int fd)
{
	struct upgrade *upgrade = &master->upgrade;
	char *text = fd < 0 ? NULL : upgrade_read_text(fd, HANDOVER_BYTES_MOST);
	if (text && upgrade->state == UPGRADE_HANDING) {
		forget_readers(upgrade);
		upgrade->readers = strdup(text);
		yield_to_heir(master, text);
	} else if (text && upgrade->state == UPGRADE_REPLACED) {
		yield_close_rivals_of_heir(master, text);
	}
	free(text);
}

static void hear(struct master *master, const struct channel_message *message)
{
	enum upgrade_state state = master->upgrade.state;
	if (message->kind == UPGRADE_READY && state == UPGRADE_STARTING)
		hand_over(master, message->value == 1);
	else if (message->kind == UPGRADE_DRAIN && state == UPGRADE_HANDING)
		be_replaced(master, message->value, message->value_ns);
	else if (message->kind == UPGRADE_DRAIN && state == UPGRADE_REPLACED)
		drain_all(master, message->value, message->value_ns);
	else if (message->kind == UPGRADE_QUIT && state == UPGRADE_REPLACED)
		order_stop(master, "the new master");
	else if (message->kind == UPGRADE_REOPEN && state == UPGRADE_REPLACED)
		order_reopen_log(master);
	else if (message->kind == UPGRADE_TELL && state == UPGRADE_REPLACED)
		tell_counts(master);
}

/* It is gone. True when that was the end of the upgrade. */
static void on_end(struct master *master)
{
	if (upgrade_under_way(master)) {
		fail(master);
		return;
	}
	log_warn("the new master (pid %d) is gone; connections that are left here end as they were told to", (int)master->upgrade.pid);
	loop_timer_stop(master->loop, &master->upgrade.count);
	close_channel(master);
	if (master->upgrade.state == UPGRADE_REPLACED)
		yield_close_all(master);
}

static void on_channel(struct loop_io *io, int events)
{
	struct master *master = container_of(io, struct master, upgrade.io);
	struct channel_message message;
	int fd;
	(void)events;
	while (master->upgrade.channel >= 0) {
		int error = channel_receive(master->upgrade.channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error) {
			on_end(master);
			return;
		}
		if (message.kind == UPGRADE_FAILED)
			hear_failure(master, fd);
		else if (message.kind == UPGRADE_YIELD)
			hear_readers(master, fd);
		else if (fd >= 0)
			close(fd);
		hear(master, &message);
	}
}

bool upgrade_reap_one(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	siginfo_t found = { .si_pid = 0 };
	if (!upgrade->pid || waitid(P_PID, (id_t)upgrade->pid, &found, WEXITED | WNOHANG | WNOWAIT) < 0 || !found.si_pid)
		return false;
	if (upgrade_under_way(master))
		on_channel(&upgrade->io, LOOP_READ); /* what it had to say */
	if (upgrade_under_way(master))
		fail(master); /* somebody else has its end of the channel */
	else if (upgrade->pid)
		(void)waitpid(upgrade->pid, NULL, 0);
	upgrade->pid = 0;
	return true;
}

/* --- the order ---------------------------------------------------------------------------------------------------------------- */

static const char *why_not(const struct master *master)
{
	if (getpid() == 1)
		return "Aegis is process 1 here, with which everything ends; start a new container instead";
	if (!master->upgrade.program)
		return "the program was not found when it was started; start Aegis by its full path";
	if (!master->running)
		return "it accepts no connections; reload first";
	return NULL;
}

void order_upgrade(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	if (master->stopping)
		return;
	if (upgrade_under_way(master)) {
		log_info("an upgrade is under way already");
		atomic_fetch_add(&master->shm.header->upgrades_begun, 1); /* who asked hears what becomes of that one */
		return;
	}
	if (master->transition || certificates_hold_reload(master)) {
		log_info("a reload is under way: the upgrade follows it");
		upgrade->wanted = true;
		return;
	}
	upgrade->wanted = false;
	const char *why = why_not(master);
	if (why) {
		refuse(master, why);
		return;
	}
	atomic_fetch_add(&master->shm.header->upgrades_begun, 1);
	log_info("upgrading: starting %s", upgrade->program);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NS_PER_US));
	upgrade->state = UPGRADE_STARTING;
	upgrade->note[0] = '\0';
	upgrade->said_stopped = upgrade->reload_asked = upgrade->reopen_asked = false;
	loop_timer_start(master->loop, &upgrade->deadline, READY_NS);
	int error = heir_fork(master, &upgrade->pid, &upgrade->channel);
	if (!error)
		error = loop_io_set(master->loop, &upgrade->io, upgrade->channel, LOOP_READ);
	if (error)
		fail_because(master, "cannot start the new program: %s", strerror(-error));
}

void upgrade_release_in_child(const struct master *master)
{
	if (master->upgrade.channel >= 0)
		close(master->upgrade.channel);
}

void upgrade_fini(struct master *master)
{
	struct upgrade *upgrade = &master->upgrade;
	if (upgrade->state == UPGRADE_REPLACED && upgrade->carry && upgrade->channel >= 0)
		say_counts(master, UPGRADE_COUNTS);
	if (master->loop)
		close_channel(master);
	carry_free(upgrade->carry);
	forget_readers(upgrade);
	free(upgrade->program);
}
