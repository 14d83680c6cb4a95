#include "ground.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVE_UP_NS (30 * NS_PER_S)

static struct ground *ground_of(struct relay *relay)
{
	return container_of(relay, struct ground, relay);
}

/* --- the session ------------------------------------------------------------------------------------------------------------- */

static void on_bytes(struct relay *relay, enum side from, size_t count)
{
	struct ground *ground = ground_of(relay);
	ground->bytes[from] += count;
	ground->this_turn[from] += count;
	if (ground->in_a_turn) {
		void (*act)(struct ground *) = ground->in_a_turn;
		ground->in_a_turn = NULL;
		act(ground);
	}
}

static void over(struct ground *ground, bool abort)
{
	assert_false(ground->done);
	ground->done = true;
	relay_stop(&ground->relay);
	conn_close(ground->server_conn, abort);
	conn_close(ground->client_conn, abort);
}

static void on_done(struct relay *relay, enum relay_end end, enum side by)
{
	struct ground *ground = ground_of(relay);
	ground->end = end;
	ground->by = by;
	over(ground, end != RELAY_FINISHED);
}

static char pattern(size_t n)
{
	return (char)(n % 251);
}

static bool on_look(struct relay *relay, enum side from, const char *bytes, size_t count)
{
	struct ground *ground = ground_of(relay);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(bytes[i], pattern(ground->looked[from] + i));
	ground->looked[from] += count;
	if (ground->stop_looking_at && ground->looked[from] >= ground->stop_looking_at) {
		over(ground, false);
		return false;
	}
	return true;
}

static enum relay_ending on_ending(struct relay *relay, enum side from)
{
	struct ground *ground = ground_of(relay);
	assert_true(relay->side[from].eof);
	ground->ending_calls++;
	if (ground->ending == ENDING_OVER)
		over(ground, false);
	return ground->ending;
}

static size_t on_allow(struct relay *relay, enum side from)
{
	struct ground *ground = ground_of(relay);
	ground->allow_calls++;
	assert_true(ground->bytes[from] <= ground->allowed[from]);
	return ground->allowed[from] - ground->bytes[from];
}

void ground_allow(struct ground *ground, enum side from, size_t bytes)
{
	ground->allowed[from] += bytes;
	relay_resume(&ground->relay);
}

static void on_options_due(struct relay *relay)
{
	struct ground *ground = ground_of(relay);
	ground->options_calls++;
	ground->server_conn->options_due = false;
}

