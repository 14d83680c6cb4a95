#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "os/channel.h"
#include "os/cpu.h"
#include "os/process.h"
#include "os/signals.h"
#include "os/title.h"
#include "tcp/wait.h"
#include "udp/udp.h"
#include "worker/lines.h"
#include "worker/message.h"
#include "worker/room.h"

#define BEAT_NS NS_PER_S
#define PACE_NS (100 * NS_PER_MS)
#define QUIET_NS NS_PER_S /* no byte for so long: a connection that may be closed by drain.pace */

struct worker {
	const struct worker_args *args;
	struct shm_seat *seat;
	struct loop *loop;
	struct lines_out lines;
	struct tls *tls;
	struct house house;
	struct tcp tcp;
	struct udp udp;
	struct accept_socket *sockets;
	uint32_t n_sockets;
	struct udp_place *udp_sockets;
	uint32_t n_udp_sockets;
	struct worker_room room;
	struct loop_io channel_io;
	struct loop_timer beat;
	struct loop_timer pace;
	struct loop_timer deadline;
	uint32_t pace_per_s;
	uint32_t pace_credit; /* what is less than a connection */
	bool draining;
	bool empty;        /* the last session ended in this turn */
	struct ring *ring; /* NULL: the engine is epoll */
	struct ring_port loop_port;
	struct ring_port channel_port;
};

static void say(struct worker *worker, enum message kind, uint32_t value)
{
	struct channel_message message = { .kind = kind, .value = value };
	int error = channel_send(worker->args->channel, &message, -1);
	if (error && error != -EPIPE)
		log_error("cannot speak to the master: %s", strerror(-error));
}

static void end_when_done(struct worker *worker);

static void set_title(const struct worker *worker, const char *doing)
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
	set_title(worker, worker->draining ? "draining" : "running");
	end_when_done(worker);
	loop_timer_start(worker->loop, &worker->beat, BEAT_NS);
}

static void before_sleep(void *arg)
{
	struct worker *worker = arg;
	counter_add(&worker->seat->turns, 1);
	bool at_once = house_before_sleep(&worker->house);
	tcp_before_sleep(&worker->tcp, at_once);
	udp_before_sleep(&worker->udp);
	if (unlikely(worker->empty))
		end_when_done(worker);
}

/* --- the engine: what the worker waits with ------------------------------------------------------------------------------ */

static void on_woke(void *arg)
{
	struct worker *worker = arg;
	loop_woke(worker->loop);
}

static void on_ring_wait(void *arg, bool sleep)
{
	struct worker *worker = arg;
	int error = ring_wait(worker->ring, sleep ? -1 : 0, on_woke, worker);
	if (error >= 0)
		return;
	log_error("io_uring failed: %s; this worker ends and is replaced", strerror(-error));
	_exit(EXIT_FAILURE);
}

/* The loop's own descriptors have something. */
static void on_loop_ready(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	struct worker *worker = container_of(port, struct worker, loop_port);
	(void)op;
	(void)result;
	(void)buffer;
	loop_poll_ready(worker->loop);
	if (!(flags & RING_MORE))
		ring_poll(worker->ring, &worker->loop_port, loop_poll_fd(worker->loop), POLLIN, true);
}

/* The ring holds on to the channel as it does to the connections: when the worker is killed, its end of the channel closes together with
 * them, a moment after the process, and so tells the master when its places are really free. */
static void hold_channel(struct worker *worker)
{
	ring_poll(worker->ring, &worker->channel_port, worker->args->channel, POLLPRI, false);
}

static void on_channel_held(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	(void)port; /* the master is gone, which on_channel() hears as well */
	(void)op;
	(void)result;
	(void)flags;
	(void)buffer;
}

static void choose_engine(struct worker *worker)
{
	const struct config *config = worker->args->config;
	const struct ring_shape shape = {
		.entries = 512, .completions = 4096, .buffers = worker->room.ring_buffers, .buffer_bytes = CONNS_RING_BUFFER_BYTES
	};
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
	worker->loop_port.fn = on_loop_ready;
	ring_poll(worker->ring, &worker->loop_port, loop_poll_fd(worker->loop), POLLIN, true);
	worker->channel_port.fn = on_channel_held;
	hold_channel(worker);
	loop_set_waiter(worker->loop, on_ring_wait, worker);
}

/* --- draining ------------------------------------------------------------------------------------------------------------ */

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
static void end_when_done(struct worker *worker)
{
	worker->empty = false;
	if (!is_done(worker))
		return;
	transfer_stop(&worker->udp);
	if (is_done(worker))
		loop_stop(worker->loop);
}

/* Within the end of a session: what follows comes after the turn. */
static void on_empty(void *arg)
{
	struct worker *worker = arg;
	worker->empty = true;
}

static void on_pace(struct loop_timer *timer)
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

static void on_deadline(struct loop_timer *timer)
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

static void drain(struct worker *worker, bool refuse, uint32_t pace_per_s, uint64_t timeout_ns)
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
		set_title(worker, "draining");
		say(worker, MESSAGE_STOPPED, 0);
	}
	end_when_done(worker);
	worker->pace_per_s = pace_per_s;
	if (worker->pace_per_s)
		loop_timer_start(worker->loop, &worker->pace, PACE_NS);
	if (timeout_ns)
		loop_timer_start(worker->loop, &worker->deadline, timeout_ns);
}

/* --- the master ---------------------------------------------------------------------------------------------------------- */

