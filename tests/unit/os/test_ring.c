/* Streams through a ring, and how they end. */
#include "ring_end.h"

/* --- streams ------------------------------------------------------------------------------------------------------------------ */

static void test_echo(void **state)
{
	(void)state;
	int fds[2];
	open_pair(fds);
	struct end near = end_of(fds[0]), far = end_of(fds[1]);
	ring_recv(ring, &near.port, fds[0], true);
	ring_recv(ring, &far.port, fds[1], false);
	ring_send(ring, &near.port, fds[0], "question", 8);
	await_calls(&far, RING_RECV, 1);
	assert_memory_equal(far.bytes, "question", 8);
	ring_send(ring, &far.port, fds[1], far.bytes, far.length);
	await_calls(&near, RING_RECV, 1);
	assert_memory_equal(near.bytes, "question", 8);
	assert_int_equal(near.result[RING_SEND], 8);
	assert_true(near.ended[RING_SEND]);
	assert_int_equal(near.flags[RING_RECV], RING_MORE | RING_BUFFER);
	/* the receive goes on by itself */
	far.ended[RING_SEND] = false;
	ring_send(ring, &far.port, fds[1], "more", 4);
	await_calls(&near, RING_RECV, 2);
	assert_memory_equal(near.bytes + 8, "more", 4);
	/* the end of the stream ends it, and takes no buffer */
	ring_shutdown(ring, fds[1], SHUT_WR);
	await_end(&near, RING_RECV);
	assert_int_equal(near.result[RING_RECV], 0);
	assert_int_equal(ring_buffers_free(ring), 16);
	assert_false(far.ended[RING_RECV]);
	ring_cancel(ring, &far.port, RING_RECV);
	await_end(&far, RING_RECV);
	close(fds[0]);
	close(fds[1]);
}

static void test_send_waits_for_room(void **state)
{
	(void)state;
	enum { BYTES = 4 << 20 };
	static char out[BYTES], in[BYTES];
	int fds[2];
	open_tcp_pair(fds);
	for (size_t i = 0; i < BYTES; i++)
		out[i] = (char)(i * 7 + i / 251);
	struct end end = end_of(fds[0]);
	ring_send(ring, &end.port, fds[0], out, BYTES);
	wait_turn(0);
	assert_false(end.ended[RING_SEND]);
	for (size_t got = 0; got < BYTES;) {
		ssize_t count = recv(fds[1], in + got, BYTES - got, 0);
		assert_true(count > 0);
		got += (size_t)count;
		wait_turn(0);
	}
	await_end(&end, RING_SEND);
	assert_int_equal(end.result[RING_SEND], BYTES);
	assert_memory_equal(in, out, BYTES);
	close(fds[0]);
	close(fds[1]);
}

static void test_send_to_the_dead(void **state)
{
	(void)state;
	int fds[2];
	open_pair(fds);
	close(fds[1]);
	struct end end = end_of(fds[0]);
	ring_send(ring, &end.port, fds[0], "x", 1); /* SIGPIPE would end the test */
	await_end(&end, RING_SEND);
	assert_int_equal(end.result[RING_SEND], -EPIPE);
	close(fds[0]);
}

static void test_buffers_used_up(void **state)
{
	(void)state;
	tear_down(NULL);
	make_ring(64, 256, 4, 64);
	int fds[2];
	char out[4 * 64 + 10];
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (char)i;
	open_pair(fds);
	struct end end = end_of(fds[0]);
	end.keep = true;
	ring_recv(ring, &end.port, fds[0], false);
	assert_int_equal(send(fds[1], out, sizeof out, 0), sizeof out);
	await_end(&end, RING_RECV);
	assert_int_equal(end.result[RING_RECV], -ENOBUFS);
	assert_int_equal(end.flags[RING_RECV], 0);
	assert_int_equal(end.length, 4 * 64);
	assert_int_equal(ring_sums(ring)->no_buffers, 1);
	assert_int_equal(ring_buffers_free(ring), 0);
	ring_buffer_give_back(ring, end.kept[2]);
	assert_int_equal(ring_buffers_free(ring), 1);
	end.ended[RING_RECV] = false;
	ring_recv(ring, &end.port, fds[0], false);
	await_calls(&end, RING_RECV, 6);
	assert_int_equal(end.length, sizeof out);
	assert_memory_equal(end.bytes, out, sizeof out);
	assert_int_equal(end.kept[4], end.kept[2]);
	close(fds[0]);
	close(fds[1]);
}

