/* The relay between two real TCP connections, driven by a real loop, in one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "relay/relay.h"

#define GIVE_UP_NS (20 * NS_PER_S)

struct fixture {
	struct loop *loop;
	struct relay_engine engine;
	struct relay relay;
	counter_t exhausted;
	int client, server; /* the peers' ends */
	int relay_client, relay_server;
	size_t bytes[2];
	bool done;
	enum relay_end end;
	enum side by;
	struct loop_timer tick; /* what tick_at() asked for */
	struct loop_timer poll; /* lets the test act between turns */
	uint64_t deadline_ns;
	bool (*step)(struct fixture *fixture); /* true = this run is over */
};

static struct fixture *fixture_of(struct relay *relay)
{
	return container_of(relay, struct fixture, relay);
}

static void on_bytes(struct relay *relay, enum side from, size_t count)
{
	fixture_of(relay)->bytes[from] += count;
}

static void on_done(struct relay *relay, enum relay_end end, enum side by)
{
	struct fixture *fixture = fixture_of(relay);
	assert_false(fixture->done);
	fixture->done = true;
	fixture->end = end;
	fixture->by = by;
	relay_stop(relay);
	close(fixture->relay_client);
	close(fixture->relay_server);
	fixture->relay_client = fixture->relay_server = -1;
}

static void on_tick_at(struct relay *relay, uint64_t due_ns)
{
	struct fixture *fixture = fixture_of(relay);
	uint64_t now_ns = loop_now_ns(fixture->loop);
	loop_timer_start(fixture->loop, &fixture->tick, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void on_tick(struct loop_timer *timer)
{
	struct fixture *fixture = container_of(timer, struct fixture, tick);
	if (!fixture->done)
		relay_tick(&fixture->relay, loop_now_ns(fixture->loop));
}

static const struct relay_session_ops ops = { .bytes = on_bytes, .done = on_done, .tick_at = on_tick_at };

static void on_poll(struct loop_timer *timer)
{
	struct fixture *fixture = container_of(timer, struct fixture, poll);
	if (fixture->step(fixture)) {
		loop_stop(fixture->loop);
		return;
	}
	assert_true(clock_now_ns() < fixture->deadline_ns);
	loop_timer_start(fixture->loop, timer, NS_PER_MS / 10);
}

static void run(struct fixture *fixture, bool (*step)(struct fixture *fixture))
{
	fixture->step = step;
	fixture->deadline_ns = clock_now_ns() + GIVE_UP_NS;
	loop_timer_start(fixture->loop, &fixture->poll, 0);
	loop_run(fixture->loop);
}

/* A connected pair of TCP sockets; the second one is the relay's. */
static void tcp_pair(int *peer, int *relays)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	*peer = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*peer, (struct sockaddr *)&address, length), 0);
	*relays = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(*relays >= 0);
	close(listener);
}

static int set_up_with(void **state, size_t buffers)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	fixture->loop = loop_new();
	assert_non_null(fixture->loop);
	fixture->engine = (struct relay_engine){ .loop = fixture->loop, .session = &ops, .buffer_exhausted = &fixture->exhausted };
	assert_int_equal(buffers_init(&fixture->engine.buffers, buffers), 0);
	loop_timer_init(&fixture->tick, on_tick);
	loop_timer_init(&fixture->poll, on_poll);
	tcp_pair(&fixture->client, &fixture->relay_client);
	tcp_pair(&fixture->server, &fixture->relay_server);
	assert_int_equal(relay_start(&fixture->relay, &fixture->engine, fixture->relay_client, fixture->relay_server), 0);
	*state = fixture;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, 8);
}

