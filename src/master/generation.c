#include "master/generation.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/master.h"
#include "master/segment.h"
#include "master/transition.h"
#include "os/channel.h"
#include "os/process.h"
#include "os/title.h"
#include "worker/worker.h"

#define STEADY_NS NS_PER_S /* a worker that lived so long did not die of its settings */
#define RESPAWN_FIRST_NS (100 * NS_PER_MS)
#define RESPAWN_MOST_NS (2 * NS_PER_S)     /* its share of new clients waits so long */
#define KILL_AFTER_DRAIN_NS (5 * NS_PER_S) /* beyond drain.timeout */
#define KILL_AFTER_QUIT_NS NS_PER_S
#define BURY_WITHIN_NS NS_PER_S /* after its end, whatever holds its channel open */

static void on_respawn(struct loop_timer *timer);
static void on_burial(struct loop_timer *timer);
static void bury(struct worker_process *worker);
static void on_channel(struct loop_io *io, int events);
static void on_deadline(struct loop_timer *timer);
static void tell_yield(struct worker_process *worker, uint32_t first, uint64_t listeners);

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
		loop_timer_init(&workers[i].respawn, on_respawn);
		loop_timer_init(&workers[i].burial, on_burial);
		loop_io_init(&workers[i].channel_io, on_channel);
	}
	*generation = (struct generation){ .master = master,
		.number = number,
		.config = config,
		.listeners = listeners,
		.places = *places,
		.vault = -1,
		.n_workers = n_workers,
		.workers = workers };
	loop_timer_init(&generation->deadline, on_deadline);
	return generation;
}

static void close_channel(struct worker_process *worker)
{
	if (worker->channel < 0)
		return;
	loop_io_stop(worker->generation->master->loop, &worker->channel_io);
	close(worker->channel);
	worker->channel = -1;
}

static void make_owner(struct worker_process *worker)
{
	struct generation *generation = worker->generation;
	if (!worker->owner)
		worker->owner = owners_add(&generation->master->owners, generation->config);
}

static void forget_owner(struct worker_process *worker)
{
	owners_remove(&worker->generation->master->owners, worker->owner);
	worker->owner = 0;
}

