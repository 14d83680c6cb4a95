/* The pool: what is ready, what is closed, what is counted; with each engine that works here. The server is a listening socket of the
 * test's own, which the kernel accepts for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../shm/segment.h"
#include "base/clock.h"
#include "os/ring_loop.h"
#include "upstream/upstream.h"

#define GIVE_UP_NS (20 * NS_PER_S)
enum { MOST = 32, SPARE = 8 };

struct ground {
	bool ring_wanted, no_buffers;
	struct loop *loop;
	struct ring *ring;
	struct ring_loop ring_loop;
	struct loop_timer poll;
	bool (*until)(struct ground *ground);
	uint64_t deadline_ns;
	struct conns conns;
	struct conn *hoarder;
	counter_t starvations;
	struct shm shm;
	uint32_t row, upstream_row;
	int listener;
	struct server_config server;
	struct upstream_config config;
	struct pools pools;
	struct lines lines;
	struct upstreams shared;
	struct upstream upstream;
	struct box box;
	uint32_t wanted; /* by the condition */
	int accepted[MOST];
};

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

static void on_ring_lost(int error)
{
	fail_msg("ring_wait: %s", strerror(-error));
}

static void wait_by_ring(struct ground *ground)
{
	static const struct ring_shape shape = {
		.entries = 64, .completions = 256, .buffers = CONNS_RING_BUFFERS, .buffer_bytes = CONNS_RING_BUFFER_BYTES
	};
	char why[160];
	ground->ring = ring_new(&shape, why, sizeof why);
	assert_non_null(ground->ring);
	ring_loop_join(&ground->ring_loop, ground->loop, ground->ring, on_ring_lost);
}

static void before_sleep(void *arg)
{
	struct ground *ground = arg;
	if (ground->no_buffers)
		conns_tell_starved(&ground->conns);
	lines_before_sleep(&ground->lines);
	pools_before_sleep(&ground->pools);
}

static void on_poll(struct loop_timer *timer)
{
	struct ground *ground = container_of(timer, struct ground, poll);
	if (ground->until(ground)) {
		loop_stop(ground->loop);
		return;
	}
	if (clock_now_ns() >= ground->deadline_ns)
		fail_msg("stuck: warm %u, kept %u, dialling %u", ground->upstream.pools[0].lists[HOT_WARM].n,
		        ground->upstream.pools[0].lists[HOT_KEPT].n, ground->upstream.pools[0].lists[HOT_DIALLING].n);
	loop_timer_start(ground->loop, timer, NS_PER_MS / 4);
}

static void run_until(struct ground *ground, bool (*until)(struct ground *ground), uint32_t wanted)
{
	ground->until = until;
	ground->wanted = wanted;
	ground->deadline_ns = clock_now_ns() + GIVE_UP_NS;
	loop_timer_start(ground->loop, &ground->poll, 0);
	loop_run(ground->loop);
}

static struct pool *pool_of(struct ground *ground)
{
	return &ground->upstream.pools[0];
}

static const struct server_row *row_of(struct ground *ground)
{
	return ground->upstream.servers[0].row;
}

static uint32_t held(struct ground *ground)
{
	return limit_used(&ground->shm, ground->upstream.servers[0].limit);
}

static bool warm_are(struct ground *ground)
{
	return pool_of(ground)->lists[HOT_WARM].n == ground->wanted && pool_of(ground)->lists[HOT_DIALLING].n == 0;
}

static bool kept_are(struct ground *ground)
{
	return pool_of(ground)->lists[HOT_KEPT].n == ground->wanted;
}

static bool none_is_open(struct ground *ground)
{
	return ground->conns.slab.in_use == ground->wanted;
}

/* --- from set-up to tear-down ------------------------------------------------------------------------------------------------ */

static void open_listener(struct ground *ground)
{
	struct addr *addr = &ground->server.addrs[0];
	socklen_t length = sizeof addr->in;
	addr->in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	addr->length = length;
	ground->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(ground->listener, &addr->sa, length), 0);
	assert_int_equal(listen(ground->listener, MOST), 0);
	assert_int_equal(getsockname(ground->listener, &addr->sa, &length), 0);
}