/* Few buffers are posted at first: who finds none asks again and has one in the next turn, and next time there are enough. */
static void burst(struct end ends[], int fds[][2], int count)
{
	for (int i = 0; i < count; i++) {
		ends[i] = end_of(fds[i][0]);
		ends[i].again = true;
		assert_int_equal(send(fds[i][1], "x", 1, 0), 1);
		ring_recv(ring, &ends[i].port, fds[i][0], false);
	}
	for (int i = 0; i < count; i++)
		await_calls(&ends[i], RING_RECV, ends[i].calls[RING_RECV] + (ends[i].length == 0));
	for (int i = 0; i < count; i++) {
		assert_int_equal(ends[i].length, 1);
		ring_cancel(ring, &ends[i].port, RING_RECV);
	}
	for (int i = 0; i < count; i++)
		await_end(&ends[i], RING_RECV);
}

static void test_bursts(void **state)
{
	(void)state;
	enum { PAIRS = 200 };
	static struct end ends[PAIRS];
	static int fds[PAIRS][2];
	tear_down(NULL);
	make_ring(1024, 2048, 512, 256);
	for (int i = 0; i < PAIRS; i++)
		open_pair(fds[i]);
	burst(ends, fds, PAIRS);
	uint64_t no_buffers = ring_sums(ring)->no_buffers;
	assert_true(no_buffers > 0 && no_buffers < PAIRS);
	burst(ends, fds, PAIRS);
	assert_int_equal(ring_sums(ring)->no_buffers, no_buffers);
	assert_int_equal(ring_buffers_free(ring), 512);
	for (int i = 0; i < PAIRS; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

/* --- cancelling and closing --------------------------------------------------------------------------------------------------- */

static void test_cancel(void **state)
{
	(void)state;
	int fds[2];
	open_pair(fds);
	struct end end = end_of(fds[0]);
	ring_recv(ring, &end.port, fds[0], true);
	wait_turn(0);
	ring_cancel(ring, &end.port, RING_RECV);
	assert_int_equal(wait_turn(TURN_NS), 1); /* the cancel itself is not told */
	assert_true(end.ended[RING_RECV]);
	assert_int_equal(end.result[RING_RECV], -ECANCELED);
	ring_cancel(ring, &end.port, RING_RECV); /* nothing there */
	assert_int_equal(wait_turn(0), 0);
	assert_int_equal(wait_turn(0), 0);
	/* queued and cancelled in one turn */
	end.ended[RING_RECV] = false;
	ring_recv(ring, &end.port, fds[0], false);
	ring_cancel(ring, &end.port, RING_RECV);
	await_end(&end, RING_RECV);
	assert_int_equal(end.result[RING_RECV], -ECANCELED);
	close(fds[0]);
	close(fds[1]);
}

/* Cancel and close in one turn: one system call later the peer has its FIN, before anybody was told. */
static void test_cancel_then_close(void **state)
{
	(void)state;
	int fds[2];
	open_tcp_pair(fds);
	struct end end = end_of(fds[0]);
	ring_recv(ring, &end.port, fds[0], false);
	wait_turn(0);
	uint64_t before = ring_sums(ring)->enters;
	end.peer_fd = fds[1];
	ring_cancel(ring, &end.port, RING_RECV);
	ring_close(ring, fds[0]);
	wait_turn(TURN_NS);
	assert_true(end.ended[RING_RECV]);
	assert_int_equal(end.result[RING_RECV], -ECANCELED);
	assert_int_equal(end.peer, 0);
	assert_int_equal(ring_sums(ring)->enters, before + 1);
	close(fds[1]);
}

/* Why the cancel is needed. */
static void test_close_alone_sends_nothing(void **state)
{
	(void)state;
	int fds[2];
	open_tcp_pair(fds);
	struct end end = end_of(fds[0]);
	ring_recv(ring, &end.port, fds[0], false);
	wait_turn(0);
	ring_close(ring, fds[0]);
	wait_turn(0);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	assert_int_equal(peer_end(fds[1]), -EAGAIN);
	/* and the receive still works, on a descriptor that is no more */
	assert_int_equal(send(fds[1], "late", 4, 0), 4);
	await_calls(&end, RING_RECV, 1);
	assert_memory_equal(end.bytes, "late", 4);
	ring_cancel(ring, &end.port, RING_RECV);
	await_end(&end, RING_RECV);
	assert_int_equal(peer_end(fds[1]), 0);
	close(fds[1]);
}

/* With a send that waits for room: what has gone out arrives, whole, and the end behind it. */
static void test_cancel_both_then_close(void **state)
{
	(void)state;
	enum { BYTES = 16 << 20 };
	static char out[BYTES];
	int fds[2];
	open_tcp_pair(fds);
	struct end end = end_of(fds[0]);
	memset(out, 'x', sizeof out);
	ring_recv(ring, &end.port, fds[0], false);
	ring_send(ring, &end.port, fds[0], out, sizeof out);
	wait_turn(0);
	assert_false(end.ended[RING_SEND]);
	ring_cancel(ring, &end.port, RING_SEND);
	ring_cancel(ring, &end.port, RING_RECV);
	ring_close(ring, fds[0]);
	assert_int_equal(wait_turn(TURN_NS), 2);
	assert_true(end.ended[RING_SEND] && end.ended[RING_RECV]);
	assert_int_equal(end.result[RING_RECV], -ECANCELED);
	assert_true(end.result[RING_SEND] > 0 && end.result[RING_SEND] < BYTES);
	static char in[1 << 16];
	size_t got = 0;
	for (ssize_t count; (count = recv(fds[1], in, sizeof in, 0)) != 0; got += (size_t)count)
		assert_true(count > 0);
	assert_int_equal(got, end.result[RING_SEND]);
	close(fds[1]);
}

/* The bytes of a send go out before the end of a close that was queued behind it. */
static void test_order(void **state)
{
	(void)state;
	int fds[2];
	char in[8];
	open_tcp_pair(fds);
	struct end end = end_of(fds[0]);
	ring_send(ring, &end.port, fds[0], "last", 4);
	ring_close(ring, fds[0]);
	assert_int_equal(wait_turn(TURN_NS), 1);
	assert_int_equal(recv(fds[1], in, sizeof in, MSG_WAITALL), 4);
	assert_int_equal(peer_end(fds[1]), 0);
	close(fds[1]);
}

static void test_free_lets_go(void **state)
{
	(void)state;
	int before = count_descriptors();
	int fds[2];
	struct sockaddr_in name;
	open_tcp_pair(fds);
	int listener = listen_on_loopback(&name);
	struct end end = end_of(fds[0]);
	ring_recv(ring, &end.port, fds[0], false);
	ring_accept(ring, &end.port, listener);
	wait_turn(0);
	int client = connect_to(&name);
	close(fds[0]);
	close(listener);
	ring_free(ring);
	assert_int_equal(peer_end(fds[1]), 0);
	int result = peer_end(client);
	assert_true(result == 0 || result == -ECONNRESET);
	assert_int_equal(end.calls[RING_RECV] + end.calls[RING_ACCEPT], 0);
	close(fds[1]);
	close(client);
	set_up(NULL);
	assert_int_equal(count_descriptors(), before);
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RING(test_echo),
		WITH_RING(test_send_waits_for_room),
		WITH_RING(test_send_to_the_dead),
		WITH_RING(test_buffers_used_up),
		WITH_RING(test_bursts),
		WITH_RING(test_cancel),
		WITH_RING(test_cancel_then_close),
		WITH_RING(test_close_alone_sends_nothing),
		WITH_RING(test_cancel_both_then_close),
		WITH_RING(test_order),
		WITH_RING(test_free_lets_go),
	};
	if (!ring_can_be_made())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
