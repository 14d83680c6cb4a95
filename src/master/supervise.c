#include "master/supervise.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/segment.h"
#include "master/transition.h"
#include "master/yield.h"
#include "os/notify.h"
#include "shm/limit.h"
#include "worker/worker.h"

#define RECLAIM_NS (5 * NS_PER_MS)

/* --- in a forked child ------------------------------------------------------------------------------------------------------- */

static bool serves(const struct generation *generation, const struct listener *listener, uint32_t fd_index, uint32_t slot)
{
	return generation && generation_uses(generation, listener) && worker_serves(listener, fd_index, slot, generation->n_workers);
}

static void release(struct master *master, const struct generation *generation, uint32_t keep_slot, const struct control_admin *keep)
{
	gates_release_in_child(&master->gates, keep);
	for (size_t i = 0; i < master->n_listeners; i++)
		listener_release_in_child(master->listeners[i]);
	for (size_t i = 0; i < master->n_listeners; i++)
		for (uint32_t j = 0; j < master->listeners[i]->n_fds; j++)
			if (!serves(generation, master->listeners[i], j, keep_slot))
				close(master->listeners[i]->fds[j]);
	boxes_release_in_child(&master->boxes, generation ? (const struct box *const *)generation->places.boxes : NULL,
	        generation ? generation->config : NULL);
	owners_release_in_child(&master->owners, generation ? generation->workers[keep_slot].owner : 0);
	notify_release_in_child();
	generation_release_in_child(master->running);
	for (const struct generation *old = master->draining; old; old = old->next)
		generation_release_in_child(old);
	helper_release_in_child(&master->helper);
	transition_release_in_child(master->transition);
	certificates_release_in_child(master);
	close(master->tickets_fd); /* who reads them has them mapped */
	if (!generation) {         /* and that are workers only */
		tickets_close(master->tickets);
		master->tickets = NULL;
	}
	upgrade_release_in_child(master);
	elders_release_in_child(master);
	close(master->signal_fd);
	close(master->pid_fd);
	loop_free(master->loop);
	if (generation) { /* workers write no log: a file that was rotated away is not to be kept by them */
		log_sink_close(&master->access_log);
		log_sink_close(&master->next_access_log);
	}
}

void master_release_in_child(struct master *master, const struct generation *generation, uint32_t keep_slot)
{
	release(master, generation, keep_slot, NULL);
}

void master_release_in_control(struct master *master, const struct control_admin *keep)
{
	release(master, NULL, 0, keep);
}

/* --- generations come and go ------------------------------------------------------------------------------------------------- */

void master_clear_seat(struct master *master, uint32_t seat)
{
	if (master->guest) {
		upgrade_buried(master, seat);
		return;
	}
	if (segment_clear_seat(&master->shm, seat) && !loop_timer_active(&master->reclaim))
		loop_timer_start(master->loop, &master->reclaim, RECLAIM_NS);
	bells_ring_all(&master->bells); /* who waits may have what it held */
}

uint32_t master_own_workers(const struct master *master)
{
	uint32_t count = master->running ? generation_alive(master->running) : 0;
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		count += generation_alive(generation);
	return count;
}

void master_on_reclaim(struct loop_timer *timer)
{
	struct master *master = container_of(timer, struct master, reclaim);
	if (segment_clear_gone(&master->shm) > master_own_workers(master))
		loop_timer_start(master->loop, &master->reclaim, RECLAIM_NS);
	bells_ring_all(&master->bells);
}

int master_keep_listener(struct master *master, struct listener *listener)
{
	struct listener **listeners = realloc(master->listeners, (master->n_listeners + 1) * sizeof(struct listener *));
	if (!listeners)
		return -ENOMEM;
	master->listeners = listeners;
	listeners[master->n_listeners++] = listener;
	return 0;
}

static bool listener_needed(const struct master *master, const struct listener *listener)
{
	if (transition_needs(master->transition, listener) || (master->running && generation_uses(master->running, listener)))
		return true;
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		if (generation_uses(generation, listener) &&
		        (listener->protocol == PROTOCOL_UDP ? generation_alive(generation) > 0 : !generation_stopped(generation)))
			return true; /* what is queued there is still being accepted; datagrams come for as long as there are sessions */
	/* A drained instance keeps them for its revival; those that cannot be revived are bound anew. */
	return master->draining_by_request && listener_revivable(listener);
}

static void close_unneeded_listeners(struct master *master)
{
	for (size_t i = master->n_listeners; i-- > 0;)
		if (!listener_needed(master, master->listeners[i])) {
			if (!master->listeners[i]->shared)
				log_info("listener %s (%s) is closed", master->listeners[i]->name, master->listeners[i]->address);
			listener_free(master->listeners[i]);
			master->listeners[i] = master->listeners[--master->n_listeners];
		}
}

/* The workers shut their sockets down when they stop. This is for those of workers that had died before. */
static void refuse_for_the_dead(struct master *master)
{
	for (struct generation *generation = master->draining; generation; generation = generation->next) {
		if (!generation->refusing || generation->refused || !generation_stopped(generation))
			continue;
		generation->refused = true;
		for (size_t i = 0; generation->listeners && i < generation->config->n_listeners; i++)
			if (generation->listeners[i])
				listener_refuse(generation->listeners[i]);
	}
}

static void free_ended_generations(struct master *master)
{
	for (struct generation **link = &master->draining; *link;) {
		struct generation *generation = *link;
		if (generation_alive(generation) > 0) {
			link = &generation->next;
			continue;
		}
		*link = generation->next;
		log_info("generation %u is done", generation->number);
		generation_free(generation);
	}
}

void master_generation_changed(struct master *master)
{
	refuse_for_the_dead(master);
	if (!master->stopping || upgrade_is_replaced(master))
		close_unneeded_listeners(master);
	free_ended_generations(master);
	yield_all(master, transition_reader(master->transition)); /* who read for others may be gone */
	upgrade_generation_changed(master);
	if (master->transition)
		transition_try_switch(master->transition);
	if (master->running || master->draining)
		return;
	if (master->stopping && master->adoption.elders)
		return; /* their connections are this instance's, too */
	if (master->stopping)
		loop_stop(master->loop);
	else if (master->draining_by_request && !master->transition) {
		log_info("drained: no connection is left; HUP takes up service again");
		for (size_t i = 0; i < master->n_listeners; i++)
			listener_rest(master->listeners[i]);
		master_set_state(master, INSTANCE_DRAINED);
	}
}

static bool reap_one(struct master *master)
{
	if (helper_reap_one(&master->helper))
		return true;
	if (master->running && generation_reap_one(master->running))
		return true;
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		if (generation_reap_one(generation))
			return true;
	return upgrade_reap_one(master) || transition_reap_one(master->transition) || hung_reap_one(&master->hung);
}

void master_reap(struct master *master)
{
	while (reap_one(master))
		; /* a death may free generations and let others be killed: look anew after each */
}
