/* The relay: bytes, ends and resets, with each engine that works here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ground.h"

enum { TOTAL = 24 * 1024 * 1024, SMALL_BUFFER = 65536 };

/* --- streams ----------------------------------------------------------------------------------------------------------------- */

static void test_a_slow_reader_gets_every_byte(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_false(relay_holds(&ground->relay));
}

static void test_an_unread_stream_is_held_back(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_is_held_back);
	assert_true(ground->written < TOTAL);
	assert_true(relay_holds(&ground->relay));
	assert_true(relay_owes(&ground->relay, SIDE_SERVER));
	assert_false(relay_owes(&ground->relay, SIDE_CLIENT));
	assert_true(ground->engine.buffers.slab.in_use <= 2); /* one may be held, one is scratch */
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
}

static void test_without_buffers_it_still_flows(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_true(counter_get(&ground->exhausted) > 0);
	assert_null(ground->engine.buffers.scratch);
}

static size_t written_back, seen_back; /* the other direction of a test with two */

static bool both_ways(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	struct ground back = { .written = written_back, .seen = seen_back, .total = ground->total };
	(void)ground_feed(&back, ground->server);
	(void)ground_drain(&back, ground->client, SIZE_MAX);
	written_back = back.written;
	seen_back = back.seen;
	return ground->seen == ground->total && back.seen == back.total;
}

static void test_both_ways_at_once(void **state)
{
	struct ground *ground = *state;
	written_back = seen_back = 0;
	ground_stream(ground, TOTAL);
	ground_run(ground, both_ways);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(ground->bytes[SIDE_SERVER], TOTAL);
}

static bool server_reads(struct ground *ground)
{
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->seen == ground->total;
}

/* What came while the other side took nothing is not forgotten, though nothing comes after it to tell of it. */
static void test_what_waits_behind_a_full_socket_is_moved(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_is_held_back);
	ground->total = ground->written; /* the client falls silent */
	assert_true(ground->total > ground->bytes[SIDE_CLIENT]);
	ground_run(ground, server_reads);
	assert_int_equal(ground->bytes[SIDE_CLIENT], ground->total);
}

/* Without its budget a relay would move all that the kernel goes on bringing, megabytes, before any other one has its turn. */
static void test_a_turn_has_a_budget(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_true(ground->most_in_a_turn[SIDE_CLIENT] > RELAY_TURN_BYTES / 2);
	assert_true(ground->most_in_a_turn[SIDE_CLIENT] <= 2 * RELAY_TURN_BYTES); /* room and input may come in one turn */
}

/* --- where a read stops short though there is more --------------------------------------------------------------------------- */

static void write_stream(struct ground *ground, int fd, size_t count, int flags)
{
	static char block[8192];
	assert_true(count <= sizeof block);
	for (size_t i = 0; i < count; i++)
		block[i] = (char)((ground->written + i) % 251);
	assert_int_equal(send(fd, block, count, flags | MSG_NOSIGNAL), count);
	ground->written += count;
}

/* The urgent byte itself is not passed on; all around it is. The second time the relay knows of such bytes already. */
static void test_an_urgent_byte_stops_nothing(void **state)
{
	struct ground *ground = *state;
	for (int i = 0; i < 2; i++) {
		ground_stream(ground, 2000);
		write_stream(ground, ground->client, 1000, 0);
		assert_int_equal(send(ground->client, "!", 1, MSG_OOB), 1);
		write_stream(ground, ground->client, 1000, 0);
		ground_run(ground, server_reads);
	}
}

static void test_an_urgent_byte_before_the_end(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 2000);
	write_stream(ground, ground->client, 1000, 0);
	assert_int_equal(send(ground->client, "!", 1, MSG_OOB), 1);
	write_stream(ground, ground->client, 1000, 0);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, 2000);
}

