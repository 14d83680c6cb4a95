#include "master/orders.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/in_place.h"
#include "master/patience.h"
#include "master/reload_plan.h"
#include "master/status.h"
#include "master/transition.h"
#include "os/image.h"
#include "os/notify.h"
#include "shm/limit.h"

#define RELOAD_NS (3 * NS_PER_S) /* for a file of settings: so long the master does nothing else */

/* --- answers ----------------------------------------------------------------------------------------------------------------- */

static bool add_asker(struct askers *askers, const struct asker *asker)
{
	if (askers->n == ASKERS_MOST)
		return false;
	askers->askers[askers->n++] = *asker;
	return true;
}

static void answer_all(struct master *master, struct askers *askers, int error, const char *text)
{
	for (size_t i = 0; i < askers->n; i++)
		helper_answer(&master->helper, &askers->askers[i], error, text);
	askers->n = 0;
}

/* Nobody will do what they wait for. */
static void send_away(struct master *master, struct askers *askers, int error)
{
	answer_all(master, askers, error, "");
}

static void answer_reload(struct master *master, bool ok, const char *note)
{
	char *text = NULL;
	size_t size;
	FILE *out = master->reload.askers.n > 0 ? open_memstream(&text, &size) : NULL;
	if (!out) {
		send_away(master, &master->reload.askers, -ENOMEM);
		return;
	}
	reload_plan_report(master, ok, note, out);
	if (fclose(out) != 0) {
		free(text);
		text = NULL;
	}
	answer_all(master, &master->reload.askers, !text ? -ENOMEM : ok ? 0 : -EINVAL, text ? text : "");
	free(text);
}

static void answer_state(struct master *master, const struct asker *asker)
{
	char text[128];
	(void)snprintf(text, sizeof text, "{\"state\":\"%s\",\"connections\":%u}",
	        instance_state_name(atomic_load(&master->shm.header->state)), limit_used(&master->shm, limit_global()));
	helper_answer(&master->helper, asker, 0, text);
}

/* --- reload ------------------------------------------------------------------------------------------------------------------ */

static void note_reload(struct master *master, bool ok, const char *note)
{
	struct shm_header *header = master->shm.header;
	atomic_fetch_add(&header->last_reload_sequence, 1);
	(void)text_copy(header->last_reload_note, sizeof header->last_reload_note, note);
	atomic_store(&header->last_reload_unix_s, (uint64_t)time(NULL));
	atomic_store(&header->last_reload_ok, ok);
	atomic_fetch_add(&header->last_reload_sequence, 1);
	counter_add(ok ? &header->reloads_ok : &header->reloads_failed, 1);
	atomic_store(&header->reloads_ended, atomic_load(&header->reloads_begun));
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
	if (ok && *note)
		log_info("reloaded: %s; generation %u goes on", note, master->running->number);
	else if (ok)
		log_info("reloaded: generation %u runs", master->running->number);
	else
		log_error("reload refused, nothing changed: %s", note);
	master_set_state(master, resting_state(master));
	status_tick(master);
	notify_send("READY=1");
	answer_reload(master, ok, note);
}

/* A change in place is told when it is done. */
static void log_plan(const struct plan *plan)
{
	char bytes[512];
	struct text text = text_of(bytes, sizeof bytes);
	plan_sum_up(plan, &text);
	if (plan->outcome != PLAN_TAKE_IN_PLACE)
		log_info("plan: %s", bytes);
}

static void take_up_what_waits(struct master *master);