static struct ground *set_up(void **state, bool ring)
{
	char why[160];
	if (ring && !ring_probe(why, sizeof why))
		return NULL;
	struct ground *ground = calloc(1, sizeof *ground);
	assert_non_null(ground);
	*state = ground;
	ground->loop = loop_new();
	assert_non_null(ground->loop);
	if (ring)
		wait_by_ring(ground);
	loop_on_turn(ground->loop, before_sleep, ground);
	loop_timer_init(&ground->poll, on_poll);
	assert_int_equal(conns_init(&ground->conns, ground->loop, ground->ring, MOST + SPARE, &ground->starvations), 0);
	segment_make(&ground->shm, 2, 1, 1);
	assert_int_equal(shm_claim_upstream(&ground->shm, "u", &ground->upstream_row), 0);
	assert_int_equal(shm_claim_server(&ground->shm, "u", "s", &ground->row), 0);
	open_listener(ground);
	ground->server.name = ground->server.address = "s";
	ground->server.weight = 100;
	ground->server.n_addrs = 1;
	ground->config = (struct upstream_config){ .name = "u", .servers = &ground->server, .n_servers = 1 };
	ground->config.timeout.connect_ns = 5 * NS_PER_S;
	ground->box = (struct box){ -1, -1 };
	for (size_t i = 0; i < MOST; i++)
		ground->accepted[i] = -1;
	return ground;
}

static int set_up_epoll(void **state)
{
	(void)set_up(state, false);
	return 0;
}

static int set_up_ring(void **state)
{
	(void)set_up(state, true);
	return 0;
}

static bool is_starved(struct ground *ground)
{
	return counter_get(&ground->starvations) >= ground->wanted;
}

static void on_hoarded(struct conn *conn, unsigned events)
{
	(void)conn;
	(void)events;
}

/* A ring that gives no buffer out, and those that it had given out are with one connection. */
static int set_up_no_buffers(void **state)
{
	static const char much[16 * 1024];
	struct ground *ground = set_up(state, true);
	int fds[2];
	if (!ground)
		return 0;
	ground->no_buffers = true;
	ring_hold_back(ground->ring, true);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	while (send(fds[0], much, sizeof much, 0) > 0) {
	}
	ground->hoarder = conn_adopt(&ground->conns, fds[1], true);
	assert_non_null(ground->hoarder);
	conn_use_completion(ground->hoarder);
	conn_hand_over(ground->hoarder, on_hoarded, NULL);
	conn_receive(ground->hoarder);
	run_until(ground, is_starved, 1);
	close(fds[0]);
	return 0;
}

static void on_turn_in_line(struct line *line, struct waiter *waiter, uint64_t *due_ns)
{
	(void)line; /* nobody is ever served */
	(void)waiter;
	(void)due_ns;
}

static const struct line_ops line_ops = { .serve = on_turn_in_line, .spare = upstream_spare };

/* After the test has chosen its settings. */
static void begin(struct ground *ground)
{
	assert_int_equal(pools_init(&ground->pools, ground->loop, &ground->conns, &ground->shm, 0, 2, MOST, SPARE), 0);
	const struct upstream_places places = { .row = ground->upstream_row, .servers = &ground->row, .boxes = &ground->box };
	assert_int_equal(lines_init(&ground->lines, ground->loop, &ground->shm, 0, NULL, &line_ops), 0);
	ground->shared = (struct upstreams){ .shm = &ground->shm, .pools = &ground->pools, .lines = &ground->lines };
	assert_int_equal(upstream_init(&ground->upstream, &ground->shared, &ground->config, &places), 0);
}

static int tear_down(void **state)
{
	struct ground *ground = *state;
	if (!ground)
		return 0;
	if (ground->hoarder)
		conn_close(ground->hoarder, true);
	pools_close(&ground->pools);
	run_until(ground, none_is_open, 0);
	assert_int_equal(held(ground), ground->box.put_fd >= 0 ? box_count(&ground->box) : 0);
	assert_int_equal(counter_get(&row_of(ground)->hot), 0);
	lines_fini(&ground->lines);
	ring_free(ground->ring);
	pools_fini(&ground->pools);
	upstream_fini(&ground->upstream);
	conns_fini(&ground->conns);
	for (size_t i = 0; i < MOST; i++)
		if (ground->accepted[i] >= 0)
			close(ground->accepted[i]);
	close(ground->listener);
	box_close(&ground->box);
	loop_free(ground->loop);
	segment_drop(&ground->shm);
	free(ground);
	return 0;
}