/* One segment has both the last bytes and the FIN: there is no second event for the end. */
static void test_a_fin_that_comes_with_the_last_bytes(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 1000);
	write_stream(ground, ground->client, 1000, MSG_MORE);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, 1000);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

/* --- ends -------------------------------------------------------------------------------------------------------------------- */

static void test_half_close_by_the_client(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	assert_false(ground->done);
	ground_run(ground, step_server_to_client);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_client_saw_the_end);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

static void test_half_close_by_the_server(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_client_saw_the_end);
	assert_false(ground->done);
	ground_run(ground, step_client_to_server_slowly);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

static void test_a_reset_is_told_and_by_whom(void **state)
{
	struct ground *ground = *state;
	ground_reset(&ground->client);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_CLIENT);
}

/* The server sends and resets; what arrived before the RST is owed to a client that reads late. */
static bool server_sent_all(struct ground *ground)
{
	return ground_feed(ground, ground->server) && ground->bytes[SIDE_SERVER] == ground->total;
}

static bool client_sent_all(struct ground *ground)
{
	return ground_feed(ground, ground->client) && ground->bytes[SIDE_CLIENT] == ground->total;
}

static bool client_read_all_and_it_is_over(struct ground *ground)
{
	if (ground->seen < ground->total)
		(void)ground_drain(ground, ground->client, SIZE_MAX);
	return ground->done && ground->seen == ground->total;
}

static void test_what_is_owed_comes_before_the_reset(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 100000);
	ground_run(ground, server_sent_all);
	ground_reset(&ground->server);
	ground_run(ground, client_read_all_and_it_is_over);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_SERVER);
}

/* A send fails before the read tells of the reset: the kernel then reports an end of input, which must not pass for a FIN. */
static bool client_writes_until_it_is_over(struct ground *ground)
{
	(void)send(ground->client, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return ground->done;
}

static void test_a_reset_seen_by_a_send_is_no_fin(void **state)
{
	struct ground *ground = *state;
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_client_saw_the_end);
	close(ground->server); /* what the client sends now is answered by a RST */
	ground->server = -1;
	ground_run(ground, client_writes_until_it_is_over);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_SERVER);
}

/* The side that took nothing is gone: what it was owed is dropped, and the other one is told. */
static void test_a_reset_of_a_side_that_is_owed_bytes(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_is_held_back);
	assert_true(relay_holds(&ground->relay));
	ground_reset(&ground->server);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_SERVER);
}

/* --- before the start -------------------------------------------------------------------------------------------------------- */

static void owe_stream(struct ground *ground, enum side to, size_t count)
{
	char *buffer = buffers_take(&ground->engine.buffers);
	assert_non_null(buffer);
	for (size_t i = 0; i < count; i++)
		buffer[i] = (char)((ground->written + i) % 251);
	relay_owe(&ground->relay, &ground->engine, to, buffer, (uint32_t)count);
	ground->written += count;
}

static void test_what_was_owed_comes_first(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 3000);
	owe_stream(ground, SIDE_SERVER, 1000);
	write_stream(ground, ground->client, 2000, 0);
	ground_start(ground);
	ground_run(ground, server_reads);
	assert_int_equal(ground->bytes[SIDE_CLIENT], 2000);
	assert_false(relay_holds(&ground->relay));
}

/* More than the socket takes at once. */
static void test_much_is_owed_to_a_full_socket(void **state)
{
	struct ground *ground = *state;
	char filler[4096] = { 0 };
	size_t filled = 0;
	ssize_t count;
	while ((count = send(ground->server_conn->fd, filler, sizeof filler, MSG_DONTWAIT)) > 0)
		filled += (size_t)count;
	ground_stream(ground, RELAY_BUFFER_BYTES + 100);
	owe_stream(ground, SIDE_SERVER, RELAY_BUFFER_BYTES);
	write_stream(ground, ground->client, 100, 0);
	ground_start(ground);
	assert_true(relay_owes(&ground->relay, SIDE_SERVER));
	while (filled > 0) {
		count = recv(ground->server, filler, filled < sizeof filler ? filled : sizeof filler, 0);
		assert_true(count > 0);
		filled -= (size_t)count;
	}
	ground_run(ground, server_reads);
}