void order_reload(struct master *master)
{
	struct config *config;
	struct config_errors errors = { 0 };
	char note[SHM_NOTE_SIZE];
	if (master->stopping)
		return;
	if (upgrade_under_way(master)) {
		log_info("an upgrade is under way: the reload follows it");
		master->upgrade.reload_asked = true;
		return;
	}
	if (master->transition || certificates_hold_reload(master)) {
		log_info("a reload is under way: another one follows it");
		master->reload_again = true;
		return;
	}
	atomic_fetch_add(&master->shm.header->reloads_begun, 1);
	log_info("reloading %s", master->source.file ? master->source.file : "the settings");
	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NS_PER_US));
	if (patience_try(&master->source, RELOAD_NS, &master->hung, &errors) || config_load(&master->source, &config, &errors)) {
		(void)text_copy(note, sizeof note, errors.lines ? errors.lines : "");
		note[strcspn(note, "\n")] = '\0';
		master_log_errors(&errors);
		reload_plan_refuse(master, &errors);
		config_errors_clear(&errors);
		reload_ended(master, false, note);
		return;
	}
	reload_plan_make(master, config);
	/* Where no setting changed it may be for the certificates alone, and they need no new workers. */
	if (master->reload.plan.count == 0 && certificates_first(master, config)) {
		master_set_state(master, INSTANCE_RELOADING);
		return;
	}
	log_plan(&master->reload.plan);
	if (in_place_apply(master, config, &master->reload.plan, note, sizeof note)) {
		reload_plan_settle(master);
		reload_ended(master, true, note);
		return;
	}
	master_set_state(master, INSTANCE_RELOADING);
	transition_begin(master, config);
}

void order_reload_after_certificates(
        struct master *master, struct config *config, enum certificates_end end, const struct config_errors *errors)
{
	if (end == CERTIFICATES_SAME) {
		log_plan(&master->reload.plan);
		transition_begin(master, config);
		return;
	}
	config_free(config);
	if (end == CERTIFICATES_CHANGED)
		reload_plan_settle(master);
	else
		plan_add_lines(&master->reload.plan, PLAN_ERROR, errors);
	reload_ended(master, end == CERTIFICATES_CHANGED,
	        end == CERTIFICATES_CHANGED ? "certificates changed, no setting" : "certificates cannot be used; see the log");
	take_up_what_waits(master);
}

void order_reload_for(struct master *master, const struct asker *asker)
{
	struct askers *askers = master->transition || certificates_hold_reload(master) ? &master->reload.later : &master->reload.askers;
	if (master->stopping)
		helper_answer(&master->helper, asker, -ESHUTDOWN, "");
	else if (upgrade_under_way(master) || !add_asker(askers, asker))
		helper_answer(&master->helper, asker, -EAGAIN, "");
	else
		order_reload(master);
}

void order_undrain_for(struct master *master, const struct asker *asker)
{
	if (!master->stopping && master->running)
		answer_state(master, asker); /* there is nothing to do */
	else
		order_reload_for(master, asker);
}

/* What was asked for while a reload was under way. */
static void take_up_what_waits(struct master *master)
{
	if (master->reload_again) {
		master->reload_again = false;
		master->reload.askers = master->reload.later;
		master->reload.later.n = 0;
		order_reload(master);
	}
	if (master->upgrade.wanted && !master->transition && !certificates_hold_reload(master))
		order_upgrade(master);
}

static void started(struct master *master)
{
	master_set_state(master, INSTANCE_RUNNING);
	status_log_start(master);
	if (master->adoption.state == ADOPT_DONE)
		log_info("took over from pid %d", (int)master->adoption.from);
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
		reload_plan_settle(master);
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
		(void)text_copy(master->failure, sizeof master->failure, note);
	}
	master_generation_changed(master);
	image_let_go(); /* until the next transition hardly anything happens here */
	take_up_what_waits(master);
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
static void drain_running(struct master *master, uint64_t timeout_ns)
{
	struct generation *generation = master->running;
	if (!generation)
		return;
	const struct config *config = generation->config;
	for (size_t i = 0; i < master->n_listeners; i++)
		listener_hide(master->listeners[i]);
	generation_drain(generation, true, config->drain.pace, timeout_ns == UINT64_MAX ? config->drain.timeout_ns : timeout_ns);
	master->running = NULL;
	helper_rest(&master->helper); /* nothing is dialled any more but what clients that are there still wait for */
	generation->next = master->draining;
	master->draining = generation;
}