#define GROUND_OR_SKIP(state)             \
	struct ground *ground = *(state); \
	if (!ground)                      \
	skip() /* no ring in here */

/* The server's end of what was dialled. */
static void accept_all(struct ground *ground)
{
	for (size_t i = 0; i < MOST; i++)
		if (ground->accepted[i] < 0)
			ground->accepted[i] = accept4(ground->listener, NULL, NULL, SOCK_CLOEXEC);
}

static struct hot_conn take(struct ground *ground)
{
	static const struct sockaddr_in6 nobody;
	const struct upstream_client client = { .peer = &nobody };
	struct upstream_hold hold;
	assert_int_equal(upstream_take(&ground->upstream, &client, &hold), UPSTREAM_TAKEN);
	return hold.hot;
}

static void give_up(struct ground *ground, struct hot_conn *hot)
{
	conn_close(hot->conn, false);
	upstream_give_back(&ground->upstream, &ground->upstream.servers[0]);
}

/* --- keeping ----------------------------------------------------------------------------------------------------------------- */

/* With one connection, used by a client. */
static struct hot_conn begin_with_one(struct ground *ground)
{
	ground->config.pool.warm = 1;
	begin(ground);
	run_until(ground, warm_are, 1);
	accept_all(ground);
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	assert_false(hot.used);
	ground->config.pool.warm = 0;
	run_until(ground, warm_are, 0);
	return hot;
}

static void test_kept_and_taken_again(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.keep = 2;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	struct conn *conn = hot.conn;
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(held(ground), 1);
		hot.sent_bytes = 100 * (i + 1);
		assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
		assert_int_equal(counter_get(&row_of(ground)->hot), 1);
		assert_int_equal(held(ground), 1);
		hot = take(ground);
		assert_ptr_equal(hot.conn, conn);
		assert_true(hot.used);
		assert_int_equal(hot.sent_bytes, 100 * (i + 1));
		assert_int_equal(counter_get(&row_of(ground)->hot), 0);
	}
	assert_int_equal(counter_get(&row_of(ground)->pool_kept), 3);
	assert_int_equal(counter_get(&row_of(ground)->pool_hits), 4);
	give_up(ground, &hot);
}

static void test_a_miss_is_counted(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.keep = 1;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	begin(ground);
	assert_null(take(ground).conn);
	assert_int_equal(held(ground), 1); /* for the connection that is dialled now */
	assert_int_equal(counter_get(&row_of(ground)->pool_misses), 1);
	upstream_give_back(&ground->upstream, &ground->upstream.servers[0]);
}

static void test_no_more_than_keep(void **state)
{
	GROUND_OR_SKIP(state);
	struct hot_conn hot[3];
	ground->config.pool = (typeof(ground->config.pool)){ .warm = 3, .keep = 2, .framing = POOL_FRAMING_LINE };
	begin(ground);
	run_until(ground, warm_are, 3);
	for (size_t i = 0; i < 3; i++)
		hot[i] = take(ground);
	struct server *server = &ground->upstream.servers[0];
	assert_true(upstream_keep(&ground->upstream, server, &hot[0]));
	assert_true(upstream_keep(&ground->upstream, server, &hot[1]));
	assert_false(upstream_keep(&ground->upstream, server, &hot[2]));
	assert_ptr_equal(take(ground).conn, hot[1].conn); /* the last one in is the first one out */
	give_up(ground, &hot[1]);
	give_up(ground, &hot[2]);
}

static void test_nothing_is_kept_by_a_closed_pool(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.keep = 2;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	pools_close(&ground->pools);
	assert_false(pool_wants(pool_of(ground)));
	assert_false(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	give_up(ground, &hot);
}

/* --- what the server does meanwhile ------------------------------------------------------------------------------------------ */

static void keep_one(struct ground *ground)
{
	ground->config.pool.keep = 2;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	run_until(ground, kept_are, 1);
}

static void test_one_that_ends_is_closed(void **state)
{
	GROUND_OR_SKIP(state);
	keep_one(ground);
	shutdown(ground->accepted[0], SHUT_WR);
	run_until(ground, kept_are, 0);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 1);
	assert_int_equal(held(ground), 0);
}

