/* Bulk through pipes (the engine on epoll): when it begins and ends, and that nothing is lost, stuck or overtaken in a pipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ground.h"
#include "prompt.h"

/* Whether a read is a full one, as those of bulk are, is not left to the kernel's opinion of how much may wait. */
enum { TOTAL = 24 * 1024 * 1024, SMALL_BUFFER = 65536, AMPLE = 1024 * 1024, SEGMENT = 536 };

static size_t spliced(const struct ground *ground)
{
	return (size_t)counter_get(&ground->spliced);
}

static struct relay_side *to_server(struct ground *ground)
{
	return &ground->relay.side[SIDE_SERVER];
}

static bool server_reads(struct ground *ground)
{
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->seen == ground->total;
}

/* --- when --------------------------------------------------------------------------------------------------------------------- */

static void test_bulk_is_spliced(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_true(spliced(ground) > TOTAL / 2);
	assert_true(spliced(ground) <= TOTAL - 256 * 1024); /* it has to be bulk first */
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(ground_taken_pipes(ground), 0); /* a connection that has gone quiet holds none */
	assert_int_equal(ground_open_pipes(ground), 1);
	assert_true(ground->most_in_a_turn[SIDE_CLIENT] <= 2 * RELAY_TURN_BYTES);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

static void test_a_client_is_spliced_to_as_well(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_server_to_client);
	assert_true(spliced(ground) > TOTAL / 2);
	assert_int_equal(ground->bytes[SIDE_SERVER], TOTAL);
}

static void send_messages(struct ground *ground, unsigned count, size_t size)
{
	for (unsigned i = 0; i < count; i++) {
		ground_stream(ground, size);
		ground_run(ground, step_client_to_server);
	}
}

static void test_messages_are_not_spliced(void **state)
{
	struct ground *ground = *state;
	send_messages(ground, 500, 1000);
	send_messages(ground, 100, 60000);
	assert_int_equal(spliced(ground), 0);
	assert_int_equal(ground_open_pipes(ground), 0);
}

static void test_bulk_then_messages_then_bulk(void **state)
{
	struct ground *ground = *state;
	for (int round = 0; round < 3; round++) {
		size_t before = spliced(ground);
		ground_stream(ground, TOTAL / 2);
		ground_run(ground, step_client_to_server);
		assert_true(spliced(ground) > before + TOTAL / 4);
		send_messages(ground, 10, 100);
		before = spliced(ground);
		send_messages(ground, 20, 100);
		assert_int_equal(spliced(ground), before);
		assert_int_equal(to_server(ground)->bulk, 0);
	}
}

static void test_framed_relays_are_not_spliced(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_int_equal(spliced(ground), 0);
	assert_int_equal(ground->looked[SIDE_CLIENT], TOTAL);
}

static void test_unix_sockets_are_not_spliced(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_int_equal(spliced(ground), 0);
}

/* --- a reader that takes little ----------------------------------------------------------------------------------------------- */

static bool bytes_lie_in_a_pipe(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	if (to_server(ground)->pipe)
		return true;
	(void)ground_drain(ground, ground->server, 20000);
	return false;
}

static int bytes_in(const struct pipe *pipe)
{
	int count = -1;
	assert_int_equal(ioctl(pipe->out, FIONREAD, &count), 0);
	return count;
}

/* The stream is on, and the server has not taken all that is in the pipe. */
static void fill_the_pipe(struct ground *ground)
{
	ground_stream(ground, TOTAL);
	ground_run(ground, bytes_lie_in_a_pipe);
	assert_int_equal(ground_taken_pipes(ground), 1);
	assert_int_equal(to_server(ground)->owed, bytes_in(to_server(ground)->pipe));
	assert_true(to_server(ground)->owed > 0);
	assert_true(to_server(ground)->blocked);
	assert_null(to_server(ground)->held);
	assert_true(relay_owes(&ground->relay, SIDE_SERVER));
	assert_true(relay_holds(&ground->relay));
}

static void test_a_slow_reader_gets_every_byte(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(ground_taken_pipes(ground), 0);
	assert_false(relay_holds(&ground->relay));
}

static void test_what_waits_behind_a_full_pipe_is_moved(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	ground_run(ground, step_client_is_held_back);
	ground->total = ground->written; /* the client falls silent */
	ground_run(ground, server_reads);
	assert_int_equal(ground->bytes[SIDE_CLIENT], ground->total);
}

