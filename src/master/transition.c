#include "master/transition.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "master/certificates.h"
#include "master/preflight.h"
#include "master/yield.h"
#include "net/dial.h"
#include "worker/room.h"

#define PREFLIGHT_NS (30 * NS_PER_S)
#define READY_NS (20 * NS_PER_S)
#define HANDSHAKE_NS (200 * NS_PER_MS)
#define HOLD_NS (100 * NS_PER_MS)
#define HAND_OVER_NS NS_PER_S /* a worker that stands still does not hold up a reload */

/* A socket set that this transition made or changed, to be taken back when it fails. */
struct change {
	struct listener *listener;
	bool made;
	uint32_t fds_before; /* otherwise */
};

struct transition {
	struct master *master;
	struct config *config;       /* until the generation owns it */
	struct listener **listeners; /* the same */
	struct places places;        /* the same */
	struct generation *generation;
	struct change *changes;
	size_t n_changes;
	struct preflight preflight;
	struct loop_io preflight_io;
	struct keys keys; /* certificates for the generation to come */
	struct loop_io keys_io;
	bool preflight_over, keys_over;
	struct vault_findings certificates;
	struct loop_timer deadline;
	bool log_changed;
	bool held;                  /* those that drain, or will, were told to read no more datagrams of listeners that stay */
	bool switched, handed_over; /* to the new generation; and the old one was told to drain */
	uint32_t replaced;          /* the generation that was switched from, while it may still accept; 0 = none */
	char note[SHM_NOTE_SIZE];
};

const char *transition_note(const struct transition *transition)
{
	return transition->note;
}

static const struct config *running_config(const struct transition *transition)
{
	return transition->master->running ? transition->master->running->config : NULL;
}

/* --- taking back ----------------------------------------------------------------------------------------------------------- */

static void forget_listener(struct master *master, struct listener *listener)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (master->listeners[i] == listener) {
			master->listeners[i] = master->listeners[--master->n_listeners];
			break;
		}
	listener_free(listener);
}

static void take_back(struct transition *transition)
{
	struct master *master = transition->master;
	const struct config *running = running_config(transition);
	for (size_t i = transition->n_changes; i-- > 0;) {
		struct change *change = &transition->changes[i];
		if (!change->made)
			listener_shrink(change->listener, change->fds_before);
		else
			forget_listener(master, change->listener);
	}
	transition->n_changes = 0;
	if (transition->log_changed && running && log_open(running->log.target, running->log.level, running->log.format))
		log_error("cannot open the log %s again", running->log.target);
	log_sink_close(&master->next_access_log);
}

/* The workers that were forked go; the generation is freed when the last one is reaped. */
static void abandon_generation(struct transition *transition)
{
	struct generation *generation = transition->generation;
	struct master *master = transition->master;
	if (!generation)
		return;
	transition->generation = NULL;
	generation->state = GENERATION_DRAINING;
	generation_kill(generation);
	/* Its sockets may be closed now; nothing looks at them any more. */
	free(generation->listeners);
	generation->listeners = NULL;
	generation->next = master->draining;
	master->draining = generation;
}

void transition_publish(struct master *master, const struct generation *generation)
{
	struct shm_header *header = master->shm.header;
	places_publish(&generation->places, &master->shm, generation->config, generation->listeners);
	bells_ring_all(&master->bells); /* there may be more places now */
	atomic_store(&header->generation, generation->number);
	atomic_store(&header->workers, generation->n_workers);
	(void)text_copy(header->engine, sizeof header->engine, generation_engine(generation));
}

static void fail(struct transition *transition, int status, const char *format, ...) printf_like(3, 4);
static void fail(struct transition *transition, int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(transition->note, sizeof transition->note, format, args);
	va_end(args);
	transition->held = false;
	yield_all(transition->master, NULL);
	take_back(transition);
	gates_abandon(&transition->master->gates);
	abandon_generation(transition);
	helper_abandon(&transition->master->helper);
	if (transition->master->running) /* rows that were claimed for the settings that failed are nobody's again */
		transition_publish(transition->master, transition->master->running);
	master_transition_done(transition->master, transition, status);
}

