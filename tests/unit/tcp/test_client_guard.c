/* Which clients are too slow, with virtual time. A client is played second by second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tcp/client_guard.h"

enum { MIN_RATE = 1000, NEVER = -1 };

struct play {
	struct client_guard guard;
	uint64_t now_ns;
	uint64_t untaken; /* of what was sent to the client */
	bool blocked, finished;
	int ended_at_s; /* NEVER */
	int second;
};

static void begin(struct play *play)
{
	*play = (struct play){ .now_ns = 1000 * NS_PER_S, .ended_at_s = NEVER };
	client_guard_init(&play->guard);
}

static struct client_state state_of(const struct play *play)
{
	return (struct client_state){ .untaken = play->untaken, .blocked = play->blocked, .finished = play->finished };
}

/* A second passes. Timers come 4 ms late. */
static void pass(struct play *play)
{
	uint64_t end_ns = play->now_ns + NS_PER_S, due_ns;
	for (unsigned asked = 0; (due_ns = client_guard_due_ns(&play->guard)) < end_ns && play->ended_at_s == NEVER; asked++) {
		struct client_state state = state_of(play);
		assert_true(asked < 10); /* it would be asked for ever */
		play->now_ns = (due_ns > play->now_ns ? due_ns : play->now_ns) + 4 * NS_PER_MS;
		if (client_guard_slow(&play->guard, MIN_RATE, &state, play->now_ns))
			play->ended_at_s = play->second;
	}
	play->second++;
	if (play->now_ns < end_ns)
		play->now_ns = end_ns;
}

static void client_says(struct play *play, uint64_t bytes)
{
	client_guard_up(&play->guard, bytes, play->now_ns);
}

static void server_says(struct play *play, uint64_t bytes)
{
	struct client_state state = state_of(play);
	client_guard_down(&play->guard, bytes, client_guard_marks(&play->guard, play->now_ns) ? &state : NULL, play->now_ns);
	play->untaken += bytes;
}

static void client_takes(struct play *play, uint64_t bytes)
{
	play->untaken -= bytes < play->untaken ? bytes : play->untaken;
}

/* --- up ---------------------------------------------------------------------------------------------------------------------- */

/* So many bytes every so many seconds, never answered: when is it ended? */
static int trickle(uint64_t bytes, int every_s)
{
	struct play play;
	begin(&play);
	for (int second = 0; second < 300 && play.ended_at_s == NEVER; second++) {
		if (second % every_s == 0)
			client_says(&play, bytes);
		pass(&play);
	}
	return play.ended_at_s;
}

static void test_a_request_that_trickles(void **state)
{
	(void)state;
	assert_in_range(trickle(1, 1), 9, 11);
	assert_in_range(trickle(10, 3), 9, 11);
	assert_in_range(trickle(900 / 2, 1), 9, 11); /* the grace counts, too: what comes in it is a gift */
	assert_in_range(trickle(1, 6), 9, 20);
	assert_in_range(trickle(1, 20), 30, 50); /* silence counts for 5 s each time */
}

static void test_a_slow_but_steady_request(void **state)
{
	(void)state;
	assert_int_equal(trickle(1100, 1), NEVER);
	assert_int_equal(trickle(5500, 4), NEVER);
	assert_int_equal(trickle(100000, 5), NEVER);
}

/* The server takes a minute for its answer. */
static void test_who_waits_is_not_slow(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int round = 0; round < 5; round++) {
		client_says(&play, 20);
		for (int second = 0; second < 60; second++)
			pass(&play);
		server_says(&play, 100);
		client_takes(&play, 100);
	}
	for (int second = 0; second < 1000; second++)
		pass(&play);
	assert_int_equal(play.ended_at_s, NEVER);
}

static void test_short_requests_over_and_over(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int second = 0; second < 300; second++) {
		client_says(&play, 10);
		server_says(&play, 10);
		client_takes(&play, 10);
		pass(&play);
	}
	assert_int_equal(play.ended_at_s, NEVER);
}

static void test_a_server_that_does_not_take_it(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	play.blocked = true;
	for (int second = 0; second < 60; second++) {
		client_says(&play, 1);
		pass(&play);
	}
	assert_int_equal(play.ended_at_s, NEVER);
	play.blocked = false;
	for (int second = 0; second < 20; second++) {
		client_says(&play, 1);
		pass(&play);
	}
	assert_in_range(play.ended_at_s, 60, 76);
}

