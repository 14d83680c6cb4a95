/* A worker that drains: it accepts no more, and ends with its last session. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/own.h"

#define PACE_NS (100 * NS_PER_MS)
#define QUIET_NS NS_PER_S /* no byte for so long: a connection that may be closed by drain.pace */

/* Datagrams of older generations come by sockets that the newest one of those that drain reads. */
static bool has_to_read_for_others(const struct worker *worker)
{
	const struct shm *shm = worker->args->shm;
	if (!udp_reads(&worker->udp))
		return false;
	for (uint32_t i = 0; i < shm->dims.seats; i++) {
		const struct shm_seat *seat = &shm->seats[i];
		if (atomic_load_explicit(&seat->generation, memory_order_relaxed) < worker->args->generation &&
		        atomic_load_explicit(&seat->udp_sessions, memory_order_relaxed) > 0)
			return true;
	}
	return false;
}

static bool is_done(const struct worker *worker)
{
	return worker->draining && worker->house.n_visits == 0 && !has_to_read_for_others(worker);
}

/* What others handed over until now may begin a session. */
void worker_end_when_done(struct worker *worker)
{
	worker->empty = false;
	if (!is_done(worker))
		return;
	transfer_stop(&worker->udp);
	if (is_done(worker))
		loop_stop(worker->loop);
}

/* Within the end of a session: what follows comes after the turn. */
void worker_on_empty(void *arg)
{
	struct worker *worker = arg;
	worker->empty = true;
}

void worker_on_pace(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, pace);
	/* This worker's share of a pace that is meant for all of them together. */
	uint32_t whole = worker->args->workers * (uint32_t)(NS_PER_S / PACE_NS);
	worker->pace_credit += worker->pace_per_s;
	uint32_t due = worker->pace_credit / whole;
	worker->pace_credit %= whole;
	if (due)
		(void)house_end_idle(&worker->house, due, QUIET_NS, REASON_DRAIN_PACED);
	loop_timer_start(worker->loop, &worker->pace, PACE_NS);
}

void worker_on_drain_overdue(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, deadline);
	log_info("drain.timeout is over: ending %u connections", worker->house.n_visits);
	house_end_all(&worker->house, REASON_DRAIN_TIMEOUT);
}

/* From here on new clients are refused at once, instead of being left hanging in a backlog that nobody reads. What systemd or
 * a parent handed over is theirs: they may start us again for what is queued. */
static void refuse_new_clients(const struct worker *worker)
{
	for (uint32_t i = 0; i < worker->n_sockets; i++)
		if (!worker->args->listeners[worker->sockets[i].listener]->inherited)
			listener_refuse_fd(worker->sockets[i].fd);
}

void worker_drain(struct worker *worker, bool refuse, uint32_t pace_per_s, uint64_t timeout_ns)
{
	if (!worker->draining) {
		acceptor_stop(&worker->tcp.acceptor, true);
		udp_refuse(&worker->udp);
		if (refuse)
			refuse_new_clients(worker);
		/* The master owns the sockets; ours are copies. */
		for (uint32_t i = 0; i < worker->n_sockets; i++)
			close(worker->sockets[i].fd);
		worker->n_sockets = 0;
		worker->draining = true;
		house_close_pools(&worker->house);
		atomic_store_explicit(&worker->seat->state, SEAT_DRAINING, memory_order_relaxed);
		worker_set_title(worker, "draining");
		worker_say(worker, MESSAGE_STOPPED, 0);
	}
	worker_end_when_done(worker);
	worker->pace_per_s = pace_per_s;
	if (worker->pace_per_s)
		loop_timer_start(worker->loop, &worker->pace, PACE_NS);
	if (timeout_ns)
		loop_timer_start(worker->loop, &worker->deadline, timeout_ns);
}