/* Both had already ended when the relay began. */
static void test_all_over_before_the_start(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 1000);
	write_stream(ground, ground->client, 1000, 0);
	shutdown(ground->client, SHUT_WR);
	shutdown(ground->server, SHUT_WR);
	ground_start(ground);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
	assert_int_equal(ground_drain(ground, ground->server, SIZE_MAX), 0);
	assert_int_equal(ground->seen, 1000);
}

/* --- the server's options ---------------------------------------------------------------------------------------------------- */

static void test_options_are_due_at_the_second_write(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 100);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->options_calls, 0);
	ground_stream(ground, 100);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->options_calls, 1);
	ground_stream(ground, 100);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->options_calls, 1);
}

static void test_options_are_due_at_a_long_first_write(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 2000);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->options_calls, 1);
}

static void test_what_goes_to_the_client_needs_no_options(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 100000);
	ground_run(ground, step_server_to_client);
	assert_int_equal(ground->options_calls, 0);
}

/* --- a session that looks on ------------------------------------------------------------------------------------------------- */

static void test_the_session_sees_all_bytes(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->looked[SIDE_CLIENT], TOTAL);
	ground_stream(ground, 1000);
	ground_run(ground, step_server_to_client);
	assert_int_equal(ground->looked[SIDE_SERVER], 1000);
}

static void test_the_session_ends_while_it_looks(void **state)
{
	struct ground *ground = *state;
	ground->stop_looking_at = 5000;
	ground_stream(ground, 10000);
	(void)ground_feed(ground, ground->client);
	ground_run(ground, step_is_done);
	assert_true(ground->bytes[SIDE_CLIENT] < 10000);
}

static bool was_asked_about_the_end(struct ground *ground)
{
	return ground->ending_calls > 0;
}

/* The client ends; the session keeps the end back, until something comes from the server. */
static void test_an_end_that_waits(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 1000);
	ground_run(ground, step_client_to_server);
	ground->ending = ENDING_WAIT;
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, was_asked_about_the_end);
	assert_false(ground->relay.side[SIDE_SERVER].fin_sent);
	ground->ending = ENDING_PASS;
	ground_stream(ground, 1000);
	ground_run(ground, step_server_to_client);
	ground_run(ground, step_server_saw_the_end);
	assert_true(ground->relay.side[SIDE_SERVER].fin_sent);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

static void test_an_end_that_waits_is_asked_for_at_a_tick(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 0);
	ground->ending = ENDING_WAIT;
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, was_asked_about_the_end);
	unsigned calls = ground->ending_calls;
	relay_tick(&ground->relay, loop_now_ns(ground->loop));
	assert_int_equal(ground->ending_calls, calls + 1);
	assert_false(ground->relay.side[SIDE_SERVER].fin_sent);
	ground->ending = ENDING_PASS;
	relay_tick(&ground->relay, loop_now_ns(ground->loop));
	ground_run(ground, step_server_saw_the_end);
}

static void test_an_end_that_is_the_sessions(void **state)
{
	struct ground *ground = *state;
	ground->ending = ENDING_OVER;
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->ending_calls, 1);
}

/* --- between the engines ----------------------------------------------------------------------------------------------------- */

static bool has_crossed(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	return !ground->client_conn->by_completion;
}