void transition_free(struct transition *transition)
{
	struct loop *loop = transition->master->loop;
	loop_timer_stop(loop, &transition->deadline);
	if (transition->preflight.pid) {
		loop_io_stop(loop, &transition->preflight_io);
		preflight_end(&transition->preflight);
	}
	if (transition->keys.pid)
		loop_io_stop(loop, &transition->keys_io);
	keys_end(&transition->keys);
	vault_findings_clear(&transition->certificates);
	places_free(&transition->places, &transition->master->shm, &transition->master->boxes);
	config_free(transition->config);
	free(transition->listeners);
	free(transition->changes);
	free(transition);
}

/* --- switch ---------------------------------------------------------------------------------------------------------------- */

static void end_oldest(struct master *master, uint32_t most)
{
	uint32_t count = 0;
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		if (++count > most) {
			log_warn("generation %u is still draining, and drain.max_generations is %u: ending it", generation->number, most);
			generation_quit(generation);
		}
	elders_quit(master, count < most ? most - count : 0);
}

/* The running generation is the old one now, but goes on accepting until drain_replaced(). */
static void retire_running(struct transition *transition)
{
	struct master *master = transition->master;
	struct generation *old = master->running;
	if (!old)
		return;
	transition->replaced = old->number;
	master->running = NULL;
	old->state = GENERATION_DRAINING;
	old->next = master->draining;
	master->draining = old;
}

static struct generation *replaced_generation(const struct transition *transition)
{
	struct generation *old = transition->master->draining;
	while (old && old->number != transition->replaced)
		old = old->next;
	return old;
}

static void drain_replaced(struct transition *transition)
{
	struct master *master = transition->master;
	const struct config *next = master->running->config;
	struct generation *old = replaced_generation(transition);
	if (old)
		generation_drain(old, false, next->drain.pace, next->drain.timeout_ns);
	adopt_switched(master);
	end_oldest(master, next->drain.max_generations < master->max_draining ? next->drain.max_generations : master->max_draining);
}

/* Listeners that the new generation does not use take in nothing new. True when there are any. */
static bool let_listeners_leave(struct master *master)
{
	bool any = false;
	for (size_t i = 0; i < master->n_listeners; i++)
		if (master->listeners[i]->protocol == PROTOCOL_TCP && !generation_uses(master->running, master->listeners[i])) {
			int error = listener_leave(master->listeners[i]);
			if (error)
				log_info("listener %s goes, and clients that connect just now may be reset: no filter on its sockets: %s",
				        master->listeners[i]->name, strerror(-error));
			any = true;
		}
	return any;
}

static void on_hand_over_overdue(struct loop_timer *timer)
{
	struct transition *transition = container_of(timer, struct transition, deadline);
	master_transition_done(transition->master, transition, 0);
}

/* The new generation accepts; it is over when the old one no longer does, so that whoever is told so meets the new settings only. */
static void finish_when_handed_over(struct transition *transition)
{
	const struct generation *old = replaced_generation(transition);
	if ((!old || generation_stopped(old)) && !adopt_waits(transition->master))
		master_transition_done(transition->master, transition, 0);
}

static void hand_over(struct transition *transition)
{
	drain_replaced(transition);
	transition->handed_over = true;
	loop_timer_init(&transition->deadline, on_hand_over_overdue);
	loop_timer_start(transition->master->loop, &transition->deadline, HAND_OVER_NS);
	finish_when_handed_over(transition);
}

static void on_handshakes_over(struct loop_timer *timer)
{
	hand_over(container_of(timer, struct transition, deadline));
}

bool transition_is_switched(const struct transition *transition)
{
	return transition->switched;
}

void transition_cancel(struct transition *transition)
{
	if (!transition->switched) {
		fail(transition, EXIT_START, "stopped before it was complete");
		return;
	}
	drain_replaced(transition); /* too late: the new generation runs */
	master_transition_done(transition->master, transition, 0);
}

