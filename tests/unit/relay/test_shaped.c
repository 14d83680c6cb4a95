/* Relays whose session says how much may be read: never more is, nothing is lost while a direction is paused, and ends come through. The
 * allowances are the test's own; there is no clock in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "ground.h"
#include "relay/mover.h"

enum { TOTAL = 1024 * 1024, PIECE = 100 * 1000, SMALL_BUFFER = 65536, BULK_TOTAL = 16 * 1024 * 1024, BULK_PIECES = 300 * 1000 };
enum { QUIET_POLLS = 100 };

/* Nothing moves any more. */
static bool step_quiet(struct ground *ground)
{
	static size_t before;
	static unsigned still;
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	size_t now = ground->bytes[SIDE_CLIENT] + ground->bytes[SIDE_SERVER] + ground->seen;
	still = now == before ? still + 1 : 0;
	before = now;
	if (still < QUIET_POLLS)
		return false;
	still = 0;
	return true;
}

/* What was allowed so far has come. */
static bool step_allowed_came(struct ground *ground)
{
	(void)ground_feed(ground, ground->client);
	(void)ground_drain(ground, ground->server, SIZE_MAX);
	return ground->seen >= ground->allowed[SIDE_CLIENT] || ground->seen == ground->total;
}

static bool step_allowed_came_to_client(struct ground *ground)
{
	(void)ground_feed(ground, ground->server);
	(void)ground_drain(ground, ground->client, SIZE_MAX);
	return ground->seen >= ground->allowed[SIDE_SERVER] || ground->seen == ground->total;
}

static void write_all(struct ground *ground, size_t total)
{
	ground_stream(ground, total);
	assert_true(ground_feed(ground, ground->client));
}

static void test_never_more_than_is_allowed(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->bytes[SIDE_CLIENT], 0);
	for (size_t all = PIECE; all < TOTAL; all += PIECE) {
		ground_allow(ground, SIDE_CLIENT, PIECE);
		ground_run(ground, step_allowed_came);
		assert_int_equal(ground->bytes[SIDE_CLIENT], all);
	}
	ground_allow(ground, SIDE_CLIENT, PIECE);
	ground_run(ground, step_client_to_server);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
	assert_false(ground->done);
}

static void test_towards_the_client_as_well(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	for (size_t all = PIECE; all < TOTAL; all += PIECE) {
		ground_allow(ground, SIDE_SERVER, PIECE);
		ground_run(ground, step_allowed_came_to_client);
		assert_int_equal(ground->bytes[SIDE_SERVER], all);
	}
	assert_int_equal(ground->bytes[SIDE_CLIENT], 0);
}

/* What came before there was an allowance makes no further edge. */
static void test_what_waited_is_not_forgotten(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->seen, 0);
	ground_allow(ground, SIDE_CLIENT, 300);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->seen, 300);
	ground_allow(ground, SIDE_CLIENT, 10000);
	ground_run(ground, step_client_to_server);
	write_all(ground, 1000); /* and there are edges again */
	ground_run(ground, step_client_to_server);
}

static void test_a_pause_costs_nothing(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	unsigned calls = ground->allow_calls;
	assert_in_range(calls, 1, 2);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->allow_calls, calls);
}

static void test_the_other_way_goes_on(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	ground_allow(ground, SIDE_SERVER, SIZE_MAX);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_server_to_client);
	assert_int_equal(ground->bytes[SIDE_CLIENT], 0);
}

static void test_a_slow_reader(void **state)
{
	struct ground *ground = *state;
	ground_allow(ground, SIDE_CLIENT, TOTAL);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_to_server_slowly);
	assert_int_equal(ground->bytes[SIDE_CLIENT], TOTAL);
}