/* A reader that takes nothing holds no buffer of the ring, which are for all; and the relay comes back when messages are small again. */
static void test_a_stalled_relay_leaves_the_ring(void **state)
{
	struct ground *ground = *state;
	unsigned all = ring_buffers_free(ground->ring);
	ground_stream(ground, TOTAL);
	ground_run(ground, has_crossed);
	assert_int_equal(ring_buffers_free(ground->ring), all);
	ground_run(ground, step_client_is_held_back);
	assert_true(relay_owes(&ground->relay, SIDE_SERVER));
	assert_int_equal(ring_buffers_free(ground->ring), all);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	int messages = 0;
	for (; !ground->client_conn->by_completion && messages < 1000; messages++) {
		ground_stream(ground, 100);
		ground_run(ground, messages % 2 ? step_client_to_server : step_server_to_client);
	}
	assert_true(messages > 32 && messages < 200);
	assert_true(ground->server_conn->by_completion);
	for (int i = 0; i < 10; i++) {
		ground_stream(ground, 1000);
		ground_run(ground, i % 2 ? step_client_to_server : step_server_to_client);
	}
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_false(ground->client_conn->by_completion);
	assert_false(relay_holds(&ground->relay));
}

/* What the ring brought before it stopped is more than one buffer of ours holds, and the socket takes little of it. */
static void test_much_goes_over(void **state)
{
	struct ground *ground = *state;
	struct relay_side *server = &ground->relay.side[SIDE_SERVER];
	ground_stream(ground, TOTAL);
	(void)ground_feed(ground, ground->client);
	ground_start(ground);
	ground_run(ground, has_crossed);
	assert_true(server->owed > RELAY_BUFFER_BYTES);
	assert_non_null(buffers_rest(&ground->engine.buffers, server->held)->next);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
}

/* The worker has neither buffers nor, beyond those for what the ring may hold, pieces. The other direction goes on, and so does this one.
 */
static void test_a_stalled_relay_with_nothing_left(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_is_held_back);
	assert_false(ground->client_conn->by_completion);
	assert_false(relay_engine_ring_is_open(&ground->engine));
	size_t written = ground->written, seen = ground->seen;
	ground_stream(ground, 1000 * 1000);
	ground_run(ground, step_server_to_client);
	ground_stream(ground, TOTAL);
	ground->written = written;
	ground->seen = seen;
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_true(relay_engine_ring_is_open(&ground->engine));
}

/* Others have the pieces: who can receive no more by the ring goes over with nothing in hand, and comes back later. */
static void test_the_ring_is_closed(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 1000);
	ground_run(ground, step_client_to_server);
	assert_true(ground->client_conn->by_completion);
	char *piece = buffers_take_piece(&ground->engine.buffers, "x", 1);
	int messages = 0;
	for (; ground->client_conn->by_completion && messages < 1000; messages++) {
		ground_stream(ground, 100);
		ground_run(ground, messages % 2 ? step_client_to_server : step_server_to_client);
	}
	assert_in_range(messages, 1, 200);
	assert_true(counter_get(&ground->exhausted) > 0);
	for (int i = 0; i < 200; i++) {
		ground_stream(ground, 100);
		ground_run(ground, i % 2 ? step_client_to_server : step_server_to_client);
	}
	assert_false(ground->client_conn->by_completion);
	buffers_give_back(&ground->engine.buffers, piece);
	for (int i = 0; i < 200; i++) {
		ground_stream(ground, 100);
		ground_run(ground, i % 2 ? step_client_to_server : step_server_to_client);
	}
	assert_true(ground->client_conn->by_completion);
}

static void on_hoarded(struct conn *conn, unsigned events)
{
	(void)conn;
	(void)events;
}

/* One more connection whose owner keeps all that comes. */
static struct conn *hoard(struct ground *ground, int *peer)
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*peer = fds[0];
	struct conn *conn = conn_adopt(&ground->conns, fds[1], true);
	assert_non_null(conn);
	conn_use_completion(conn);
	conn_hand_over(conn, on_hoarded, NULL);
	conn_receive(conn);
	return conn;
}

static int hoarder = -1; /* the peer's end of the last one */