static void switch_over(struct transition *transition)
{
	struct master *master = transition->master;
	struct generation *generation = transition->generation;
	char why[256];
	for (size_t i = 0; i < generation->config->n_listeners; i++)
		if (listener_listen(generation->listeners[i], &generation->config->listeners[i], why, sizeof why)) {
			log_error("%s", why);
			fail(transition, EXIT_START, "%s", why);
			return;
		}
	loop_timer_stop(master->loop, &transition->deadline);
	transition->switched = true;
	adopt_listens(master);
	transition->n_changes = 0;
	transition->generation = NULL;
	helper_end_running(&master->helper);
	log_sink_close(&master->access_log);
	master->access_log = master->next_access_log;
	master->next_access_log = (struct log_sink){ .kind = LOG_SINK_NONE };
	gates_switch(&master->gates);
	transition_publish(master, generation);
	certificates_publish(master, generation, &transition->certificates);
	generation_go(generation);
	adopt_reads(master, generation);
	retire_running(transition);
	master->running = generation;
	yield_all(master, NULL);
	yield_close_rivals(master, generation);
	helper_go(&master->helper);
	if (!let_listeners_leave(master)) {
		hand_over(transition);
		return;
	}
	/* Who is in the handshake with a listener that leaves is still accepted there. */
	loop_timer_init(&transition->deadline, on_handshakes_over);
	loop_timer_start(master->loop, &transition->deadline, HANDSHAKE_NS);
}

/* --- fork, and wait for all ------------------------------------------------------------------------------------------------ */

/* Workers that were told to refuse new clients shut the sockets down when they stop: only then may the sockets be revived. */
static bool sockets_are_being_refused(const struct master *master)
{
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		if (generation->refusing && !generation_stopped(generation))
			return true;
	return false;
}

static void on_hold_overdue(struct loop_timer *timer)
{
	switch_over(container_of(timer, struct transition, deadline)); /* who stands still reads nothing, either */
}

/* Where a group of datagram sockets is to grow, a client may come to another socket from then on. Nobody reads meanwhile: what is in the
 * sockets then is read by the new workers, who know whose it is. Otherwise the old ones go on reading until the new ones do. */
static bool datagrams_are_held(struct transition *transition)
{
	struct master *master = transition->master;
	if (!yield_must_come_first(transition->generation))
		return true;
	if (!transition->held) {
		transition->held = true;
		yield_all(master, transition->generation);
		loop_timer_stop(master->loop, &transition->deadline);
		loop_timer_init(&transition->deadline, on_hold_overdue);
		loop_timer_start(master->loop, &transition->deadline, HOLD_NS);
	}
	return yield_is_over(master);
}

void transition_try_switch(struct transition *transition)
{
	const struct generation *generation = transition->generation;
	if (transition->switched) {
		if (transition->handed_over)
			finish_when_handed_over(transition);
		return;
	}
	for (uint32_t i = 0; generation && i < generation->n_workers; i++)
		if (generation->workers[i].state != WORKER_READY)
			return;
	if (generation && helper_is_prepared(&transition->master->helper) && !sockets_are_being_refused(transition->master) &&
	        adopt_may_switch(transition->master) && datagrams_are_held(transition))
		switch_over(transition);
}

void transition_worker_ready(struct transition *transition)
{
	transition_try_switch(transition);
}

void transition_worker_died(struct transition *transition)
{
	log_error("a worker of the new generation died before it was ready: giving the new generation up");
	fail(transition, EXIT_START, "a worker died before it was ready; see the log");
}

void transition_control_refused(struct transition *transition)
{
	fail(transition, EXIT_SETTINGS, "a health check or the resolver cannot work as set; see the log");
}

bool transition_reap_one(struct transition *transition)
{
	return transition && transition->generation && generation_reap_one(transition->generation);
}

static void on_ready_overdue(struct loop_timer *timer)
{
	struct transition *transition = container_of(timer, struct transition, deadline);
	log_error(
	        "the workers of the new generation were not ready within %llu s: giving it up", (unsigned long long)(READY_NS / NS_PER_S));
	fail(transition, EXIT_START, "the new workers were not ready in time");
}

static uint32_t worker_count(const struct transition *transition)
{
	return master_worker_count(transition->master, transition->config);
}