static void test_bulk_is_spliced_in_pieces(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, BULK_TOTAL);
	for (size_t all = BULK_PIECES; all < BULK_TOTAL; all += BULK_PIECES) {
		ground_allow(ground, SIDE_CLIENT, BULK_PIECES);
		ground_run(ground, step_allowed_came);
		assert_int_equal(ground->bytes[SIDE_CLIENT], all);
	}
	assert_true(counter_get(&ground->spliced) > BULK_TOTAL / 2);
}

static void test_small_pieces_are_copied(void **state)
{
	struct ground *ground = *state;
	ground_stream(ground, TOTAL);
	for (size_t all = 1000; all <= 100 * 1000; all += 1000) {
		ground_allow(ground, SIDE_CLIENT, 1000);
		ground_run(ground, step_allowed_came);
		assert_int_equal(ground->bytes[SIDE_CLIENT], all);
	}
	assert_int_equal(counter_get(&ground->spliced), 0);
	assert_int_equal(ground_open_pipes(ground), 0);
}

/* --- ends -------------------------------------------------------------------------------------------------------------------- */

static void test_a_fin_comes_after_what_waits(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	shutdown(ground->client, SHUT_WR);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->seen, 0);
	ground_allow(ground, SIDE_CLIENT, 999);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->seen, 999);
	assert_false(ground->relay.side[SIDE_SERVER].fin_sent);
	ground_allow(ground, SIDE_CLIENT, 2); /* and one for the end */
	ground_run(ground, step_server_saw_the_end);
	assert_int_equal(ground->seen, 1000);
	ground_allow(ground, SIDE_SERVER, SIZE_MAX); /* the other way goes on */
	ground_stream(ground, 5000);
	ground_run(ground, step_server_to_client);
	shutdown(ground->server, SHUT_WR);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_FINISHED);
}

/* There is no need to wait for who is gone. */
static void test_the_reader_resets_during_a_pause(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	ground_allow(ground, SIDE_SERVER, 1);
	ground_reset(&ground->server);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_SERVER);
	assert_int_equal(ground->bytes[SIDE_CLIENT], 0);
}

static void test_what_waits_comes_before_the_reset(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	ground_reset(&ground->client);
	ground_run(ground, step_quiet);
	assert_false(ground->done);
	ground_allow(ground, SIDE_CLIENT, 500);
	ground_run(ground, step_quiet);
	assert_int_equal(ground->seen, 500);
	ground_allow(ground, SIDE_CLIENT, 501);
	ground_run(ground, step_is_done);
	assert_int_equal(ground->end, RELAY_RESET);
	assert_int_equal(ground->by, SIDE_CLIENT);
	assert_int_equal(ground->bytes[SIDE_CLIENT], 1000);
}

static void test_the_session_stops_during_a_pause(void **state)
{
	struct ground *ground = *state;
	write_all(ground, 1000);
	ground_run(ground, step_quiet);
	assert_true(relay_owes(&ground->relay, SIDE_SERVER)); /* tear-down looks for what is left */
}

static void test_resumed_while_a_reset_waits(void **state)
{
	struct ground *ground = *state;
	ground_allow(ground, SIDE_CLIENT, SIZE_MAX / 2);
	ground_stream(ground, TOTAL);
	ground_run(ground, step_client_is_held_back);
	ground_reset(&ground->client);
	ground_allow(ground, SIDE_CLIENT, 1);
	ground_allow(ground, SIDE_SERVER, 1);
	while (!ground->done) {
		(void)ground_drain(ground, ground->server, 65536);
		ground_run(ground, step_quiet);
	}
	assert_int_equal(ground->end, RELAY_RESET);
}

/* --- with a ring ------------------------------------------------------------------------------------------------------------- */

static void test_it_leaves_the_ring_for_good(void **state)
{
	struct ground *ground = *state;
	assert_int_equal(ground->relay.mover, MOVER_EPOLL);
	ground_allow(ground, SIDE_CLIENT, TOTAL);
	for (int i = 0; i < 200; i++) {
		write_all(ground, 10);
		ground_run(ground, step_client_to_server);
	}
	assert_int_equal(ground->relay.mover, MOVER_EPOLL);
}