void generation_free(struct generation *generation)
{
	if (!generation)
		return;
	for (uint32_t i = 0; i < generation->n_workers; i++) {
		loop_timer_stop(generation->master->loop, &generation->workers[i].respawn);
		loop_timer_stop(generation->master->loop, &generation->workers[i].burial);
		close_channel(&generation->workers[i]);
		forget_owner(&generation->workers[i]);
	}
	loop_timer_stop(generation->master->loop, &generation->deadline);
	if (generation->vault >= 0)
		close(generation->vault);
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

/* --- forking --------------------------------------------------------------------------------------------------------------- */

static int cpu_of_slot(const struct generation *generation, uint32_t slot)
{
	const struct cpu_set *cpus = &generation->master->cpus;
	return generation->config->pin ? cpus->cpus[slot % (uint32_t)cpus->n] : -1;
}

/* Before the fork: from here on the seat counts. */
static void prepare_seat(const struct worker_process *worker)
{
	struct shm_seat *seat = &worker->generation->master->shm.seats[worker->seat];
	atomic_store(&seat->pid, 0);
	atomic_store(&seat->slot, worker->slot);
	atomic_store(&seat->generation, worker->generation->number);
	atomic_store(&seat->cpu, cpu_of_slot(worker->generation, worker->slot));
	atomic_store(&seat->is_elder, 0);
	atomic_store(&seat->sessions, 0);
	atomic_store(&seat->udp_sessions, 0);
	atomic_store(&seat->started_ns, worker->forked_ns);
	atomic_store(&seat->base_accepts, counter_get(&seat->accepts));
	atomic_store(&seat->loop_lag_ns, 0);
	atomic_store(&seat->beat_ns, worker->forked_ns);
}

static void name_seat(const struct worker_process *worker)
{
	struct shm_seat *seat = &worker->generation->master->shm.seats[worker->seat];
	atomic_store(&seat->pid_start_ticks, process_start_ticks(worker->pid));
	atomic_store(&seat->pid, worker->pid);
}

static _Noreturn void child_main(struct worker_process *worker, int channel, pid_t parent)
{
	struct generation *generation = worker->generation;
	struct master *master = generation->master;
	struct worker_args args = { .config = generation->config,
		.listeners = generation->listeners,
		.places = { .listeners = generation->places.listeners,
		        .upstreams = generation->places.upstreams,
		        .servers = (const uint32_t *const *)generation->places.servers,
		        .boxes = (const struct box *const *)generation->places.boxes,
		        .bells = &master->bells,
		        .log_bell = &master->log_bell,
		        .workers = generation->n_workers,
		        .generation = generation->number },
		.shm = &master->shm,
		.seat = worker->seat,
		.slot = worker->slot,
		.workers = generation->n_workers,
		.generation = generation->number,
		.cpu = cpu_of_slot(generation, worker->slot),
		.channel = channel,
		.master = (int32_t)parent,
		.identity = &master->identity,
		.vault = generation->vault,
		.tickets = master->tickets,
		.descriptors = master->descriptors };
	generation->vault = -1; /* it is this process's now */
	owners_post(&master->owners, worker->owner, &args.post);
	master_release_in_child(master, generation, worker->slot);
	_exit(worker_run(&args));
}

static int fork_worker(struct worker_process *worker)
{
	struct master *master = worker->generation->master;
	int ends[2];
	int error = segment_take_seat(&master->shm, worker->slot, &worker->seat);
	if (error)
		return error;
	if (segment_make_room_for_worker(&master->shm, worker->seat, worker->generation->config)) {
		log_error("no room for the statistics of a worker: the file system of %s is full", master->stats_path);
		error = -ENOSPC;
	}
	if (!error)
		error = channel_pair(ends);
	if (error) {
		atomic_store(&master->shm.seats[worker->seat].state, SEAT_FREE);
		return error;
	}
	worker->forked_ns = clock_now_ns();
	make_owner(worker);
	prepare_seat(worker);
	pid_t self = getpid(), pid = fork();
	if (pid < 0) {
		error = -errno;
		atomic_store(&master->shm.seats[worker->seat].state, SEAT_FREE);
		close(ends[0]);
		close(ends[1]);
		return error;
	}
	if (pid == 0) {
		close(ends[0]);
		child_main(worker, ends[1], self);
	}
	close(ends[1]);
	worker->pid = pid;
	worker->channel = ends[0];
	worker->hung_up = false;
	worker->yields_due = 0;
	worker->state = WORKER_STARTING;
	name_seat(worker);
	for (uint32_t part = 0; part < ARRAY_LEN(worker->generation->yielded); part++)
		if (worker->generation->yielded[part])
			tell_yield(worker, part * MESSAGE_LISTENERS, worker->generation->yielded[part]);
	if (loop_io_set(master->loop, &worker->channel_io, worker->channel, LOOP_READ))
		(void)kill(worker->pid, SIGKILL); /* no memory to hear it: the next one may be luckier */
	return 0;
}

int generation_fork(struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		make_owner(&generation->workers[i]); /* so that each knows all others */
	for (uint32_t i = 0; i < generation->n_workers; i++) {
		int error = fork_worker(&generation->workers[i]);
		if (error)
			return error;
	}
	return 0;
}

/* Is there a process? */
static bool lives(const struct worker_process *worker)
{
	return worker->state != WORKER_DEAD && worker->state != WORKER_EXITED;
}

/* --- talking --------------------------------------------------------------------------------------------------------------- */

static void tell(struct worker_process *worker, const struct channel_message *message, int fd)
{
	if (!lives(worker))
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

static void tell_yield(struct worker_process *worker, uint32_t first, uint64_t listeners)
{
	worker->yields_due++;
	tell(worker, &(struct channel_message){ .kind = MESSAGE_YIELD, .value = first, .value_ns = listeners }, -1);
}

void generation_tell_yield(struct generation *generation, uint32_t first, uint64_t listeners)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		tell_yield(&generation->workers[i], first, listeners);
}

bool generation_yielded(const struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		if (lives(&generation->workers[i]) && generation->workers[i].yields_due > 0)
			return false;
	return true;
}

void generation_renew_certificates(struct generation *generation, int vault)
{
	if (generation->vault >= 0)
		close(generation->vault);
	generation->vault = vault;
	tell_all(generation, &(struct channel_message){ .kind = MESSAGE_CERTIFICATES }, vault);
}

/* What others handed over to a worker that is dead is for any that runs; it waits for one to come. */
static void pass_on_inboxes(struct master *master)
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
	pass_on_inboxes(worker->generation->master);
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
		if (lives(&generation->workers[i]) && generation->workers[i].state != WORKER_STOPPED)
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
		if (lives(&generation->workers[i]))
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
	if (generation && generation->vault >= 0)
		close(generation->vault);
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
				bury(worker);
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

/* --- dying ----------------------------------------------------------------------------------------------------------------- */

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
		if (lives(&generation->workers[i]) && generation->workers[i].state != WORKER_STOPPED)
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

static void respawn(struct worker_process *worker)
{
	struct master *master = worker->generation->master;
	generation_listen_again(worker->generation);
	int error = fork_worker(worker);
	if (!error) {
		counter_add(&master->shm.header->worker_restarts, 1);
		log_info("worker %u is replaced by pid %d", worker->slot, (int)worker->pid);
		return;
	}
	log_error("cannot fork worker %u: %s; trying again", worker->slot, strerror(-error));
	loop_timer_start(master->loop, &worker->respawn, NS_PER_S);
}

static void on_respawn(struct loop_timer *timer)
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
	uint64_t lived_ns = clock_now_ns() - worker->forked_ns;
	worker->quick_deaths = lived_ns < STEADY_NS ? worker->quick_deaths + 1 : 0;
	if (worker->quick_deaths <= 1) {
		respawn(worker);
		return;
	}
	uint32_t doublings = worker->quick_deaths - 2 < 7 ? worker->quick_deaths - 2 : 7;
	uint64_t delay_ns = RESPAWN_FIRST_NS << doublings;
	if (delay_ns > RESPAWN_MOST_NS)
		delay_ns = RESPAWN_MOST_NS;
	log_warn("worker %u keeps dying: the next try in %llu ms; new clients that are its share wait so long", worker->slot,
	        (unsigned long long)(delay_ns / NS_PER_MS));
	loop_timer_start(worker->generation->master->loop, &worker->respawn, delay_ns);
}

