/* A worker that died: what it held is free, and another one takes its place. */
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/generation_own.h"
#include "master/respawn.h"
#include "master/transition.h"

#define RESPAWN_MOST_NS (2 * NS_PER_S) /* its share of new clients waits so long */
#define BURY_WITHIN_NS NS_PER_S        /* after its end, whatever holds its channel open */

static void respawn(struct worker_process *worker)
{
	struct master *master = worker->generation->master;
	generation_listen_again(worker->generation);
	int error = worker_process_fork(worker);
	if (!error) {
		counter_add(&master->shm.header->worker_restarts, 1);
		log_info("worker %u is replaced by pid %d", worker->slot, (int)worker->pid);
		return;
	}
	log_error("cannot fork worker %u: %s; trying again", worker->slot, strerror(-error));
	loop_timer_start(master->loop, &worker->respawn, NS_PER_S);
}

void worker_process_on_respawn(struct loop_timer *timer)
{
	struct worker_process *worker = container_of(timer, struct worker_process, respawn);
	if (!worker->generation->master->guest)
		respawn(worker);
}

void generation_replace_dead(struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (generation->workers[i].state == WORKER_DEAD && !loop_timer_active(&generation->workers[i].respawn))
			respawn(&generation->workers[i]);
}

/* At once, unless it keeps dying: then ever later, up to RESPAWN_MOST_NS. */
static void replace(struct worker_process *worker)
{
	if (worker->generation->master->guest)
		return; /* its slot is served by another master's workers, or will be */
	uint64_t delay_ns = respawn_delay_ns(&worker->quick_deaths, clock_now_ns() - worker->forked_ns, RESPAWN_MOST_NS);
	if (delay_ns == 0) {
		respawn(worker);
		return;
	}
	log_warn("worker %u keeps dying: the next try in %llu ms; new clients that are its share wait so long", worker->slot,
	        (unsigned long long)(delay_ns / NS_PER_MS));
	loop_timer_start(worker->generation->master->loop, &worker->respawn, delay_ns);
}

static void log_death(const struct worker_process *worker, int status)
{
	char end[RESPAWN_END_SIZE];
	uint32_t number = worker->generation->number;
	if (status != 0 || worker->state == WORKER_RUNNING || worker->state == WORKER_STARTING)
		log_error("worker %u gen %u (pid %d) %s", worker->slot, number, (int)worker->pid, respawn_end_text(status, end));
	else
		log_debug("worker %u gen %u (pid %d) is done", worker->slot, number, (int)worker->pid);
}

void worker_process_bury(struct worker_process *worker)
{
	struct generation *generation = worker->generation;
	loop_timer_stop(generation->master->loop, &worker->burial);
	worker->state = WORKER_DEAD;
	worker_process_close_channel(worker);
	worker_process_forget_owner(worker);
	generation_pass_on_inboxes(generation->master);
	master_clear_seat(generation->master, worker->seat);
	if (generation->state == GENERATION_RUNNING)
		replace(worker);
	else if (generation->state == GENERATION_STARTING)
		transition_worker_died(generation->master->transition);
	else
		master_generation_changed(generation->master);
}

void worker_process_on_burial(struct loop_timer *timer)
{
	worker_process_bury(container_of(timer, struct worker_process, burial));
}

bool generation_reap_one(struct generation *generation)
{
	int status;
	struct worker_process *worker = NULL;
	for (uint32_t i = 0; i < generation->n_workers && !worker; i++)
		if (worker_process_lives(&generation->workers[i]) && waitpid(generation->workers[i].pid, &status, WNOHANG) > 0)
			worker = &generation->workers[i];
	if (!worker)
		return false;
	log_death(worker, status);
	worker->state = WORKER_EXITED;
	if (worker->hung_up)
		worker_process_bury(worker);
	else
		loop_timer_start(generation->master->loop, &worker->burial, BURY_WITHIN_NS);
	return true;
}