static void fork_generation(struct transition *transition)
{
	struct master *master = transition->master;
	uint32_t number = master->last_generation + 1;
	int error = places_claim(&transition->places, &master->shm, &master->boxes, transition->config);
	if (error) {
		master_tell(master, PLAN_ERROR, "cannot place the listeners and servers in %s: %s", master->stats_path,
		        error == -ENOSPC   ? "too many; restart Aegis"
		        : error == -EDQUOT ? "its file system is full"
		                           : strerror(-error));
		fail(transition, EXIT_START, "no room in shared memory");
		return;
	}
	transition->generation =
	        generation_new(master, number, transition->config, transition->listeners, &transition->places, worker_count(transition));
	if (!transition->generation) {
		fail(transition, EXIT_START, "out of memory");
		return;
	}
	transition->generation->vault = keys_take_vault(&transition->keys);
	transition->config = NULL;
	transition->listeners = NULL;
	transition->places = (struct places){ 0 };
	master->last_generation = number;
	loop_timer_init(&transition->deadline, on_ready_overdue);
	loop_timer_start(master->loop, &transition->deadline, READY_NS);
	error = generation_fork(transition->generation);
	if (error) {
		log_error("cannot fork the workers: %s", strerror(-error));
		fail(transition, EXIT_START, "cannot fork: %s", strerror(-error));
		return;
	}
	helper_prepare(&master->helper, transition->generation->config, &transition->generation->places);
}

/* --- bind what is new ------------------------------------------------------------------------------------------------------ */

static struct listener *find_listener(const struct transition *transition, const struct listener_config *config)
{
	const struct master *master = transition->master;
	for (size_t i = 0; i < master->n_listeners; i++)
		if (listener_matches(master->listeners[i], config))
			return master->listeners[i];
	return NULL;
}

static bool port_is_ours(const struct master *master, const struct listener_config *config)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (listener_shares_port(master->listeners[i], config))
			return true;
	return false;
}

