#include "master/transition.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/transition_own.h"
#include "master/yield.h"

#define READY_NS (20 * NS_PER_S)
#define HOLD_NS (100 * NS_PER_MS)

const char *transition_note(const struct transition *transition)
{
	return transition->note;
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

void transition_fail(struct transition *transition, int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(transition->note, sizeof transition->note, format, args);
	va_end(args);
	transition->held = false;
	yield_all(transition->master, NULL);
	transition_take_back(transition);
	gates_abandon(&transition->master->gates);
	abandon_generation(transition);
	helper_abandon(&transition->master->helper);
	if (transition->master->running) /* rows that were claimed for the settings that failed are nobody's again */
		transition_publish(transition->master, transition->master->running);
	master_transition_done(transition->master, transition, status);
}

void transition_free(struct transition *transition)
{
	loop_timer_stop(transition->master->loop, &transition->deadline);
	transition_end_preflight(transition);
	vault_findings_clear(&transition->certificates);
	places_free(&transition->places, &transition->master->shm, &transition->master->boxes);
	config_free(transition->config);
	free(transition->listeners);
	free(transition->changes);
	free(transition);
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
	transition_switch_over(container_of(timer, struct transition, deadline)); /* who stands still reads nothing, either */
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
			transition_finish_when_handed_over(transition);
		return;
	}
	for (uint32_t i = 0; generation && i < generation->n_workers; i++)
		if (generation->workers[i].state != WORKER_READY)
			return;
	if (generation && helper_is_prepared(&transition->master->helper) && !sockets_are_being_refused(transition->master) &&
	        adopt_may_switch(transition->master) && datagrams_are_held(transition))
		transition_switch_over(transition);
}

void transition_worker_ready(struct transition *transition)
{
	transition_try_switch(transition);
}

void transition_worker_died(struct transition *transition)
{
	log_error("a worker of the new generation died before it was ready: giving the new generation up");
	transition_fail(transition, EXIT_START, "a worker died before it was ready; see the log");
}

void transition_control_refused(struct transition *transition)
{
	transition_fail(transition, EXIT_SETTINGS, "a health check or the resolver cannot work as set; see the log");
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
	transition_fail(transition, EXIT_START, "the new workers were not ready in time");
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
		transition_fail(transition, EXIT_START, "no room in shared memory");
		return;
	}
	transition->generation = generation_new(
	        master, number, transition->config, transition->listeners, &transition->places, transition_worker_count(transition));
	if (!transition->generation) {
		transition_fail(transition, EXIT_START, "out of memory");
		return;
	}
	transition->generation->vault = keys_take_vault(&transition->keys);
	transition->generation->excerpt = keys_take_excerpt(&transition->keys);
	transition->generation->watch = keys_take_watch(&transition->keys);
	transition->config = NULL;
	transition->listeners = NULL;
	transition->places = (struct places){ 0 };
	master->last_generation = number;
	loop_timer_init(&transition->deadline, on_ready_overdue);
	loop_timer_start(master->loop, &transition->deadline, READY_NS);
	error = generation_fork(transition->generation);
	if (error) {
		log_error("cannot fork the workers: %s", strerror(-error));
		transition_fail(transition, EXIT_START, "cannot fork: %s", strerror(-error));
		return;
	}
	helper_prepare(&master->helper, transition->generation);
}

void transition_go_on(struct transition *transition)
{
	if (transition_open(transition))
		fork_generation(transition);
}

void transition_begin(struct master *master, struct config *config)
{
	struct transition *transition = calloc(1, sizeof *transition);
	ensure(transition);
	transition->master = master;
	transition->config = config;
	transition->keys = KEYS_NONE;
	master->transition = transition;
	transition_start_preflight(transition);
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
	if (transition)
		keys_release_in_child(&transition->keys);
	if (transition)
		generation_release_in_child(transition->generation);
}