static void log_death(const struct worker_process *worker, int status)
{
	uint32_t number = worker->generation->number;
	if (WIFSIGNALED(status))
		log_error("worker %u gen %u (pid %d) was killed by signal %d (%s)%s", worker->slot, number, (int)worker->pid,
		        WTERMSIG(status), strsignal(WTERMSIG(status)), WCOREDUMP(status) ? ", core dumped" : "");
	else if (WEXITSTATUS(status) != 0 || worker->state == WORKER_RUNNING || worker->state == WORKER_STARTING)
		log_error("worker %u gen %u (pid %d) exited with status %d", worker->slot, number, (int)worker->pid, WEXITSTATUS(status));
	else
		log_debug("worker %u gen %u (pid %d) is done", worker->slot, number, (int)worker->pid);
}

/* Its process and its connections are gone: what it held is free. The generation may be gone after this. */
static void bury(struct worker_process *worker)
{
	struct generation *generation = worker->generation;
	loop_timer_stop(generation->master->loop, &worker->burial);
	worker->state = WORKER_DEAD;
	close_channel(worker);
	forget_owner(worker);
	pass_on_inboxes(generation->master);
	master_clear_seat(generation->master, worker->seat);
	if (generation->state == GENERATION_RUNNING)
		replace(worker);
	else if (generation->state == GENERATION_STARTING)
		transition_worker_died(generation->master->transition);
	else
		master_generation_changed(generation->master);
}

static void on_burial(struct loop_timer *timer)
{
	bury(container_of(timer, struct worker_process, burial));
}

bool generation_reap_one(struct generation *generation)
{
	int status;
	struct worker_process *worker = NULL;
	for (uint32_t i = 0; i < generation->n_workers && !worker; i++)
		if (lives(&generation->workers[i]) && waitpid(generation->workers[i].pid, &status, WNOHANG) > 0)
			worker = &generation->workers[i];
	if (!worker)
		return false;
	log_death(worker, status);
	worker->state = WORKER_EXITED;
	if (worker->hung_up)
		bury(worker);
	else
		loop_timer_start(generation->master->loop, &worker->burial, BURY_WITHIN_NS);
	return true;
}
