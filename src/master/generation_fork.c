/* A worker begins: its seat, its process, and what it gets along. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/generation_own.h"
#include "master/segment.h"
#include "os/channel.h"
#include "os/process.h"
#include "worker/worker.h"

static void make_owner(struct worker_process *worker)
{
	struct generation *generation = worker->generation;
	if (!worker->owner)
		worker->owner = owners_add(&generation->master->owners, generation->config);
}

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

int worker_process_fork(struct worker_process *worker)
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
			worker_process_tell_yield(worker, part * MESSAGE_LISTENERS, worker->generation->yielded[part]);
	if (loop_io_set(master->loop, &worker->channel_io, worker->channel, LOOP_READ))
		(void)kill(worker->pid, SIGKILL); /* no memory to hear it: the next one may be luckier */
	return 0;
}

int generation_fork(struct generation *generation)
{
	for (uint32_t i = 0; i < generation->n_workers; i++)
		make_owner(&generation->workers[i]); /* so that each knows all others */
	for (uint32_t i = 0; i < generation->n_workers; i++) {
		int error = worker_process_fork(&generation->workers[i]);
		if (error)
			return error;
	}
	return 0;
}