static void test_one_that_speaks_is_closed(void **state)
{
	GROUND_OR_SKIP(state);
	keep_one(ground);
	assert_int_equal(send(ground->accepted[0], "unasked", 7, 0), 7);
	run_until(ground, kept_are, 0);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 1);
}

static void test_a_look_sees_what_no_event_told(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.keep = 1;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	assert_int_equal(hot_look(hot.conn), HOT_QUIET);
	assert_int_equal(send(ground->accepted[0], "x", 1, 0), 1);
	struct pollfd arrived = { .fd = hot.conn->fd, .events = POLLIN };
	assert_int_equal(poll(&arrived, 1, 10000), 1);
	assert_int_equal(hot_look(hot.conn), HOT_SPOKE);
	give_up(ground, &hot);
}

static bool has_greeting(struct ground *ground)
{
	const struct hot *hot = pool_of(ground)->lists[HOT_WARM].newest;
	return hot && (hot->conn->by_completion ? hot->conn->input != CONN_NO_BUFFER : hot->conn->readable);
}

static void test_a_greeting_waits_for_its_client(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 1;
	begin(ground);
	run_until(ground, warm_are, 1);
	accept_all(ground);
	assert_int_equal(send(ground->accepted[0], "hello", 5, 0), 5);
	run_until(ground, has_greeting, 0);
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	if (hot.conn->by_completion) {
		assert_int_equal(hot.conn->input_bytes, 5);
	} else {
		char bytes[8];
		assert_int_equal(recv(hot.conn->fd, bytes, sizeof bytes, MSG_DONTWAIT), 5);
	}
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 0);
	give_up(ground, &hot);
}

static bool has_all_of_it(struct ground *ground)
{
	const struct hot *hot = pool_of(ground)->lists[HOT_WARM].newest;
	return hot && hot->conn->input_bytes == ground->wanted;
}

/* It takes one buffer all the same. */
static void test_a_greeting_in_pieces(void **state)
{
	uint32_t length;
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 1;
	begin(ground);
	run_until(ground, warm_are, 1);
	accept_all(ground);
	for (uint32_t sent = 0; sent < 9; sent += 3) {
		assert_int_equal(send(ground->accepted[0], &"in pieces"[sent], 3, 0), 3);
		run_until(ground, has_all_of_it, sent + 3);
	}
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	assert_int_equal(hot.conn->input_buffers, 1);
	assert_int_equal(hot.conn->input, hot.conn->last);
	assert_memory_equal(conn_input_bytes(hot.conn, hot.conn->input, &length), "in pieces", 9);
	assert_int_equal(length, 9);
	give_up(ground, &hot);
}

/* Of long ones some buffers, in order. */
static void test_a_long_greeting_in_pieces(void **state)
{
	enum { PIECE = 1500, PIECES = 5 };
	char bytes[PIECE * PIECES];
	GROUND_OR_SKIP(state);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(i % 251);
	ground->config.pool.warm = 1;
	begin(ground);
	run_until(ground, warm_are, 1);
	accept_all(ground);
	for (uint32_t sent = 0; sent < PIECES; sent++) {
		assert_int_equal(send(ground->accepted[0], bytes + sent * PIECE, PIECE, 0), PIECE);
		run_until(ground, has_all_of_it, (sent + 1) * PIECE);
	}
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	assert_int_equal(hot.conn->input_buffers, 3);
	size_t at = 0;
	for (uint16_t buffer = hot.conn->input; buffer != CONN_NO_BUFFER; buffer = conn_next_input(hot.conn, buffer)) {
		uint32_t length;
		const char *part = conn_input_bytes(hot.conn, buffer, &length);
		assert_true(length <= sizeof bytes - at);
		assert_memory_equal(part, bytes + at, length);
		at += length;
	}
	assert_int_equal(at, sizeof bytes);
	give_up(ground, &hot);
}

static void test_a_greeting_for_which_there_is_no_buffer(void **state)
{
	char bytes[8];
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 1;
	begin(ground);
	run_until(ground, warm_are, 1);
	accept_all(ground);
	assert_int_equal(send(ground->accepted[0], "hello", 5, 0), 5);
	run_until(ground, is_starved, 2);
	run_until(ground, warm_are, 1);
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	assert_false(hot.conn->starved);
	assert_int_equal(recv(hot.conn->fd, bytes, sizeof bytes, MSG_DONTWAIT), 5);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 0);
	give_up(ground, &hot);
}