/* During an upgrade there are two masters with the same sockets: one of them died, the other one goes on. */
static bool another_master_lives(const struct worker *worker)
{
	const struct shm_header *header = worker->args->shm->header;
	const int32_t masters[] = { atomic_load(&header->master_pid), atomic_load(&header->heir_pid) };
	for (size_t i = 0; i < ARRAY_LEN(masters); i++)
		if (masters[i] > 0 && masters[i] != worker->args->master && !process_has_ended(masters[i]))
			return true;
	return false;
}

static void on_master_gone(struct worker *worker)
{
	const struct config *config = worker->args->config;
	bool refuse = !another_master_lives(worker);
	loop_io_stop(worker->loop, &worker->channel_io);
	/* Another one that starts later could not bind the ports of UDP as long as we have their sockets; one that lives reads from now on.
	 */
	for (uint32_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].protocol == PROTOCOL_UDP && refuse)
			udp_close(&worker->udp, i);
		else if (config->listeners[i].protocol == PROTOCOL_UDP)
			udp_yield(&worker->udp, i, true);
	log_error("the master is gone: %sdraining %u connections", refuse ? "refusing new clients, " : "", worker->house.n_visits);
	drain(worker, refuse, config->drain.pace, config->drain.timeout_ns);
}

static void yield(struct worker *worker, const struct channel_message *message)
{
	for (uint32_t i = 0; i < worker->args->config->n_listeners; i++)
		if (worker->args->config->listeners[i].protocol == PROTOCOL_UDP && message_speaks_of(message, i))
			udp_yield(&worker->udp, i, message_names(message, i));
	say(worker, MESSAGE_YIELDED, message->value);
	end_when_done(worker);
}

static void close_listeners(struct worker *worker, const struct channel_message *message)
{
	for (uint32_t i = 0; i < worker->args->config->n_listeners; i++)
		if (worker->args->config->listeners[i].protocol == PROTOCOL_UDP && message_names(message, i))
			udp_close(&worker->udp, i);
	end_when_done(worker);
}

static void renew_certificates(struct worker *worker, int fd)
{
	char why[256];
	if (worker->tls && fd >= 0 && tls_renew(worker->tls, fd, why, sizeof why))
		log_error("the certificates that were sent are not taken over, and the old ones stay: %s", why);
}

static void on_message(struct worker *worker, const struct channel_message *message, int fd)
{
	switch ((enum message)message->kind) {
	case MESSAGE_GO:
		atomic_store_explicit(&worker->seat->state, SEAT_RUNNING, memory_order_relaxed);
		set_title(worker, "running");
		house_published(&worker->house);
		acceptor_start(&worker->tcp.acceptor);
		udp_start(&worker->udp);
		break;
	case MESSAGE_DRAIN:
	case MESSAGE_REFUSE:
		drain(worker, message->kind == MESSAGE_REFUSE, message->value, message->value_ns);
		break;
	case MESSAGE_QUIT:
		worker->draining = true;
		house_end_all(&worker->house, REASON_DRAIN_TIMEOUT);
		house_close_pools(&worker->house);
		loop_stop(worker->loop);
		break;
	case MESSAGE_YIELD:
		yield(worker, message);
		break;
	case MESSAGE_CLOSE:
		close_listeners(worker, message);
		break;
	case MESSAGE_CERTIFICATES:
		renew_certificates(worker, fd);
		break;
	case MESSAGE_INBOX:
		transfer_inherit(&worker->udp, fd);
		return;
	case MESSAGE_READY:
	case MESSAGE_STOPPED:
	case MESSAGE_YIELDED:
		break;
	}
	if (fd >= 0)
		close(fd);
}

static void on_channel(struct loop_io *io, int events)
{
	struct worker *worker = container_of(io, struct worker, channel_io);
	struct channel_message message;
	int fd;
	(void)events;
	for (;;) {
		int error = channel_receive(worker->args->channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error == -EPIPE) {
			on_master_gone(worker);
			return;
		}
		if (error) {
			log_error("cannot take what the master sent: %s", strerror(-error));
			continue;
		}
		on_message(worker, &message, fd);
	}
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
	worker->house.empty = on_empty;
	worker->house.empty_arg = worker;
	return 0;
}

int worker_run(const struct worker_args *args)
{
	struct worker worker = { .args = args, .seat = &args->shm->seats[args->seat] };
	char name[32];
	(void)snprintf(name, sizeof name, "worker %u", args->slot);
	log_set_process(name);
	lines_out_begin(&worker.lines, args->shm, args->seat, args->slot, args->places.log_bell);
	signals_for_child();
	int status = EXIT_FAILURE;
	if (set_up(&worker))
		goto out;
	set_title(&worker, "starting");
	loop_on_turn(worker.loop, before_sleep, &worker);
	loop_timer_init(&worker.beat, on_beat);
	loop_timer_init(&worker.pace, on_pace);
	loop_timer_init(&worker.deadline, on_deadline);
	loop_timer_start(worker.loop, &worker.beat, BEAT_NS);
	loop_io_init(&worker.channel_io, on_channel);
	if (loop_io_set(worker.loop, &worker.channel_io, args->channel, LOOP_READ) || transfer_start(&worker.udp))
		goto out;
	say(&worker, MESSAGE_READY, worker.room.flows > worker.room.sessions ? worker.room.flows : worker.room.sessions);
	loop_run(worker.loop);
	transfer_end(&worker.udp);
	udp_flush(&worker.udp); /* the last answers, with which the last sessions ended */
	set_title(&worker, "exiting");
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