static bool nothing_moves(struct ground *ground)
{
	static char block[64 * 1024];
	(void)ground;
	return send(hoarder, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN;
}

static bool client_waits_for_a_buffer(struct ground *ground)
{
	return ground_feed(ground, ground->client) && ground->client_conn->starved;
}

enum { HOARDERS = 5 };
struct hoarders {
	struct conn *conns[HOARDERS];
	int peers[HOARDERS], n;
};

/* All buffers are with others, but the ring is open: the client waits for one. */
static void hoard_all(struct ground *ground, struct hoarders *hoarders)
{
	hoarders->n = 0;
	ground_stream(ground, 1000);
	ground_run(ground, step_client_to_server);
	while (ring_buffers_free(ground->ring) > 0 && hoarders->n < HOARDERS) {
		hoarders->conns[hoarders->n] = hoard(ground, &hoarders->peers[hoarders->n]);
		hoarder = hoarders->peers[hoarders->n++];
		ground_run(ground, nothing_moves);
	}
	assert_int_equal(ring_buffers_free(ground->ring), 0);
	ground_stream(ground, 100);
	ground_run(ground, client_waits_for_a_buffer);
	assert_true(ground->client_conn->by_completion);
}

static void end_hoarding(struct hoarders *hoarders)
{
	while (hoarders->n-- > 0) {
		conn_close(hoarders->conns[hoarders->n], true);
		close(hoarders->peers[hoarders->n]);
	}
}

/* Who waits for a buffer stays, until readers stand still and the ring is closed. */
static void test_the_ring_closes_on_one_that_waits(void **state)
{
	struct ground *ground = *state;
	struct hoarders hoarders;
	hoard_all(ground, &hoarders);
	char *piece = buffers_take_piece(&ground->engine.buffers, "x", 1);
	ground_run(ground, step_client_to_server);
	assert_false(ground->client_conn->by_completion);
	assert_true(counter_get(&ground->exhausted) > 0);
	buffers_give_back(&ground->engine.buffers, piece);
	end_hoarding(&hoarders);
}

/* Nor does it wait for ever for those who have the buffers. */
static void test_one_that_waits_for_long(void **state)
{
	struct ground *ground = *state;
	struct hoarders hoarders;
	hoard_all(ground, &hoarders);
	ground_run(ground, step_client_to_server);
	assert_false(ground->client_conn->by_completion);
	assert_true(relay_engine_ring_is_open(&ground->engine));
	end_hoarding(&hoarders);
}

static const struct conn *first_told;

static bool first_waits(struct ground *ground)
{
	(void)ground;
	return first_told->starved;
}

static void give_all_back(struct conn *conn, unsigned events)
{
	struct ground *ground = conn->owner;
	(void)events;
	buffers_give_back_list(&ground->engine.buffers, &ground->piece);
}

/* The first that is told makes way for all: the ring is open again before the second hears of it. */
static void test_the_ring_opens_while_they_are_told(void **state)
{
	struct ground *ground = *state;
	struct hoarders hoarders;
	int peer;
	hoard_all(ground, &hoarders);
	struct conn *first = hoard(ground, &peer);
	conn_hand_over(first, give_all_back, ground);
	first_told = first;
	ground_run(ground, first_waits);
	ground->piece = buffers_take_piece(&ground->engine.buffers, "x", 1);
	ground_run(ground, step_client_to_server);
	assert_null(ground->piece);
	assert_false(ground->client_conn->by_completion);
	conn_close(first, true);
	close(peer);
	end_hoarding(&hoarders);
}

static bool client_has_all(struct ground *ground)
{
	int unread = 0;
	return ground_feed(ground, ground->server) && ioctl(ground->client, FIONREAD, &unread) == 0 && (size_t)unread == ground->total;
}

static bool server_is_heard_no_more(struct ground *ground)
{
	return ground->relay.aborting && !conn_busy(ground->server_conn);
}

/* The client resets, and the server, which has not taken all yet, says some more: that is for nobody, and is not kept for as long as it
 * takes. */
static void test_a_reset_that_waits_keeps_no_buffers(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 1000);
	ground_run(ground, client_sent_all);
	ground_stream(ground, 10);
	ground_run(ground, client_has_all);
	close(ground->client); /* it has not read all */
	ground->client = -1;
	assert_int_equal(send(ground->server, "more", 4, MSG_NOSIGNAL), 4);
	ground_run(ground, server_is_heard_no_more);
	assert_int_equal(ring_buffers_free(ground->ring), ring_buffers(ground->ring));
}