/* Who waits for a reload that is given up hears why, unless it was too late to give it up. */
static void cancel_transition(struct master *master, int error)
{
	if (certificates_hold_reload(master)) {
		certificates_cancel(master);
		note_reload(master, false, "given up before it was complete");
		send_away(master, &master->reload.askers, error);
	}
	if (!master->transition)
		return;
	if (!transition_is_switched(master->transition))
		send_away(master, &master->reload.askers, error);
	transition_cancel(master->transition);
}

void order_stop(struct master *master, const char *name)
{
	if (master->stopping) {
		log_warn("%s: asked to stop again: ending all connections now", name);
		for_each_generation(master, generation_quit);
		elders_quit(master, 0);
		return;
	}
	upgrade_cancel(master, "stopped before it was complete");
	const struct config *config = settings(master);
	uint64_t timeout_ns = config ? config->drain.timeout_ns : 0;
	log_info("%s: stopping; %u connections have %llu s to end", name, limit_used(&master->shm, limit_global()),
	        (unsigned long long)(timeout_ns / NS_PER_S));
	notify_send("STOPPING=1");
	master->stopping = true;
	master->reload_again = false;
	send_away(master, &master->reload.later, -ESHUTDOWN);
	cancel_transition(master, -ESHUTDOWN);
	master->exit_status = EXIT_SUCCESS;
	master_set_state(master, INSTANCE_STOPPING);
	drain_running(master, UINT64_MAX);
	elders_drain(master, config ? config->drain.pace : 0, timeout_ns);
	master_generation_changed(master);
}

static void drain_within(struct master *master, uint64_t timeout_ns)
{
	if (master->stopping || !master->running)
		return;
	master->reload_again = false;
	send_away(master, &master->reload.later, -ECANCELED);
	upgrade_cancel(master, "drained before it was complete");
	cancel_transition(master, -ECANCELED);
	log_info("draining: no new connections, %u have to end; HUP takes up service again", limit_used(&master->shm, limit_global()));
	master->draining_by_request = true;
	master_set_state(master, INSTANCE_DRAINING);
	drain_running(master, timeout_ns);
	master_generation_changed(master);
	status_tick(master);
}

void order_drain(struct master *master)
{
	drain_within(master, UINT64_MAX);
}

void order_drain_for(struct master *master, const struct asker *asker, uint64_t timeout_ns)
{
	if (master->stopping || (!master->running && !master->draining_by_request)) {
		helper_answer(&master->helper, asker, master->stopping ? -ESHUTDOWN : -EAGAIN, "");
		return;
	}
	drain_within(master, timeout_ns);
	answer_state(master, asker);
}

/* True when it is a file, and was opened. */
static bool reopen_log(struct master *master)
{
	master->upgrade.reopen_asked = upgrade_under_way(master);
	elders_reopen_log(master);
	int error = log_reopen();
	if (error)
		log_error("cannot open the log file again: %s; going on with the old one", strerror(-error));
	else if (log_file_fd() >= 0)
		helper_send_log(&master->helper, log_file_fd());
	return !error && log_file_fd() >= 0;
}

static bool reopen_access_log(struct master *master, struct log_sink *sink, bool next)
{
	if (sink->kind != LOG_SINK_FILE)
		return false;
	int fd = log_sink_open_again(sink);
	if (fd < 0) {
		log_error("cannot open the access log %s again: %s; going on with the old one", sink->path, strerror(-fd));
		return false;
	}
	helper_send_access_log(&master->helper, next, fd);
	log_sink_adopt(sink, fd);
	return true;
}

void order_reopen_log(struct master *master)
{
	bool log = reopen_log(master), access = reopen_access_log(master, &master->access_log, false);
	(void)reopen_access_log(master, &master->next_access_log, true);
	if (log || access)
		log_info("%s opened again", log && access ? "log file and access log" : log ? "log file" : "access log");
}