/* No buffer for slow readers at all. */
static int set_up_starved(void **state)
{
	int result = set_up_with(state, 0);
	struct fixture *fixture = *state;
	assert_non_null(buffers_keep_scratch(&fixture->engine.buffers));
	assert_null(fixture->engine.buffers.scratch);
	return result;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	relay_stop(&fixture->relay);
	if (!fixture->done) {
		close(fixture->relay_client);
		close(fixture->relay_server);
	}
	close(fixture->client);
	close(fixture->server);
	buffers_fini(&fixture->engine.buffers);
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

/* Byte n of a stream that repeats only after 251. */
static char pattern(size_t n)
{
	return (char)(n % 251);
}

static size_t written, seen;
enum { TOTAL = 24 * 1024 * 1024 };

/* Write to one peer as much as it takes, until TOTAL. */
static void feed(int fd)
{
	char block[32768];
	while (written < TOTAL) {
		size_t count = TOTAL - written < sizeof block ? TOTAL - written : sizeof block;
		for (size_t i = 0; i < count; i++)
			block[i] = pattern(written + i);
		ssize_t sent = send(fd, block, count, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			return;
		written += (size_t)sent;
	}
}

/* Read what is there, up to most. Returns the last result of recv(). */
static ssize_t drain(int fd, size_t most)
{
	char block[16384];
	ssize_t count;
	while ((count = recv(fd, block, most < sizeof block ? most : sizeof block, MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < count; i++)
			assert_int_equal(block[i], pattern(seen + (size_t)i));
		seen += (size_t)count;
		most -= (size_t)count;
		if (most == 0)
			break;
	}
	return count;
}

static bool feed_client_read_server_slowly(struct fixture *fixture)
{
	feed(fixture->client);
	(void)drain(fixture->server, 7001 * 16);
	return seen == TOTAL;
}

static void test_a_slow_reader_gets_every_byte(void **state)
{
	struct fixture *fixture = *state;
	written = seen = 0;
	run(fixture, feed_client_read_server_slowly);
	assert_int_equal(fixture->bytes[SIDE_CLIENT], TOTAL);
	assert_false(relay_holds(&fixture->relay));
	assert_int_equal(fixture->engine.buffers.slab.in_use, 1); /* scratch */
}

static bool feed_client_only(struct fixture *fixture)
{
	size_t before = written;
	static int still;
	feed(fixture->client);
	still = written == before ? still + 1 : 0;
	return still > 200;
}

static void test_an_unread_stream_is_held_back(void **state)
{
	struct fixture *fixture = *state;
	int small = 65536;
	(void)setsockopt(fixture->server, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	(void)setsockopt(fixture->relay_server, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	written = seen = 0;
	run(fixture, feed_client_only);
	assert_true(written < TOTAL);
	assert_true(relay_holds(&fixture->relay));
	assert_int_equal(fixture->engine.buffers.slab.in_use, 2); /* one is held, one is scratch */
	run(fixture, feed_client_read_server_slowly);
	assert_int_equal(fixture->bytes[SIDE_CLIENT], TOTAL);
}

static void test_without_buffers_it_still_flows(void **state)
{
	struct fixture *fixture = *state;
	written = seen = 0;
	run(fixture, feed_client_read_server_slowly);
	assert_int_equal(fixture->bytes[SIDE_CLIENT], TOTAL);
	assert_true(counter_get(&fixture->exhausted) > 0);
	assert_null(fixture->engine.buffers.scratch);
}

static bool is_done(struct fixture *fixture)
{
	return fixture->done;
}

static bool server_saw_the_end(struct fixture *fixture)
{
	return drain(fixture->server, SIZE_MAX) == 0;
}

static bool client_saw_the_end(struct fixture *fixture)
{
	return drain(fixture->client, SIZE_MAX) == 0;
}

static bool feed_server_read_client(struct fixture *fixture)
{
	feed(fixture->server);
	(void)drain(fixture->client, SIZE_MAX);
	return seen == TOTAL;
}

static void test_half_close_by_the_client(void **state)
{
	struct fixture *fixture = *state;
	written = seen = 0;
	shutdown(fixture->client, SHUT_WR);
	run(fixture, server_saw_the_end);
	assert_false(fixture->done);
	run(fixture, feed_server_read_client);
	shutdown(fixture->server, SHUT_WR);
	run(fixture, client_saw_the_end);
	run(fixture, is_done);
	assert_int_equal(fixture->end, RELAY_FINISHED);
}

static void test_half_close_by_the_server(void **state)
{
	struct fixture *fixture = *state;
	written = seen = 0;
	shutdown(fixture->server, SHUT_WR);
	run(fixture, client_saw_the_end);
	assert_false(fixture->done);
	run(fixture, feed_client_read_server_slowly);
	shutdown(fixture->client, SHUT_WR);
	run(fixture, server_saw_the_end);
	run(fixture, is_done);
	assert_int_equal(fixture->end, RELAY_FINISHED);
}

static void test_half_close_without_buffers(void **state)
{
	test_half_close_by_the_client(state);
}

static void reset(int fd)
{
	struct linger now = { .l_onoff = 1 };
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

static void test_a_reset_is_told_and_by_whom(void **state)
{
	struct fixture *fixture = *state;
	reset(fixture->client);
	fixture->client = -1;
	run(fixture, is_done);
	assert_int_equal(fixture->end, RELAY_RESET);
	assert_int_equal(fixture->by, SIDE_CLIENT);
}

/* The server sends and resets; what arrived before the RST is owed to a client that reads late. */
static bool all_sent(struct fixture *fixture)
{
	(void)fixture;
	char block[4096];
	while (written < 100000) {
		size_t count = 100000 - written < sizeof block ? 100000 - written : sizeof block;
		for (size_t i = 0; i < count; i++)
			block[i] = pattern(written + i);
		ssize_t sent = send(fixture->server, block, count, MSG_DONTWAIT);
		if (sent < 0)
			return false;
		written += (size_t)sent;
	}
	return fixture->bytes[SIDE_SERVER] == 100000;
}

static bool client_read_all_then_reset_is_over(struct fixture *fixture)
{
	if (seen < 100000)
		(void)drain(fixture->client, SIZE_MAX);
	return fixture->done && seen == 100000;
}

static void test_what_is_owed_comes_before_the_reset(void **state)
{
	struct fixture *fixture = *state;
	written = seen = 0;
	run(fixture, all_sent);
	reset(fixture->server);
	fixture->server = -1;
	run(fixture, client_read_all_then_reset_is_over);
	assert_int_equal(fixture->end, RELAY_RESET);
	assert_int_equal(fixture->by, SIDE_SERVER);
	assert_int_equal(fixture->bytes[SIDE_SERVER], 100000);
}

/* A send fails before the read tells of the reset: the kernel then reports an end of input, which must not pass for a FIN. */
static bool client_writes_until_it_is_over(struct fixture *fixture)
{
	(void)send(fixture->client, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return fixture->done;
}

static void test_a_reset_seen_by_a_send_is_no_fin(void **state)
{
	struct fixture *fixture = *state;
	shutdown(fixture->server, SHUT_WR);
	written = seen = 0;
	run(fixture, client_saw_the_end);
	close(fixture->server); /* what the client sends now is answered by a RST */
	fixture->server = -1;
	run(fixture, client_writes_until_it_is_over);
	assert_int_equal(fixture->end, RELAY_RESET);
	assert_int_equal(fixture->by, SIDE_SERVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_slow_reader_gets_every_byte, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_unread_stream_is_held_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_buffers_it_still_flows, set_up_starved, tear_down),
		cmocka_unit_test_setup_teardown(test_half_close_by_the_client, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_half_close_by_the_server, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_half_close_without_buffers, set_up_starved, tear_down),
		cmocka_unit_test_setup_teardown(test_a_reset_is_told_and_by_whom, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_owed_comes_before_the_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_reset_seen_by_a_send_is_no_fin, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