/* A session that could not keep what it sees is shown nothing that it may have to keep, though there is one buffer to read into. */
static void test_a_look_without_a_buffer_to_keep_it(void **state)
{
	struct ground *ground = *state;
	char *taken = NULL, *buffer;
	while ((buffer = buffers_take(&ground->engine.buffers)) != NULL) {
		buffers_rest(&ground->engine.buffers, buffer)->next = taken;
		taken = buffer;
	}
	assert_non_null(ground->engine.buffers.scratch);
	ground_start(ground);
	ground_stream(ground, 100);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->looked[SIDE_CLIENT], 100);
	assert_true(counter_get(&ground->exhausted) > 0);
	assert_false(ground->client_conn->by_completion);
	buffers_give_back_list(&ground->engine.buffers, &taken);
}

static bool room_is_made(struct ground *ground)
{
	(void)ground_drain(ground, ground->server, 4096);
	return !ground->client_conn->by_completion;
}

/* Ends and resets that come while a relay waits for the last of what is under way. */
static void test_ends_while_leaving(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, 100 * 1000);
	(void)ground_feed(ground, ground->client);
	assert_int_equal(ground->written, ground->total);
	shutdown(ground->client, SHUT_WR);
	ground_start(ground);
	ground_run(ground, room_is_made);
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, ground->total);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

static bool is_leaving(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	return ground->relay.leaving || !ground->client_conn->by_completion;
}

static void test_resets_while_leaving(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	(void)ground_feed(ground, ground->client);
	ground_start(ground);
	ground_run(ground, is_leaving);
	ground_reset(&ground->server);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
}

/* --- all of them ------------------------------------------------------------------------------------------------------------- */

#define TEST(function, shape) cmocka_unit_test_prestate_setup_teardown(function, ground_set_up, ground_tear_down, (void *)&(shape))

/* Those that only readiness has: buffers of our own, sockets that take no more, turns. */
static int run_by_readiness(void)
{
	static const struct shape plain = { 0 }, starved = { .starved = true }, small = { .small = SMALL_BUFFER },
	                          small_later = { .small = SMALL_BUFFER, .later = true },
	                          framed_starved = { .framed = true, .starved = true };
	const struct CMUnitTest tests[] = {
		TEST(test_without_buffers_it_still_flows, starved),
		TEST(test_half_close_by_the_client, starved),
		TEST(test_half_close_by_the_server, starved),
		TEST(test_the_session_sees_all_bytes, framed_starved),
		TEST(test_much_is_owed_to_a_full_socket, small_later),
		TEST(test_a_turn_has_a_budget, plain),
		TEST(test_a_reset_of_a_side_that_is_owed_bytes, small),
	};
	return cmocka_run_group_tests_name("readiness", tests, NULL, NULL);
}