/* --- keeping warm ------------------------------------------------------------------------------------------------------------ */

static void test_filled_again(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 20;
	begin(ground);
	run_until(ground, warm_are, 20);
	assert_int_equal(held(ground), 20);
	assert_int_equal(counter_get(&row_of(ground)->connections), 20);
	for (int i = 0; i < 5; i++) {
		struct hot_conn hot = take(ground);
		give_up(ground, &hot);
	}
	run_until(ground, warm_are, 20);
	assert_int_equal(counter_get(&row_of(ground)->connections), 25);
}

static uint64_t stop_at_ns;

static bool time_is_over(struct ground *ground)
{
	(void)ground;
	return clock_now_ns() >= stop_at_ns;
}

static void test_a_dead_server_is_not_hammered(void **state)
{
	GROUND_OR_SKIP(state);
	close(ground->listener);
	ground->listener = -1;
	ground->config.pool.warm = 4;
	begin(ground);
	stop_at_ns = clock_now_ns() + NS_PER_S / 2;
	run_until(ground, time_is_over, 0);
	/* 8 at once at the most, then after 50, 100, 200 ms */
	assert_in_range(counter_get(&row_of(ground)->failures), 1, 20);
	assert_int_equal(held(ground), 0);
}

static void test_a_disabled_server_is_left_alone(void **state)
{
	GROUND_OR_SKIP(state);
	ground->server.disabled = true;
	ground->config.pool.warm = 4;
	begin(ground);
	stop_at_ns = clock_now_ns() + NS_PER_S / 20;
	run_until(ground, time_is_over, 0);
	assert_int_equal(counter_get(&row_of(ground)->connections), 0);
	assert_int_equal(held(ground), 0);
}

static void test_the_limit_of_the_server_holds(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 10;
	atomic_store(&shm_limit(&ground->shm, limit_server(&ground->shm, ground->row))->max, 3);
	begin(ground);
	run_until(ground, warm_are, 3);
	struct hot_conn hot = take(ground); /* it has its place already */
	assert_non_null(hot.conn);
	assert_int_equal(held(ground), 3);
	give_up(ground, &hot);
}

static void test_room_is_left_for_clients(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = MOST + SPARE;
	begin(ground);
	run_until(ground, warm_are, MOST);
	assert_int_equal(conns_room(&ground->conns), SPARE);
	assert_int_equal(pools_evict(&ground->pools, 5), 5);
	ground->config.pool.warm = 0;
	assert_int_equal(held(ground), MOST - 5);
	run_until(ground, none_is_open, MOST - 5);
	assert_int_equal(pools_evict(&ground->pools, 1000), MOST - 5);
}

static void test_old_ones_go(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.max_idle_ns = 10 * NS_PER_MS;
	keep_one(ground);
	run_until(ground, kept_are, 0);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 0);
	assert_int_equal(held(ground), 0);
}

/* --- sharing ----------------------------------------------------------------------------------------------------------------- */

static bool box_has(struct ground *ground)
{
	return box_count(&ground->box) == ground->wanted;
}

/* keep = 2 for two workers: none is the worker's own. */
static void begin_sharing(struct ground *ground)
{
	assert_int_equal(box_open(&ground->box), 0);
	ground->config.pool.keep = 2;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	hot.sent_bytes = 0;
	assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	run_until(ground, box_has, 1);
	run_until(ground, none_is_open, 0);
}

static void test_lent_and_borrowed(void **state)
{
	GROUND_OR_SKIP(state);
	begin_sharing(ground);
	assert_int_equal(held(ground), 1); /* the place is nobody's */
	assert_int_equal(atomic_load(shm_ledger(&ground->shm, 0, ground->upstream.servers[0].limit)), 0);
	assert_int_equal(counter_get(&row_of(ground)->hot), 0);
	assert_int_equal(atomic_load(&ground->shm.servers[ground->row].boxed), 1);
	struct hot_conn hot = take(ground);
	assert_non_null(hot.conn);
	assert_true(hot.used);
	assert_int_equal(held(ground), 1);
	assert_int_equal(atomic_load(shm_ledger(&ground->shm, 0, ground->upstream.servers[0].limit)), 1);
	assert_int_equal(atomic_load(&ground->shm.servers[ground->row].boxed), 0);
	assert_int_equal(send(hot.conn->fd, "x", 1, MSG_NOSIGNAL), 1);
	char byte;
	assert_int_equal(recv(ground->accepted[0], &byte, 1, 0), 1);
	give_up(ground, &hot);
}

