#include "master/generation.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/generation_own.h"
#include "master/transition.h"
#include "os/channel.h"

#define KILL_AFTER_DRAIN_NS (5 * NS_PER_S) /* beyond drain.timeout */
#define KILL_AFTER_QUIT_NS NS_PER_S

static void on_channel(struct loop_io *io, int events);
static void on_deadline(struct loop_timer *timer);

struct generation *generation_new(struct master *master, uint32_t number, struct config *config, struct listener **listeners,
        const struct places *places, uint32_t n_workers)
{
	struct generation *generation = calloc(1, sizeof *generation);
	struct worker_process *workers = calloc(n_workers, sizeof *workers);
	if (!generation || !workers) {
		free(generation);
		free(workers);
		return NULL;
	}
	for (uint32_t i = 0; i < n_workers; i++) {
		workers[i] = (struct worker_process){ .generation = generation, .slot = i, .channel = -1 };
		loop_timer_init(&workers[i].respawn, worker_process_on_respawn);
		loop_timer_init(&workers[i].burial, worker_process_on_burial);
		loop_io_init(&workers[i].channel_io, on_channel);
	}
	*generation = (struct generation){ .master = master,
		.number = number,
		.config = config,
		.listeners = listeners,
		.places = *places,
		.vault = -1,
		.excerpt = -1,
		.watch = -1,
		.n_workers = n_workers,
		.workers = workers };
	loop_timer_init(&generation->deadline, on_deadline);
	return generation;
}

void worker_process_close_channel(struct worker_process *worker)
{
	if (worker->channel < 0)
		return;
	loop_io_stop(worker->generation->master->loop, &worker->channel_io);
	close(worker->channel);
	worker->channel = -1;
}

void worker_process_forget_owner(struct worker_process *worker)
{
	owners_remove(&worker->generation->master->owners, worker->owner);
	worker->owner = 0;
}

static void close_vault(const struct generation *generation)
{
	if (generation->vault >= 0)
		close(generation->vault);
	if (generation->excerpt >= 0)
		close(generation->excerpt);
}

void generation_free(struct generation *generation)
{
	if (!generation)
		return;
	for (uint32_t i = 0; i < generation->n_workers; i++) {
		loop_timer_stop(generation->master->loop, &generation->workers[i].respawn);
		loop_timer_stop(generation->master->loop, &generation->workers[i].burial);
		worker_process_close_channel(&generation->workers[i]);
		worker_process_forget_owner(&generation->workers[i]);
	}
	loop_timer_stop(generation->master->loop, &generation->deadline);
	close_vault(generation);
	if (generation->watch >= 0)
		close(generation->watch);
	places_free(&generation->places, &generation->master->shm, &generation->master->boxes);
	config_free(generation->config);
	free(generation->listeners);
	free(generation->workers);
	free(generation);
}

const char *generation_engine(const struct generation *generation)
{
	static const char *const names[N_SEAT_ENGINES] = { [SEAT_ENGINE_EPOLL] = "epoll", [SEAT_ENGINE_IO_URING] = "io_uring" };
	uint32_t engine = atomic_load(&generation->master->shm.seats[generation->workers[0].seat].engine);
	return names[engine < N_SEAT_ENGINES ? engine : SEAT_ENGINE_EPOLL];
}

/* --- talking --------------------------------------------------------------------------------------------------------------- */

static void tell(struct worker_process *worker, const struct channel_message *message, int fd)
{
	if (!worker_process_lives(worker))
		return;
	int error = channel_send(worker->channel, message, fd);
	if (error && error != -EPIPE)
		log_error("worker %u gen %u (pid %d) does not listen: %s", worker->slot, worker->generation->number, (int)worker->pid,
		        strerror(-error));
}

static void tell_all(struct generation *generation, const struct channel_message *message, int fd)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		tell(&generation->workers[i], message, fd);
}

void generation_tell(struct generation *generation, const struct channel_message *message)
{
	tell_all(generation, message, -1);
}

void worker_process_tell_yield(struct worker_process *worker, uint32_t first, uint64_t listeners)
{
	worker->yields_due++;
	tell(worker, &(struct channel_message){ .kind = MESSAGE_YIELD, .value = first, .value_ns = listeners }, -1);
}

void generation_tell_yield(struct generation *generation, uint32_t first, uint64_t listeners)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		worker_process_tell_yield(&generation->workers[i], first, listeners);
}

bool generation_yielded(const struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (worker_process_lives(&generation->workers[i]) && generation->workers[i].yields_due > 0)
			return false;
	return true;
}

void generation_renew_certificates(struct generation *generation, int vault, int excerpt)
{
	close_vault(generation);
	generation->vault = vault;
	generation->excerpt = excerpt;
	tell_all(generation, &(struct channel_message){ .kind = MESSAGE_CERTIFICATES }, vault);
}

void generation_pass_on_inboxes(struct master *master)
{
	struct worker_process *heir = NULL;
	for (uint32_t i = 0; master->running && i < master->running->n_workers && !heir; i++)
		if (master->running->workers[i].state == WORKER_RUNNING && master->running->workers[i].owner)
			heir = &master->running->workers[i];
	for (int inbox; heir && (inbox = owners_orphan(&master->owners, heir->owner)) >= 0;)
		tell(heir, &(struct channel_message){ .kind = MESSAGE_INBOX }, inbox);
}