static int run_all(const char *engine, bool ring)
{
	const struct shape plain = { .ring = ring }, small = { .ring = ring, .small = SMALL_BUFFER },
	                   local = { .ring = ring, .local = true }, later = { .ring = ring, .later = true },
	                   options = { .ring = ring, .options = true }, framed = { .ring = ring, .framed = true },
	                   framed_later = { .ring = ring, .framed = true, .later = true };
	const struct CMUnitTest tests[] = {
		TEST(test_a_slow_reader_gets_every_byte, plain),
		TEST(test_a_slow_reader_gets_every_byte, small),
		TEST(test_a_slow_reader_gets_every_byte, local),
		TEST(test_an_unread_stream_is_held_back, small),
		TEST(test_both_ways_at_once, plain),
		TEST(test_both_ways_at_once, local),
		TEST(test_what_waits_behind_a_full_socket_is_moved, small),
		TEST(test_what_waits_behind_a_full_socket_is_moved, local),
		TEST(test_an_urgent_byte_stops_nothing, plain),
		TEST(test_an_urgent_byte_before_the_end, plain),
		TEST(test_a_fin_that_comes_with_the_last_bytes, plain),
		TEST(test_half_close_by_the_client, plain),
		TEST(test_half_close_by_the_client, local),
		TEST(test_half_close_by_the_server, plain),
		TEST(test_half_close_by_the_server, local),
		TEST(test_a_reset_is_told_and_by_whom, plain),
		TEST(test_what_is_owed_comes_before_the_reset, plain),
		TEST(test_a_reset_seen_by_a_send_is_no_fin, plain),
		TEST(test_what_was_owed_comes_first, later),
		TEST(test_all_over_before_the_start, later),
		TEST(test_options_are_due_at_the_second_write, options),
		TEST(test_options_are_due_at_a_long_first_write, options),
		TEST(test_what_goes_to_the_client_needs_no_options, options),
		TEST(test_the_session_sees_all_bytes, framed),
		TEST(test_the_session_ends_while_it_looks, framed),
		TEST(test_an_end_that_waits, framed),
		TEST(test_an_end_that_waits_is_asked_for_at_a_tick, framed),
		TEST(test_an_end_that_is_the_sessions, framed),
		TEST(test_a_look_without_a_buffer_to_keep_it, framed_later),
	};
	return cmocka_run_group_tests_name(engine, tests, NULL, NULL);
}

static int run_between(void)
{
	static const struct shape small = { .ring = true, .small = SMALL_BUFFER, .pipes = 2 },
	                          later = { .ring = true, .small = SMALL_BUFFER, .later = true },
	                          later_tiny = { .ring = true, .small = 4096, .later = true },
	                          starved = { .ring = true, .small = 4096, .starved = true },
	                          nothing_left = { .ring = true, .small = 4096, .starved = true, .pieces = 1 },
	                          one_each = { .ring = true, .pieces = 1 },
	                          framed = { .ring = true, .small = SMALL_BUFFER, .framed = true }, local = { .ring = true, .local = true };
	const struct CMUnitTest tests[] = {
		TEST(test_a_stalled_relay_leaves_the_ring, small),
		TEST(test_a_stalled_relay_leaves_the_ring, framed),
		TEST(test_much_goes_over, later_tiny),
		TEST(test_a_stalled_relay_with_nothing_left, nothing_left),
		TEST(test_the_ring_is_closed, one_each),
		TEST(test_the_ring_closes_on_one_that_waits, one_each),
		TEST(test_one_that_waits_for_long, one_each),
		TEST(test_the_ring_opens_while_they_are_told, one_each),
		TEST(test_a_reset_that_waits_keeps_no_buffers, local),
		TEST(test_a_slow_reader_gets_every_byte, starved),
		TEST(test_ends_while_leaving, later_tiny),
		TEST(test_resets_while_leaving, later),
		TEST(test_much_is_owed_to_a_full_socket, later),
		TEST(test_a_reset_of_a_side_that_is_owed_bytes, small),
	};
	return cmocka_run_group_tests_name("between the engines", tests, NULL, NULL);
}

int main(void)
{
	char why[160];
	int failed = run_all("epoll", false) + run_by_readiness();
	if (ring_probe(why, sizeof why))
		failed += run_all("io_uring", true) + run_between();
	else
		print_message("io_uring left out: %s\n", why);
	return failed;
}
