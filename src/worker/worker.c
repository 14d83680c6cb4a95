#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "os/channel.h"
#include "os/cpu.h"
#include "os/signals.h"
#include "os/title.h"
#include "tcp/wait.h"
#include "worker/own.h"

#define BEAT_NS NS_PER_S

void worker_say(struct worker *worker, enum message kind, uint32_t value)
{
	struct channel_message message = { .kind = kind, .value = value };
	int error = channel_send(worker->args->channel, &message, -1);
	if (error && error != -EPIPE)
		log_error("cannot speak to the master: %s", strerror(-error));
}

void worker_set_title(const struct worker *worker, const char *doing)
{
	title_set("aegis: worker %u gen %u %s %u", worker->args->slot, worker->args->generation, doing, worker->house.n_visits);
}

/* --- once a second ------------------------------------------------------------------------------------------------------- */

static void on_beat(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, beat);
	struct shm_seat *seat = worker->seat;
	atomic_store_explicit(&seat->beat_ns, loop_now_ns(worker->loop), memory_order_relaxed);
	atomic_store_explicit(&seat->loop_lag_ns, loop_take_longest_turn_ns(worker->loop), memory_order_relaxed);
	if (worker->ring)
		ring_trim(worker->ring);
	buffers_trim(&worker->tcp.engine.buffers);
	house_beat(&worker->house);
	udp_beat(&worker->udp);
	worker_set_title(worker, worker->draining ? "draining" : "running");
	worker_end_when_done(worker);
	loop_timer_start(worker->loop, &worker->beat, BEAT_NS);
}

static void before_sleep(void *arg)
{
	struct worker *worker = arg;
	counter_add(&worker->seat->turns, 1);
	relay_engine_before_sleep(&worker->tcp.engine); /* first: what sessions leave is for the others */
	bool at_once = house_before_sleep(&worker->house);
	tcp_before_sleep(&worker->tcp, at_once);
	udp_before_sleep(&worker->udp);
	if (unlikely(worker->empty))
		worker_end_when_done(worker);
}

/* --- the engine: what the worker waits with ------------------------------------------------------------------------------ */

static void on_ring_lost(int error)
{
	log_error("io_uring failed: %s; this worker ends and is replaced", strerror(-error));
	_exit(EXIT_FAILURE);
}

/* The ring holds on to the channel as it does to the connections: when the worker is killed, its end of the channel closes together with
 * them, a moment after the process, and so tells the master when its places are really free. */
static void hold_channel(struct worker *worker)
{
	ring_poll(worker->ring, &worker->channel_port, worker->args->channel, POLLPRI, false);
}

static void on_channel_held(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	(void)port; /* the master is gone, which worker_on_channel() hears as well */
	(void)op;
	(void)result;
	(void)flags;
	(void)buffer;
}

static void choose_engine(struct worker *worker)
{
	const struct config *config = worker->args->config;
	const struct ring_shape shape = { .entries = 256,
		.completions = 1024,
		.at_once = 4096,
		.buffers = worker->room.ring_buffers,
		.buffer_bytes = CONNS_RING_BUFFER_BYTES };
	char why[160];
	atomic_store(&worker->seat->engine, SEAT_ENGINE_EPOLL);
	/* A ring is of use for plain streams alone, and costs something where it only waits for epoll. */
	if (config->engine == ENGINE_EPOLL || (config->engine == ENGINE_AUTO && !tcp_has_plain(config)))
		return;
	worker->ring = ring_new(&shape, why, sizeof why);
	if (!worker->ring) {
		log_line(config->engine == ENGINE_AUTO ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "no io_uring: %s; going on with epoll", why);
		return;
	}
	atomic_store(&worker->seat->engine, SEAT_ENGINE_IO_URING);
	ring_loop_join(&worker->ring_loop, worker->loop, worker->ring, on_ring_lost);
	worker->channel_port.fn = on_channel_held;
	hold_channel(worker);
}

/* --- from fork to exit --------------------------------------------------------------------------------------------------- */

/* What a session is known by is where the client sends to, whatever name that has in the settings. */
static uint64_t hash_of(const struct listener *listener)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(&listener->bound, text, sizeof text);
	return hash_xxh64(text, strlen(text), 0);
}

static void collect_of(struct worker *worker, uint32_t index)
{
	const struct worker_args *args = worker->args;
	const struct listener *listener = args->listeners[index];
	for (uint32_t i = 0; i < listener->n_fds; i++) {
		if (!worker_serves(listener, i, args->slot, args->workers))
			continue;
		if (listener->protocol == PROTOCOL_TCP)
			worker->sockets[worker->n_sockets++] = (struct accept_socket){ .fd = listener->fds[i], .listener = index };
		else
			worker->udp_sockets[worker->n_udp_sockets++] = (struct udp_place){
				.fd = listener->fds[i],
				.listener = index,
				.index = i,
				.any_address = listener->any_address,
				.listener_hash = hash_of(listener),
				.gets_copies = i > 0 && !listener->inherited,
			};
	}
}