static void on_tick_at(struct relay *relay, uint64_t due_ns)
{
	struct ground *ground = ground_of(relay);
	uint64_t now_ns = loop_now_ns(ground->loop);
	loop_timer_start(ground->loop, &ground->tick, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void on_tick(struct loop_timer *timer)
{
	struct ground *ground = container_of(timer, struct ground, tick);
	if (!ground->done)
		relay_tick(&ground->relay, loop_now_ns(ground->loop));
}

static void on_by_kernel(struct relay *relay, enum side to)
{
	(void)relay;
	(void)to;
}

static const struct relay_session_ops session = { .bytes = on_bytes,
	.look = on_look,
	.ending = on_ending,
	.allow = on_allow,
	.options_due = on_options_due,
	.by_kernel = on_by_kernel,
	.done = on_done,
	.tick_at = on_tick_at };

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

static void on_ring_lost(int error)
{
	fail_msg("ring_wait: %s", strerror(-error));
}

static void wait_by_ring(struct ground *ground)
{
	static const struct ring_shape shape = {
		.entries = 256, .completions = 1024, .buffers = CONNS_RING_BUFFERS, .buffer_bytes = CONNS_RING_BUFFER_BYTES
	};
	char why[160];
	ground->ring = ring_new(&shape, why, sizeof why);
	assert_non_null(ground->ring);
	ring_loop_join(&ground->ring_loop, ground->loop, ground->ring, on_ring_lost);
}

static void before_sleep(void *arg)
{
	struct ground *ground = arg;
	relay_engine_before_sleep(&ground->engine);
	for (enum side side = SIDE_CLIENT; side <= SIDE_SERVER; side++) {
		if (ground->this_turn[side] > ground->most_in_a_turn[side])
			ground->most_in_a_turn[side] = ground->this_turn[side];
		ground->this_turn[side] = 0;
	}
}

static void on_poll(struct loop_timer *timer)
{
	struct ground *ground = container_of(timer, struct ground, poll);
	if (ground->step(ground)) {
		loop_stop(ground->loop);
		return;
	}
	if (clock_now_ns() >= ground->deadline_ns)
		fail_msg("stuck: %zu of %zu bytes written, %zu seen; relay told of %zu and %zu, owes %u and %u; done: %d", ground->written,
		        ground->total, ground->seen, ground->bytes[SIDE_CLIENT], ground->bytes[SIDE_SERVER],
		        ground->relay.side[SIDE_CLIENT].owed, ground->relay.side[SIDE_SERVER].owed, ground->done);
	loop_timer_start(ground->loop, timer, NS_PER_MS / 10);
}

void ground_run(struct ground *ground, bool (*step)(struct ground *ground))
{
	ground->step = step;
	ground->deadline_ns = clock_now_ns() + GIVE_UP_NS;
	loop_timer_start(ground->loop, &ground->poll, 0);
	loop_run(ground->loop);
}

/* --- from set-up to tear-down ------------------------------------------------------------------------------------------------ */

static void set_buffers(int fd, int bytes)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

/* A connected pair of TCP sockets: the peer's end and the relay's. */
static int tcp_pair(int *peer, int small, int ample, int segment)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	if (small)
		set_buffers(listener, small);
	if (ample) /* a socket that was accepted has the buffers of the one that listened */
		(void)setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &ample, sizeof ample);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	*peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (small)
		set_buffers(*peer, small);
	if (segment)
		assert_int_equal(setsockopt(*peer, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment), 0);
	(void)setsockopt(*peer, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	assert_int_equal(connect(*peer, (struct sockaddr *)&address, length), 0);
	int relays = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(relays >= 0);
	close(listener);
	return relays;
}

static int unix_pair(int *peer)
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*peer = fds[0];
	return fds[1];
}

static struct conn *connect_one(struct ground *ground, int *peer, int small, int segment)
{
	bool local = ground->shape->local;
	struct conn *conn =
	        conn_adopt(&ground->conns, local ? unix_pair(peer) : tcp_pair(peer, small, ground->shape->ample, segment), local);
	assert_non_null(conn);
	return conn;
}

void ground_start(struct ground *ground)
{
	assert_int_equal(relay_start(&ground->relay, &ground->engine, ground->client_conn, ground->server_conn), 0);
}

int ground_set_up(void **state)
{
	const struct shape *shape = *state;
	struct ground *ground = calloc(1, sizeof *ground);
	(void)signal(SIGPIPE, SIG_IGN); /* as in a worker: splice() knows no MSG_NOSIGNAL */
	ground->shape = shape;
	ground->loop = loop_new();
	assert_non_null(ground->loop);
	loop_on_turn(ground->loop, before_sleep, ground);
	if (shape->ring)
		wait_by_ring(ground);
	assert_int_equal(conns_init(&ground->conns, ground->loop, ground->ring, 8, &ground->starvations), 0);
	ground->engine = (struct relay_engine){ .loop = ground->loop,
		.conns = &ground->conns,
		.session = &session,
		.buffer_exhausted = &ground->exhausted,
		.spliced_bytes = &ground->spliced,
		.pipe_exhausted = &ground->no_pipe };
	size_t pieces = !ground->ring ? 0 : (shape->pieces ? shape->pieces : RELAY_PIECES) * (size_t)ring_buffers(ground->ring);
	assert_int_equal(buffers_init(&ground->engine.buffers, shape->starved ? 0 : shape->buffers ? shape->buffers : 8, pieces, 0), 0);
	if (shape->starved)
		assert_non_null(buffers_keep_scratch(&ground->engine.buffers, 0, 0));
	if (shape->pipes) {
		assert_int_equal(pipes_init(&ground->pipes, shape->pipes), 0);
		ground->engine.pipes = &ground->pipes;
	}
	loop_timer_init(&ground->tick, on_tick);
	loop_timer_init(&ground->poll, on_poll);
	ground->client_conn = connect_one(ground, &ground->client, 0, shape->segment);
	ground->server_conn = connect_one(ground, &ground->server, shape->small, 0);
	ground->server_conn->options_due = shape->options;
	ground->relay.framed = shape->framed;
	ground->relay.shaped = shape->shaped;
	if (!shape->later)
		ground_start(ground);
	*state = ground;
	return 0;
}