static void test_a_client_that_is_held_back(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int second = 0; second < 60; second++) {
		client_says(&play, 100);
		client_guard_held_back(&play.guard);
		pass(&play);
	}
	assert_int_equal(play.ended_at_s, NEVER);
}

static void test_a_client_that_has_finished(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int second = 0; second < 8; second++) {
		client_says(&play, 1);
		pass(&play);
	}
	play.finished = true;
	for (int second = 0; second < 60; second++)
		pass(&play);
	assert_int_equal(play.ended_at_s, NEVER);
}

/* --- down -------------------------------------------------------------------------------------------------------------------- */

/* A server that sends as fast as 1 MB of room lets it, to a client that takes so much in a second. */
static int download(uint64_t takes, uint64_t server_has)
{
	enum { ROOM = 1000 * 1000 };
	struct play play;
	begin(&play);
	client_says(&play, 100);
	for (int second = 0; second < 120 && play.ended_at_s == NEVER; second++) {
		uint64_t room = ROOM - play.untaken, bytes = room < server_has ? room : server_has;
		if (bytes > 0)
			server_says(&play, bytes);
		server_has -= bytes;
		pass(&play);
		client_takes(&play, takes);
	}
	return play.ended_at_s;
}

static void test_an_answer_that_is_not_read(void **state)
{
	(void)state;
	assert_in_range(download(0, 10 * 1000 * 1000), 9, 12);
	assert_in_range(download(1, 10 * 1000 * 1000), 9, 12);
	assert_in_range(download(MIN_RATE / 3, 10 * 1000 * 1000), 9, 17);
	assert_in_range(download(0, 500), 9, 12); /* whatever it is */
}

static void test_an_answer_that_is_read_slowly_but_steadily(void **state)
{
	(void)state;
	assert_int_equal(download(MIN_RATE * 12 / 10, 10 * 1000 * 1000), NEVER);
	assert_int_equal(download(MIN_RATE * 100, 10 * 1000 * 1000), NEVER);
	assert_int_equal(download(MIN_RATE * 12 / 10, 50 * 1000), NEVER);
}

/* What comes is little, and the client takes all of it, but for what is on its way. */
static void test_a_slow_server(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int second = 0; second < 300; second++) {
		server_says(&play, 100);
		pass(&play);
		client_takes(&play, play.untaken - 10);
	}
	assert_int_equal(play.ended_at_s, NEVER);
}

/* Long quiet, then much at once: the quiet time is not held against the client. */
static void test_much_after_a_pause(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int round = 0; round < 20; round++) {
		server_says(&play, 100);
		client_takes(&play, 100);
		for (int second = 0; second < 9; second++)
			pass(&play);
		server_says(&play, 10000);
		pass(&play);
		pass(&play);
		client_takes(&play, 10000);
	}
	assert_int_equal(play.ended_at_s, NEVER);
}

static void test_a_client_that_stops_reading_later(void **state)
{
	(void)state;
	struct play play;
	begin(&play);
	for (int second = 0; second < 60; second++) {
		server_says(&play, 100000);
		pass(&play);
		client_takes(&play, 100000);
	}
	for (int second = 0; second < 30; second++) {
		server_says(&play, 100000);
		pass(&play);
	}
	assert_in_range(play.ended_at_s, 60, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_that_trickles),
		cmocka_unit_test(test_a_slow_but_steady_request),
		cmocka_unit_test(test_who_waits_is_not_slow),
		cmocka_unit_test(test_short_requests_over_and_over),
		cmocka_unit_test(test_a_server_that_does_not_take_it),
		cmocka_unit_test(test_a_client_that_is_held_back),
		cmocka_unit_test(test_a_client_that_has_finished),
		cmocka_unit_test(test_an_answer_that_is_not_read),
		cmocka_unit_test(test_an_answer_that_is_read_slowly_but_steadily),
		cmocka_unit_test(test_a_slow_server),
		cmocka_unit_test(test_much_after_a_pause),
		cmocka_unit_test(test_a_client_that_stops_reading_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