/* Each slot of a pipe takes but one small segment, so that it is full long before it holds many bytes: what does not fit must follow. */
static bool feed_segments(struct ground *ground)
{
	char block[SEGMENT];
	while (ground->written < ground->total) {
		size_t left = ground->total - ground->written, count = left < sizeof block ? left : sizeof block;
		for (size_t i = 0; i < count; i++)
			block[i] = (char)((ground->written + i) % 251);
		ssize_t sent = send(ground->client, block, count, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		ground->written += (size_t)sent;
	}
	return true;
}

static bool segments_by_turns(struct ground *ground)
{
	static unsigned turn;
	(void)feed_segments(ground);
	if (++turn % 16 == 0)
		(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->seen == ground->total;
}

static void shrink_the_pipe(struct ground *ground)
{
	assert_int_equal(ground_open_pipes(ground), 1);
	assert_true(fcntl(ground->pipes.idle->in, F_SETPIPE_SZ, 4096) == 4096);
}

static void test_small_segments_fill_the_slots(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	shrink_the_pipe(ground); /* a single slot, where the relay believes that there are many */
	size_t before = spliced(ground);
	ground_stream(ground, TOTAL / 4);
	ground_run(ground, segments_by_turns);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL + TOTAL / 4);
	assert_true(spliced(ground) > before);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
}

static size_t written_back, seen_back;

static size_t server_reads_most; /* in a step */

static bool both_ways(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	(void)ground_drain(ground, ground->server, server_reads_most);
	struct ground back = { .written = written_back, .seen = seen_back, .total = ground->total };
	(void)ground_feed(&back, ground->server);
	(void)ground_drain(&back, ground->client, 300000);
	written_back = back.written;
	seen_back = back.seen;
	return ground->seen == ground->total && back.seen == back.total;
}

static void test_both_ways_at_once(void **state)
{
	struct ground *ground = *state;
	written_back = seen_back = 0;
	server_reads_most = 300000;
	ground_stream(ground, TOTAL);
	ground_run(ground, both_ways);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(ground->bytes[SIDE_SERVER], TOTAL);
	assert_true(spliced(ground) > TOTAL);
	assert_int_equal(ground_taken_pipes(ground), 0);
}

/* --- ends --------------------------------------------------------------------------------------------------------------------- */

static bool server_reads_little_to_the_end(struct ground *ground)
{
	return ground_drain(ground, ground->server, 9000) == 0;
}

static void test_a_fin_does_not_overtake_the_pipe(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	ground->total = ground->written;
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, server_reads_little_to_the_end);
	assert_int_equal(ground->seen, ground->total);
	assert_int_equal(ground->bytes[SIDE_CLIENT], ground->total);
	assert_int_equal(ground_taken_pipes(ground), 0);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

/* Read to the end, whatever it is like. */
static bool server_reads_until_it_is_over(struct ground *ground)
{
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->done;
}

static void test_what_is_in_the_pipe_comes_before_a_reset(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	ground_reset(&ground->client);
	ground_run(ground, server_reads_until_it_is_over);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_CLIENT);
	assert_int_equal(ground->seen, ground->bytes[SIDE_CLIENT]);
	assert_int_equal(ground_taken_pipes(ground), 0);
}

/* The reset is met by splice() itself: the error is told once, and is no end of input. */
static void test_a_reset_while_splicing(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_true(to_server(ground)->bulk > 0);
	ground_reset(&ground->client);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_CLIENT);
}

static void test_the_side_that_is_owed_resets(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	ground_reset(&ground->server);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_SERVER);
	assert_int_equal(ground_taken_pipes(ground), 0);
	for (const struct pipe *pipe = ground->pipes.idle; pipe; pipe = pipe->next)
		assert_int_equal(bytes_in(pipe), 0);
}

static void test_the_session_stops_with_bytes_in_the_pipe(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	relay_stop(&ground->relay);
	assert_int_equal(ground_taken_pipes(ground), 0);
	assert_int_equal(ground_open_pipes(ground), 0); /* what is not empty is not kept */
}

/* --- urgent data, which splice() neither passes on nor tells from an end ------------------------------------------------------ */

static void send_exactly(struct ground *ground, size_t count)
{
	char block[4096];
	assert_true(count <= sizeof block);
	for (size_t i = 0; i < count; i++)
		block[i] = (char)((ground->written + i) % 251);
	assert_int_equal(send(ground->client, block, count, MSG_NOSIGNAL), count);
	ground->written += count;
}

static void send_around_an_urgent_byte(struct ground *ground)
{
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_true(to_server(ground)->bulk > 0);
	ground_stream(ground, 2000);
	send_exactly(ground, 1000);
	assert_int_equal(send(ground->client, "!", 1, MSG_OOB), 1);
	send_exactly(ground, 1000);
}

static void test_an_urgent_byte_while_splicing(void **state)
{
	struct ground *ground = *state;
	send_around_an_urgent_byte(ground);
	ground_run(ground, server_reads);
	size_t before = spliced(ground);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	assert_int_equal(spliced(ground), before);
}

static void test_an_urgent_byte_before_the_end(void **state)
{
	struct ground *ground = *state;
	send_around_an_urgent_byte(ground);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, 2000);
}