static int bind_one(struct transition *transition, const struct listener_config *config, uint32_t slots, struct listener **out, char *why,
        size_t why_size)
{
	struct listener *listener = find_listener(transition, config);
	bool made = !listener;
	uint32_t before = listener ? listener->n_fds : 0;
	int error = listener ? listener_grow(listener, config, slots, why, why_size)
	                     : listener_bind(config, slots, port_is_ours(transition->master, config), &listener, why, why_size);
	if (error)
		return error;
	if (made && master_keep_listener(transition->master, listener)) {
		listener_free(listener);
		(void)snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	transition->changes[transition->n_changes++] = (struct change){ listener, made, before };
	*out = listener;
	return 0;
}

/* All that cannot be bound is told, not only the first. */
static bool bind_all(struct transition *transition)
{
	const struct config *config = transition->config;
	char why[256];
	size_t failed = 0;
	transition->listeners = calloc(config->n_listeners, sizeof(struct listener *));
	transition->changes = calloc(config->n_listeners, sizeof *transition->changes);
	if (!transition->listeners || !transition->changes) {
		fail(transition, EXIT_START, "out of memory");
		return false;
	}
	for (size_t i = 0; i < config->n_listeners; i++)
		if (bind_one(transition, &config->listeners[i], worker_count(transition), &transition->listeners[i], why, sizeof why)) {
			master_tell(transition->master, PLAN_ERROR, "listener %s: %s", config->listeners[i].name, why);
			failed++;
		}
	if (failed)
		fail(transition, EXIT_START, "%s", why);
	return failed == 0;
}

static bool open_gates(struct transition *transition)
{
	char why[1024];
	int error = gates_prepare(&transition->master->gates, transition->config, why, sizeof why);
	if (!error)
		return true;
	master_tell(transition->master, PLAN_ERROR, "%s", why);
	fail(transition, EXIT_START, "%s", why);
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool open_log(struct transition *transition)
{
	const struct config *config = transition->config, *running = running_config(transition);
	if (running && same_text(running->log.target, config->log.target) && running->log.level == config->log.level &&
	        running->log.format == config->log.format)
		return true;
	int error = log_open(config->log.target, config->log.level, config->log.format);
	if (error) {
		master_tell(transition->master, PLAN_ERROR, "cannot open the log %s: %s; check log.target and its permissions",
		        config->log.target, strerror(-error));
		fail(transition, EXIT_START, "cannot open the log %s: %s", config->log.target, strerror(-error));
		return false;
	}
	transition->log_changed = true;
	return true;
}

static bool open_access_log(struct transition *transition)
{
	const char *path = transition->config->access_log.path;
	struct log_sink *sink = &transition->master->next_access_log;
	*sink = (struct log_sink){ .kind = LOG_SINK_NONE };
	int error = *path ? log_sink_open(sink, path) : 0;
	if (!error)
		return true;
	const char *why = error == -ENXIO ? "nobody reads this FIFO" : strerror(-error);
	master_tell(
	        transition->master, PLAN_ERROR, "cannot open the access log %s: %s; check access_log.path and its permissions", path, why);
	fail(transition, EXIT_START, "cannot open the access log %s: %s", path, why);
	return false;
}

/* All that cannot be done is told, not only the first. */
static bool sources_are_ours(struct transition *transition)
{
	const struct config *config = transition->config;
	char why[512], told[512];
	size_t failed = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (dial_source_check(&config->upstreams[i], why, sizeof why)) {
			master_tell(transition->master, PLAN_ERROR, "%s", why);
			memcpy(told, why, sizeof told);
			failed++;
		}
	if (failed)
		fail(transition, EXIT_START, "%s", told);
	return failed == 0;
}

static bool fits(struct transition *transition)
{
	const struct config *running = running_config(transition), *next = transition->config;
	transition->master->descriptors = privileges_raise_descriptors(worker_wanted_descriptors(next));
	if (worker_count(transition) > transition->master->max_workers) {
		master_tell(transition->master, PLAN_ERROR, "workers = %u: this instance has room for %u; restart Aegis to run more",
		        worker_count(transition), transition->master->max_workers);
		fail(transition, EXIT_START, "more workers than there is room for; restart");
		return false;
	}
	if (next->drain.max_generations > transition->master->max_draining)
		master_tell(transition->master, PLAN_WARNING,
		        "drain.max_generations = %u: this instance has room for %u; restart Aegis to let more drain",
		        next->drain.max_generations, transition->master->max_draining);
	if (running && (!same_text(running->user, next->user) || !same_text(running->group, next->group)))
		master_tell(transition->master, PLAN_WARNING, "user and group take effect at the next start");
	return true;
}

/* True when a certificate or key is of no use. */
static bool tell_of_certificates(struct transition *transition)
{
	if (!transition->keys.pid)
		return false;
	keys_findings(&transition->keys, transition->config, &transition->certificates);
	master_tell_lines(transition->master, PLAN_WARNING, &transition->certificates.warnings);
	master_tell_lines(transition->master, PLAN_ERROR, &transition->certificates.errors);
	return transition->certificates.errors.count > 0;
}

static void after_preflight(struct transition *transition)
{
	struct preflight_findings findings = { 0 };
	preflight_apply(&transition->preflight, transition->config, running_config(transition), &findings);
	master_tell_lines(transition->master, PLAN_WARNING, &findings.warnings);
	master_tell_lines(transition->master, PLAN_ERROR, &findings.errors);
	master_tell_lines(transition->master, PLAN_ERROR, &findings.unreachable);
	bool bad_certificates = tell_of_certificates(transition);
	bool unresolved = findings.errors.count > 0, unreachable = findings.unreachable.count > 0;
	preflight_findings_clear(&findings);
	if (bad_certificates) {
		fail(transition, EXIT_SETTINGS, "certificates cannot be used; see the log");
		return;
	}
	if (unresolved) {
		fail(transition, EXIT_SETTINGS, "a server's name cannot be resolved; see the log");
		return;
	}
	if (unreachable) {
		fail(transition, EXIT_START, "no server of an upstream with start_test = \"fail\" can be reached");
		return;
	}
	if (fits(transition) && sources_are_ours(transition) && open_log(transition) && open_access_log(transition) &&
	        bind_all(transition) && open_gates(transition))
		fork_generation(transition);
}

/* --- preflight ------------------------------------------------------------------------------------------------------------- */

/* Both children have answered. */
static void go_on_when_known(struct transition *transition)
{
	if (!transition->preflight_over || !transition->keys_over)
		return;
	loop_timer_stop(transition->master->loop, &transition->deadline);
	after_preflight(transition);
}

static void on_preflight(struct loop_io *io, int events)
{
	struct transition *transition = container_of(io, struct transition, preflight_io);
	(void)events;
	int error = preflight_read(&transition->preflight);
	if (error == -EAGAIN)
		return;
	loop_io_stop(transition->master->loop, io);
	transition->preflight_over = true;
	go_on_when_known(transition);
}

static void on_keys(struct loop_io *io, int events)
{
	struct transition *transition = container_of(io, struct transition, keys_io);
	(void)events;
	int error = keys_read(&transition->keys);
	if (error == -EAGAIN)
		return;
	loop_io_stop(transition->master->loop, io);
	transition->keys_over = true;
	go_on_when_known(transition);
}

static void on_preflight_overdue(struct loop_timer *timer)
{
	struct transition *transition = container_of(timer, struct transition, deadline);
	if (transition->preflight_over) {
		log_error("reading certificates took longer than %llu s; do their files answer?",
		        (unsigned long long)(PREFLIGHT_NS / NS_PER_S));
		fail(transition, EXIT_SETTINGS, "certificates could not be read in time");
		return;
	}
	log_error("resolving the servers' names took longer than %llu s; is the DNS server reachable?",
	        (unsigned long long)(PREFLIGHT_NS / NS_PER_S));
	fail(transition, EXIT_SETTINGS, "names could not be resolved in time");
}

static void release_in_child(void *arg)
{
	struct transition *transition = arg;
	master_release_in_child(transition->master, NULL, 0);
}

static int watch_child(struct transition *transition, struct loop_io *io, loop_io_fn *fn, int fd)
{
	loop_io_init(io, fn);
	return loop_io_set(transition->master->loop, io, fd, LOOP_READ);
}

/* Names are looked up and certificates read while the master goes on. */
static int start_children(struct transition *transition)
{
	const struct config *config = transition->config;
	const struct identity *identity = &transition->master->identity;
	int error = 0;
	transition->keys_over = !vault_is_needed(config);
	transition->preflight_over = !preflight_needed(config);
	if (!transition->keys_over)
		error = keys_start(&transition->keys, config, identity, release_in_child, transition);
	if (!error && transition->keys.pid)
		error = watch_child(transition, &transition->keys_io, on_keys, transition->keys.fd);
	if (!error && !transition->preflight_over)
		error = preflight_start(&transition->preflight, config, identity, release_in_child, transition);
	if (!error && transition->preflight.pid)
		error = watch_child(transition, &transition->preflight_io, on_preflight, transition->preflight.fd);
	return error;
}

void transition_begin(struct master *master, struct config *config)
{
	struct transition *transition = calloc(1, sizeof *transition);
	ensure(transition);
	transition->master = master;
	transition->config = config;
	transition->keys = KEYS_NONE;
	master->transition = transition;
	loop_timer_init(&transition->deadline, on_preflight_overdue);
	loop_io_init(&transition->preflight_io, on_preflight);
	loop_io_init(&transition->keys_io, on_keys);
	int error = start_children(transition);
	if (error) {
		log_error("cannot fork: %s", strerror(-error));
		fail(transition, EXIT_START, "cannot fork: %s", strerror(-error));
		return;
	}
	if (transition->preflight_over && transition->keys_over)
		after_preflight(transition);
	else
		loop_timer_start(master->loop, &transition->deadline, PREFLIGHT_NS);
}

const struct generation *transition_reader(const struct transition *transition)
{
	return transition && transition->held && !transition->replaced ? transition->generation : NULL;
}

bool transition_needs(const struct transition *transition, const struct listener *listener)
{
	for (size_t i = 0; transition && i < transition->n_changes; i++)
		if (transition->changes[i].listener == listener)
			return true;
	return false;
}

void transition_release_in_child(const struct transition *transition)
{
	if (transition && transition->preflight.pid)
		close(transition->preflight.fd);
	if (transition && transition->keys.pid)
		close(transition->keys.fd);
	if (transition && transition->keys.vault >= 0)
		close(transition->keys.vault);
	if (transition)
		generation_release_in_child(transition->generation);
}