static void test_a_dead_one_is_passed_over(void **state)
{
	GROUND_OR_SKIP(state);
	begin_sharing(ground);
	close(ground->accepted[0]);
	ground->accepted[0] = -1;
	assert_null(take(ground).conn);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 1);
	assert_int_equal(box_count(&ground->box), 0);
	assert_int_equal(held(ground), 1); /* of the one to be dialled */
	upstream_give_back(&ground->upstream, &ground->upstream.servers[0]);
}

static void test_another_address_is_passed_over(void **state)
{
	GROUND_OR_SKIP(state);
	begin_sharing(ground);
	pool_of(ground)->addresses[0] ^= 1;
	assert_null(take(ground).conn);
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 0);
	upstream_give_back(&ground->upstream, &ground->upstream.servers[0]);
}

static void test_a_full_box_closes(void **state)
{
	GROUND_OR_SKIP(state);
	struct hot_conn hot[3];
	assert_int_equal(box_open(&ground->box), 0);
	ground->config.pool = (typeof(ground->config.pool)){ .warm = 3, .keep = 2, .framing = POOL_FRAMING_LINE };
	begin(ground);
	run_until(ground, warm_are, 3);
	for (size_t i = 0; i < 3; i++)
		hot[i] = take(ground);
	ground->config.pool.warm = 0;
	for (size_t i = 0; i < 3; i++)
		assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot[i]));
	run_until(ground, none_is_open, 0);
	assert_int_equal(box_count(&ground->box), 2);
	assert_int_equal(counter_get(&row_of(ground)->pool_kept), 2);
	assert_int_equal(held(ground), 2);
}

/* Clients come first: with a full server, one in the box makes way for one that needs a connection of its own. */
static void test_a_full_server_takes_from_the_box(void **state)
{
	GROUND_OR_SKIP(state);
	atomic_store(&shm_limit(&ground->shm, limit_server(&ground->shm, ground->row))->max, 1);
	begin_sharing(ground);
	static const struct sockaddr_in6 nobody;
	const struct upstream_client client = { .peer = &nobody, .fresh = true };
	struct upstream_hold hold;
	assert_int_equal(upstream_take(&ground->upstream, &client, &hold), UPSTREAM_TAKEN);
	assert_null(hold.hot.conn);
	assert_int_equal(box_count(&ground->box), 0);
	assert_int_equal(held(ground), 1);
	assert_int_equal(upstream_take(&ground->upstream, &client, &hold), UPSTREAM_FULL);
	upstream_give_back(&ground->upstream, &ground->upstream.servers[0]);
}

static void test_the_box_is_swept(void **state)
{
	GROUND_OR_SKIP(state);
	begin_sharing(ground);
	shutdown(ground->accepted[0], SHUT_WR);
	run_until(ground, box_has, 0); /* within a second, without anybody taking it */
	assert_int_equal(counter_get(&row_of(ground)->pool_stale), 1);
}

/* --- clients that wait for a place --------------------------------------------------------------------------------------------- */

static void another_worker_waits(struct ground *ground)
{
	assert_true(limit_reserve(&ground->shm, 1, limit_upstream(&ground->shm, ground->upstream_row)));
	line_show(&ground->shm, ground->upstream_row, 1, line_ticket(&ground->shm, ground->upstream_row), loop_now_ns(ground->loop));
}

static void nobody_waits_there(struct ground *ground)
{
	line_show(&ground->shm, ground->upstream_row, 1, 0, loop_now_ns(ground->loop));
	limit_release(&ground->shm, 1, limit_upstream(&ground->shm, ground->upstream_row));
}

static void test_nothing_is_kept_from_those_who_wait(void **state)
{
	GROUND_OR_SKIP(state);
	struct waiter own = { 0 };
	ground->config.pool.keep = 2;
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	another_worker_waits(ground);
	assert_false(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	assert_true(line_join(&ground->upstream.line, &own)); /* behind the other one */
	assert_false(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	nobody_waits_there(ground);
	assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot)); /* for the own one */
	line_leave(&ground->upstream.line, &own);
	hot = take(ground);
	assert_non_null(hot.conn);
	give_up(ground, &hot);
}