/* The urgent byte and the end come within a turn: splice() meets them before any event tells of them. */
static void send_the_rest_around_an_urgent_byte(struct ground *ground)
{
	assert_int_equal(send(ground->client, "!", 1, MSG_OOB), 1);
	send_exactly(ground, 1000);
	shutdown(ground->client, SHUT_WR);
}

static void test_an_urgent_byte_and_the_end_within_a_turn(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server);
	ground->pipes.idle->bytes = 16384; /* many pieces in a turn */
	ground_stream(ground, 20 * 4096 + 1000);
	for (int i = 0; i < 20; i++)
		send_exactly(ground, 4096);
	ground->in_a_turn = send_the_rest_around_an_urgent_byte;
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, ground->total);
}

/* --- where there are no pipes ------------------------------------------------------------------------------------------------- */

static void test_without_a_free_pipe_it_is_copied(void **state)
{
	struct ground *ground = *state;
	struct pipe *mine = pipes_take(&ground->pipes, 1);
	assert_non_null(mine);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(spliced(ground), 0);
	assert_true(counter_get(&ground->no_pipe) > 0);
	pipes_give_back(&ground->pipes, mine, true);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_true(spliced(ground) > 0);
}

/* The two directions have one pipe, and the one that is blocked holds it: the other one is copied meanwhile. */
static bool client_reads_all_first(struct ground *ground)
{
	server_reads_most = seen_back == ground->total ? SIZE_MAX : 0;
	return both_ways(ground);
}

static void test_two_directions_and_one_pipe(void **state)
{
	struct ground *ground = *state;
	fill_the_pipe(ground);
	written_back = seen_back = 0;
	ground_run(ground, client_reads_all_first);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(ground->bytes[SIDE_SERVER], TOTAL);
	assert_true(counter_get(&ground->no_pipe) > 0);
	assert_true(spliced(ground) < TOTAL);
	assert_int_equal(ground_open_pipes(ground), 1);
}

static void test_without_descriptors_it_is_copied(void **state)
{
	struct ground *ground = *state;
	struct rlimit limit, none;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(spliced(ground), 0);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_true(counter_get(&ground->no_pipe) > 0);
}

/* From here on this process may not splice. */
static void forbid_splice(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_splice, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_LEN(filter), .filter = filter };
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void test_where_a_filter_forbids_it_it_is_copied(void **state)
{
	struct ground *ground = *state;
	forbid_splice();
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_int_equal(spliced(ground), 0);
	assert_int_equal(ground_open_pipes(ground), 0);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_server_saw_the_end);
}

static int set_up(void **state)
{
	int error = ground_set_up(state);
	const struct ground *ground = *state;
	prompt_pair(ground->client, ground->client_conn->fd);
	prompt_pair(ground->server, ground->server_conn->fd);
	return error;
}

static int tear_down(void **state)
{
	prompt_forget();
	return ground_tear_down(state);
}

#define TEST(function, shape) cmocka_unit_test_prestate_setup_teardown(function, set_up, tear_down, (void *)&(shape))

int main(void)
{
	static const struct shape plain = { .pipes = 4, .ample = AMPLE }, one = { .pipes = 1, .ample = AMPLE },
	                          small = { .pipes = 4, .small = SMALL_BUFFER, .ample = AMPLE },
	                          framed = { .pipes = 4, .framed = true, .ample = AMPLE }, local = { .pipes = 4, .local = true },
	                          segments = { .pipes = 1, .segment = SEGMENT, .ample = AMPLE };
	const struct CMUnitTest tests[] = {
		TEST(test_bulk_is_spliced, plain), TEST(test_a_client_is_spliced_to_as_well, plain),
		TEST(test_messages_are_not_spliced, plain), TEST(test_bulk_then_messages_then_bulk, plain),
		TEST(test_framed_relays_are_not_spliced, framed), TEST(test_unix_sockets_are_not_spliced, local),
		TEST(test_a_slow_reader_gets_every_byte, small), TEST(test_a_slow_reader_gets_every_byte, plain),
		TEST(test_what_waits_behind_a_full_pipe_is_moved, small), TEST(test_small_segments_fill_the_slots, segments),
		TEST(test_both_ways_at_once, plain), TEST(test_a_fin_does_not_overtake_the_pipe, small),
		TEST(test_what_is_in_the_pipe_comes_before_a_reset, small), TEST(test_a_reset_while_splicing, plain),
		TEST(test_the_side_that_is_owed_resets, small), TEST(test_the_session_stops_with_bytes_in_the_pipe, small),
		TEST(test_an_urgent_byte_while_splicing, plain), TEST(test_an_urgent_byte_before_the_end, plain),
		TEST(test_an_urgent_byte_and_the_end_within_a_turn, plain), TEST(test_without_a_free_pipe_it_is_copied, one),
		TEST(test_two_directions_and_one_pipe, one), TEST(test_without_descriptors_it_is_copied, plain),
		TEST(test_where_a_filter_forbids_it_it_is_copied, plain), /* the last one: there is no way back */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