static int collect_sockets(struct worker *worker)
{
	const struct worker_args *args = worker->args;
	uint32_t most = 1;
	for (size_t i = 0; i < args->config->n_listeners; i++)
		most += args->listeners[i]->n_fds;
	worker->sockets = calloc(most, sizeof *worker->sockets);
	worker->udp_sockets = calloc(most, sizeof *worker->udp_sockets);
	if (!worker->sockets || !worker->udp_sockets)
		return -ENOMEM;
	for (uint32_t i = 0; i < args->config->n_listeners; i++)
		collect_of(worker, i);
	return 0;
}

static void pin(const struct worker_args *args)
{
	int node;
	int error = args->cpu >= 0 ? cpu_pin(args->cpu, &node) : 0;
	if (error)
		log_warn("cannot pin to CPU %d: %s; going on unpinned", args->cpu, strerror(-error));
}

static int make_house(struct worker *worker)
{
	const struct worker_args *args = worker->args;
	const struct worker_room *room = &worker->room;
	const struct house_room house_room = tcp_room(args->config, room->sessions, room->hot);
	int error = house_init(&worker->house, worker->loop, worker->ring, args->config, &args->places, args->shm, args->seat, &house_room,
	        args->slot, wait_serve);
	worker->house.tls = worker->tls;
	if (!error)
		error = tcp_init(&worker->tcp, &worker->house, worker->ring, args->config, &args->places, room->sessions, room->buffers,
		        room->pipes, worker->sockets, worker->n_sockets);
	if (!error)
		error = udp_init(&worker->udp, &worker->house, args->config, &args->places, room->flows, worker->udp_sockets,
		        worker->n_udp_sockets, &args->post);
	return error;
}

/* The certificates are there already: a process that could read their files left them in the vault. */
static int make_tls(struct worker *worker)
{
	const struct worker_args *args = worker->args;
	char why[256];
	int error = tls_new(args->config, args->vault, args->tickets, &worker->tls, why, sizeof why);
	if (error)
		log_error("%s", why);
	if (args->vault >= 0)
		close(args->vault);
	return error;
}

/* All privileges, unless connections are to come from the addresses of clients. */
static int give_up_privileges(const struct worker_args *args)
{
	bool transparent = false;
	for (size_t i = 0; i < args->config->n_upstreams; i++)
		transparent = transparent || args->config->upstreams[i].source_kind == SOURCE_CLIENT;
	return transparent ? privileges_drop_but_transparent(args->identity) : privileges_drop(args->identity);
}

static int set_up(struct worker *worker)
{
	const struct worker_args *args = worker->args;
	pin(args); /* before any memory is touched: it shall lie on the CPU's own node */
	worker->loop = loop_new();
	if (!worker->loop) {
		log_error("cannot make an event loop (epoll): out of descriptors or memory");
		return -ENOMEM;
	}
	int error = give_up_privileges(args);
	if (error) {
		log_error("cannot give up privileges (become %s): %s", args->identity->user, strerror(-error));
		return error;
	}
	error = make_tls(worker);
	if (error)
		return error;
	error = collect_sockets(worker);
	worker_make_room(&worker->room, args->config, args->workers, args->descriptors,
	        worker->n_sockets + worker->n_udp_sockets + args->post.n_others, args->places.bells->n);
	choose_engine(worker);
	if (!error)
		error = make_house(worker);
	if (error) {
		log_error("cannot set up: %s", strerror(-error));
		return error;
	}
	worker->house.empty = worker_on_empty;
	worker->house.empty_arg = worker;
	return 0;
}

int worker_run(const struct worker_args *args)
{
	static struct worker worker; /* zeros that nobody touches cost nothing: most of what UDP has, where there is none */
	char name[32];
	worker.args = args;
	worker.seat = &args->shm->seats[args->seat];
	(void)snprintf(name, sizeof name, "worker %u", args->slot);
	log_set_process(name);
	lines_out_begin(
	        &worker.lines, args->shm, args->seat, args->slot, lines_ring_capacity(args->config->log.level), args->places.log_bell);
	signals_for_child();
	int status = EXIT_FAILURE;
	if (set_up(&worker))
		goto out;
	worker_set_title(&worker, "starting");
	loop_on_turn(worker.loop, before_sleep, &worker);
	loop_timer_init(&worker.beat, on_beat);
	loop_timer_init(&worker.pace, worker_on_pace);
	loop_timer_init(&worker.deadline, worker_on_drain_overdue);
	loop_timer_start(worker.loop, &worker.beat, BEAT_NS);
	loop_io_init(&worker.channel_io, worker_on_channel);
	if (loop_io_set(worker.loop, &worker.channel_io, args->channel, LOOP_READ) || transfer_start(&worker.udp))
		goto out;
	worker_say(&worker, MESSAGE_READY, worker.room.flows > worker.room.sessions ? worker.room.flows : worker.room.sessions);
	loop_run(worker.loop);
	transfer_end(&worker.udp);
	udp_flush(&worker.udp); /* the last answers, with which the last sessions ended */
	worker_set_title(&worker, "exiting");
	status = EXIT_SUCCESS;
out:
	ring_free(worker.ring);
	if (worker.loop) {
		udp_fini(&worker.udp);
		tcp_fini(&worker.tcp);
		house_fini(&worker.house);
	}
	tls_free(worker.tls);
	loop_free(worker.loop);
	free(worker.sockets);
	free(worker.udp_sockets);
	return status;
}