static void go(struct worker_process *worker)
{
	tell(worker, &(struct channel_message){ .kind = MESSAGE_GO }, -1);
	worker->state = WORKER_RUNNING;
	generation_pass_on_inboxes(worker->generation->master);
}

void generation_go(struct generation *generation)
{
	generation->state = GENERATION_RUNNING;
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (generation->workers[i].state == WORKER_READY)
			go(&generation->workers[i]);
}

void generation_drain(struct generation *generation, bool refuse, uint32_t pace, uint64_t timeout_ns)
{
	struct channel_message message = { .kind = refuse ? MESSAGE_REFUSE : MESSAGE_DRAIN, .value = pace, .value_ns = timeout_ns };
	generation->state = GENERATION_DRAINING;
	generation->refusing = generation->refusing || refuse;
	for (uint32_t i = 0; i < generation->n_workers; i++) {
		loop_timer_stop(generation->master->loop, &generation->workers[i].respawn);
		tell(&generation->workers[i], &message, -1);
		if (worker_process_lives(&generation->workers[i]) && generation->workers[i].state != WORKER_STOPPED)
			generation->workers[i].state = WORKER_DRAINING;
	}
	if (timeout_ns)
		loop_timer_start(generation->master->loop, &generation->deadline, timeout_ns + KILL_AFTER_DRAIN_NS);
}

void generation_quit(struct generation *generation)
{
	generation->state = GENERATION_DRAINING;
	if (generation->quitting)
		return;
	generation->quitting = true;
	loop_timer_start(generation->master->loop, &generation->deadline, KILL_AFTER_QUIT_NS);
	tell_all(generation, &(struct channel_message){ .kind = MESSAGE_QUIT }, -1);
}

void generation_kill(struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (worker_process_lives(&generation->workers[i]))
			(void)kill(generation->workers[i].pid, SIGKILL);
}

static void on_deadline(struct loop_timer *timer)
{
	struct generation *generation = container_of(timer, struct generation, deadline);
	log_error("generation %u: %u workers do not end: killing them", generation->number, generation_alive(generation));
	generation_kill(generation);
}

void generation_release_in_child(const struct generation *generation)
{
	for (uint32_t i = 0; generation && i < generation->n_workers; i++)
		if (generation->workers[i].channel >= 0)
			close(generation->workers[i].channel);
	if (generation)
		close_vault(generation);
	if (generation && generation->watch >= 0)
		close(generation->watch);
}

bool generation_uses(const struct generation *generation, const struct listener *listener)
{
	for (size_t i = 0; generation->listeners && i < generation->config->n_listeners; i++)
		if (generation->listeners[i] == listener)
			return true;
	return false;
}

static void worker_ready(struct worker_process *worker, uint32_t capacity)
{
	struct generation *generation = worker->generation;
	log_debug("worker %u gen %u (pid %d) is ready for %u connections", worker->slot, generation->number, (int)worker->pid, capacity);
	worker->state = WORKER_READY;
	if (generation->state == GENERATION_RUNNING)
		go(worker); /* it replaces one that died */
	else if (generation->state == GENERATION_STARTING)
		transition_worker_ready(generation->master->transition);
}

static void on_channel(struct loop_io *io, int events)
{
	struct worker_process *worker = container_of(io, struct worker_process, channel_io);
	struct channel_message message;
	int fd;
	(void)events;
	while (worker->channel >= 0) {
		int error = channel_receive(worker->channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error) {
			/* At the end of file it is about to exit, or has. Anything else no worker of ours says. */
			loop_io_stop(worker->generation->master->loop, io);
			worker->hung_up = true;
			if (worker->state == WORKER_EXITED)
				worker_process_bury(worker);
			else if (error != -EPIPE)
				(void)kill(worker->pid, SIGKILL);
			return;
		}
		if (fd >= 0)
			close(fd);
		if (message.kind == MESSAGE_READY && worker->state == WORKER_STARTING) {
			worker_ready(worker, message.value);
			return; /* the generation may be gone */
		}
		if (message.kind == MESSAGE_YIELDED && worker->yields_due > 0 && --worker->yields_due == 0) {
			master_generation_changed(worker->generation->master);
			return;
		}
		if (message.kind == MESSAGE_STOPPED && worker->state == WORKER_DRAINING) {
			worker->state = WORKER_STOPPED;
			master_generation_changed(worker->generation->master);
			return;
		}
	}
}

uint32_t generation_alive(const struct generation *generation)
{
	uint32_t alive = 0;
	for (uint32_t i = 0; i < generation->n_workers; i++)
		alive += generation->workers[i].state != WORKER_DEAD;
	return alive;
}

bool generation_stopped(const struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (worker_process_lives(&generation->workers[i]) && generation->workers[i].state != WORKER_STOPPED)
			return false;
	return true;
}

/* A worker that lost its master by mistake shut its sockets down. Those of datagrams cannot be; and others that are to be bound at the next
 * switch may be among them. */
void generation_listen_again(const struct generation *generation)
{
	char why[256];
	for (size_t i = 0; i < generation->config->n_listeners; i++)
		if (generation->config->listeners[i].protocol == PROTOCOL_TCP &&
		        listener_listen(generation->listeners[i], &generation->config->listeners[i], why, sizeof why))
			log_error("%s", why);
}