static bool step_server_spoke(struct ground *ground)
{
	return ground->server_conn->input_bytes == 100;
}

/* As with a connection out of a pool, which receives all the time. */
static void test_a_connection_that_received_before(void **state)
{
	struct ground *ground = *state;
	conn_receive(ground->server_conn);
	ground_stream(ground, 100);
	assert_true(ground_feed(ground, ground->server));
	ground_run(ground, step_server_spoke);
	ground->allowed[SIDE_SERVER] = 100; /* what has come has come */
	ground_start(ground);
	ground_run(ground, step_server_to_client);
	assert_int_equal(ground->relay.mover, MOVER_EPOLL);
	ground_stream(ground, 100);
	assert_true(ground_feed(ground, ground->server));
	ground_run(ground, step_quiet);
	assert_int_equal(ground->bytes[SIDE_SERVER], 100);
	ground_allow(ground, SIDE_SERVER, 100);
	ground_run(ground, step_server_to_client);
}

/* ----------------------------------------------------------------------------------------------------------------------------- */

#define TEST(function, shape) cmocka_unit_test_prestate_setup_teardown(function, ground_set_up, ground_tear_down, (void *)&(shape))

static int run_all(const char *engine, bool ring)
{
	const struct shape plain = { .ring = ring, .shaped = true }, local = { .ring = ring, .shaped = true, .local = true },
	                   small = { .ring = ring, .shaped = true, .small = SMALL_BUFFER },
	                   starved = { .ring = ring, .shaped = true, .starved = true },
	                   pipes = { .ring = ring, .shaped = true, .pipes = 2 }, framed = { .ring = ring, .shaped = true, .framed = true };
	const struct CMUnitTest tests[] = {
		TEST(test_never_more_than_is_allowed, plain),
		TEST(test_never_more_than_is_allowed, local),
		TEST(test_never_more_than_is_allowed, starved),
		TEST(test_never_more_than_is_allowed, framed),
		TEST(test_never_more_than_is_allowed, pipes),
		TEST(test_towards_the_client_as_well, plain),
		TEST(test_towards_the_client_as_well, local),
		TEST(test_what_waited_is_not_forgotten, plain),
		TEST(test_what_waited_is_not_forgotten, local),
		TEST(test_a_pause_costs_nothing, plain),
		TEST(test_a_pause_costs_nothing, local),
		TEST(test_the_other_way_goes_on, plain),
		TEST(test_a_slow_reader, small),
		TEST(test_a_slow_reader, pipes),
		TEST(test_bulk_is_spliced_in_pieces, pipes),
		TEST(test_small_pieces_are_copied, pipes),
		TEST(test_a_fin_comes_after_what_waits, plain),
		TEST(test_a_fin_comes_after_what_waits, local),
		TEST(test_the_reader_resets_during_a_pause, plain),
		TEST(test_what_waits_comes_before_the_reset, plain),
		TEST(test_the_session_stops_during_a_pause, plain),
		TEST(test_resumed_while_a_reset_waits, small),
	};
	return cmocka_run_group_tests_name(engine, tests, NULL, NULL);
}

static int run_between(void)
{
	static const struct shape plain = { .ring = true, .shaped = true }, later = { .ring = true, .shaped = true, .later = true };
	const struct CMUnitTest tests[] = {
		TEST(test_it_leaves_the_ring_for_good, plain),
		TEST(test_a_connection_that_received_before, later),
	};
	return cmocka_run_group_tests_name("from the ring", tests, NULL, NULL);
}

int main(void)
{
	char why[160];
	int failed = run_all("epoll", false);
	if (ring_probe(why, sizeof why))
		failed += run_all("with a ring", true) + run_between();
	else
		print_message("io_uring left out: %s\n", why);
	return failed;
}
