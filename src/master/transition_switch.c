/* The last steps of a transition: the new generation takes over, and the old one drains. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/certificates.h"
#include "master/transition_own.h"
#include "master/yield.h"

#define HANDSHAKE_NS (200 * NS_PER_MS)
#define HAND_OVER_NS NS_PER_S /* a worker that stands still does not hold up a reload */

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
void transition_finish_when_handed_over(struct transition *transition)
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
	transition_finish_when_handed_over(transition);
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
		transition_fail(transition, EXIT_START, "stopped before it was complete");
		return;
	}
	drain_replaced(transition); /* too late: the new generation runs */
	master_transition_done(transition->master, transition, 0);
}

void transition_switch_over(struct transition *transition)
{
	struct master *master = transition->master;
	struct generation *generation = transition->generation;
	char why[256];
	for (size_t i = 0; i < generation->config->n_listeners; i++)
		if (listener_listen(generation->listeners[i], &generation->config->listeners[i], why, sizeof why)) {
			log_error("%s", why);
			transition_fail(transition, EXIT_START, "%s", why);
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