int ground_tear_down(void **state)
{
	struct ground *ground = *state;
	if (!ground->done)
		over(ground, true);
	assert_int_equal(ground_taken_pipes(ground), 0);
	if (!ground->shape->starved)
		assert_int_equal(ground->engine.buffers.slab.in_use, 1); /* scratch */
	assert_int_equal(ground->engine.buffers.pieces.in_use, 0);
	if (ground->client >= 0)
		close(ground->client);
	if (ground->server >= 0)
		close(ground->server);
	ring_free(ground->ring);
	conns_fini(&ground->conns);
	pipes_fini(&ground->pipes);
	buffers_fini(&ground->engine.buffers);
	loop_free(ground->loop);
	free(ground);
	return 0;
}

/* --- the stream -------------------------------------------------------------------------------------------------------------- */

void ground_stream(struct ground *ground, size_t total)
{
	ground->written = ground->seen = 0;
	ground->looked[SIDE_CLIENT] = ground->looked[SIDE_SERVER] = 0;
	ground->total = total;
}

bool ground_feed(struct ground *ground, int fd)
{
	static char block[32768];
	while (ground->written < ground->total) {
		size_t left = ground->total - ground->written;
		size_t count = left < sizeof block ? left : sizeof block;
		for (size_t i = 0; i < count; i++)
			block[i] = pattern(ground->written + i);
		ssize_t sent = send(fd, block, count, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		ground->written += (size_t)sent;
	}
	return true;
}

ssize_t ground_drain(struct ground *ground, int fd, size_t most)
{
	static char block[16384];
	ssize_t count = -1;
	while (most > 0 && (count = recv(fd, block, most < sizeof block ? most : sizeof block, MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < count; i++)
			if (block[i] != pattern(ground->seen + (size_t)i))
				fail_msg("byte %zu is not what was sent", ground->seen + (size_t)i);
		ground->seen += (size_t)count;
		most -= (size_t)count;
	}
	return count;
}

void ground_reset(int *fd)
{
	struct linger now = { .l_onoff = 1 };
	(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(*fd);
	*fd = -1;
}

unsigned ground_open_pipes(const struct ground *ground)
{
	unsigned closed = 0;
	for (const struct pipe *pipe = ground->pipes.closed; pipe; pipe = pipe->next)
		closed++;
	return ground->pipes.count - closed;
}

unsigned ground_taken_pipes(const struct ground *ground)
{
	unsigned idle = 0;
	for (const struct pipe *pipe = ground->pipes.idle; pipe; pipe = pipe->next)
		idle++;
	return ground_open_pipes(ground) - idle;
}

/* --- steps ------------------------------------------------------------------------------------------------------------------- */

bool step_is_done(struct ground *ground)
{
	return ground->done;
}

bool step_client_to_server(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->seen == ground->total;
}

bool step_client_to_server_slowly(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	(void)ground_drain(ground, ground->server, 7001 * 16);
	return ground->seen == ground->total;
}

bool step_server_to_client(struct ground *ground)
{
	(void)ground_feed(ground, ground->server);
	(void)ground_drain(ground, ground->client, SIZE_MAX);
	return ground->seen == ground->total;
}

bool step_client_is_held_back(struct ground *ground)
{
	static size_t before, still;
	(void)ground_feed(ground, ground->client);
	still = ground->written + ground->bytes[SIDE_CLIENT] == before ? still + 1 : 0;
	before = ground->written + ground->bytes[SIDE_CLIENT];
	return still > 200;
}

bool step_server_saw_the_end(struct ground *ground)
{
	return ground_drain(ground, ground->server, SIZE_MAX) == 0;
}

bool step_client_saw_the_end(struct ground *ground)
{
	return ground_drain(ground, ground->client, SIZE_MAX) == 0;
}
