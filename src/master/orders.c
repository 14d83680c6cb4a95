#include "master/orders.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/in_place.h"
#include "master/status.h"
#include "master/transition.h"
#include "os/notify.h"
#include "shm/limit.h"

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
}

void order_reload(struct master *master)
{
	struct config *config;
	struct config_errors errors = { 0 };
	char note[SHM_NOTE_SIZE];
	if (master->stopping)
		return;
	if (master->transition) {
		log_info("a reload is under way: another one follows it");
		master->reload_again = true;
		return;
	}
	atomic_fetch_add(&master->shm.header->reloads_begun, 1);
	log_info("reloading %s", master->source.file ? master->source.file : "the settings");
	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NS_PER_US));
	if (config_load(&master->source, &config, &errors)) {
		(void)text_copy(note, sizeof note, errors.lines ? errors.lines : "");
		note[strcspn(note, "\n")] = '\0';
		master_log_errors(&errors);
		config_errors_clear(&errors);
		reload_ended(master, false, note);
		return;
	}
	if (in_place_apply(master, config, note, sizeof note)) {
		reload_ended(master, true, note);
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
		order_reload(master);
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
	helper_stop(&master->helper); /* nothing is dialled any more but what clients that are there still wait for */
	generation->next = master->draining;
	master->draining = generation;
}

void order_stop(struct master *master, const char *name)
{
	if (master->stopping) {
		log_warn("%s: asked to stop again: ending all connections now", name);
		for_each_generation(master, generation_quit);
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
	master_generation_changed(master);
}

void order_drain(struct master *master)
{
	if (master->stopping || !master->running)
		return;
	master->reload_again = false;
	if (master->transition)
		transition_cancel(master->transition);
	log_info("draining: no new connections, %u have to end; HUP takes up service again", limit_used(&master->shm, limit_global()));
	master->draining_by_request = true;
	master_set_state(master, INSTANCE_DRAINING);
	drain_running(master);
	master_generation_changed(master);
	status_tick(master);
}

void order_reopen_log(struct master *master)
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
	helper_send_log(&master->helper, fd);
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		generation_send_log(generation, fd);
	log_info("log file opened again");
}