static void test_who_waits_finds_it_in_the_box(void **state)
{
	GROUND_OR_SKIP(state);
	assert_int_equal(box_open(&ground->box), 0);
	ground->config.pool.keep = 8; /* of which two are for the worker itself */
	ground->config.pool.framing = POOL_FRAMING_LINE;
	struct hot_conn hot = begin_with_one(ground);
	another_worker_waits(ground);
	assert_true(upstream_keep(&ground->upstream, &ground->upstream.servers[0], &hot));
	run_until(ground, box_has, 1);
	run_until(ground, none_is_open, 0);
	assert_int_equal(held(ground), 1);
	nobody_waits_there(ground);
}

static void test_a_place_is_spared(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 2;
	begin(ground);
	run_until(ground, warm_are, 2);
	accept_all(ground);
	another_worker_waits(ground);
	assert_true(upstream_spare(&ground->upstream.line));
	assert_int_equal(held(ground), 1);
	run_until(ground, none_is_open, 1); /* and is not filled again at once */
	assert_true(upstream_spare(&ground->upstream.line));
	assert_false(upstream_spare(&ground->upstream.line));
	assert_int_equal(held(ground), 0);
	nobody_waits_there(ground);
	run_until(ground, warm_are, 2);
}

static void test_connect_rate_is_for_warm_ones_too(void **state)
{
	GROUND_OR_SKIP(state);
	ground->config.pool.warm = 4;
	ground->config.connect_rate_per_s = 20;
	ground->config.connect_burst = 1;
	uint64_t began_ns = loop_now_ns(ground->loop);
	begin(ground);
	assert_true(upstream_may_dial(&ground->upstream, loop_now_ns(ground->loop)));
	run_until(ground, warm_are, 4);
	assert_in_range(loop_now_ns(ground->loop) - began_ns, 3 * NS_PER_S / 20 - NS_PER_MS, UINT64_MAX); /* five, of which two at once */
}

int main(void)
{
#define RING(test)                                                  \
	{                                                           \
#test " (ring)", test, set_up_ring, tear_down, NULL \
	}
#define EACH(test) { #test " (epoll)", test, set_up_epoll, tear_down, NULL }, RING(test)
#define NO_BUFFERS(test)                                                        \
	{                                                                       \
#test " (no buffers)", test, set_up_no_buffers, tear_down, NULL \
	}
	const struct CMUnitTest tests[] = {
		EACH(test_kept_and_taken_again),
		EACH(test_a_miss_is_counted),
		EACH(test_no_more_than_keep),
		EACH(test_nothing_is_kept_by_a_closed_pool),
		EACH(test_one_that_ends_is_closed),
		EACH(test_one_that_speaks_is_closed),
		EACH(test_a_look_sees_what_no_event_told),
		EACH(test_a_greeting_waits_for_its_client),
		RING(test_a_greeting_in_pieces),
		RING(test_a_long_greeting_in_pieces),
		NO_BUFFERS(test_kept_and_taken_again),
		NO_BUFFERS(test_one_that_ends_is_closed),
		NO_BUFFERS(test_one_that_speaks_is_closed),
		NO_BUFFERS(test_a_greeting_for_which_there_is_no_buffer),
		EACH(test_filled_again),
		EACH(test_a_dead_server_is_not_hammered),
		EACH(test_a_disabled_server_is_left_alone),
		EACH(test_the_limit_of_the_server_holds),
		EACH(test_room_is_left_for_clients),
		EACH(test_old_ones_go),
		EACH(test_lent_and_borrowed),
		EACH(test_a_dead_one_is_passed_over),
		EACH(test_another_address_is_passed_over),
		EACH(test_a_full_box_closes),
		EACH(test_a_full_server_takes_from_the_box),
		EACH(test_the_box_is_swept),
		EACH(test_nothing_is_kept_from_those_who_wait),
		EACH(test_who_waits_finds_it_in_the_box),
		EACH(test_a_place_is_spared),
		EACH(test_connect_rate_is_for_warm_ones_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
