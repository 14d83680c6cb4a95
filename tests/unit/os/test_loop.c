#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/loop.h"

static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	loop = loop_new();
	return loop ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

struct end {
	struct loop_io io;
	int fd;
	int calls;
	int last;
	struct end *stops; /* another one, to be closed in the callback */
};

static void close_end(struct end *end)
{
	loop_io_forget(loop, &end->io);
	close(end->fd);
	end->fd = -1;
}

static void on_end(struct loop_io *io, int events)
{
	struct end *end = container_of(io, struct end, io);
	end->calls++;
	end->last = events;
	if (end->stops)
		close_end(end->stops);
}

/* A pair of connected sockets, each watched for reading. */
static void open_pair(struct end pair[2])
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	for (int i = 0; i < 2; i++) {
		pair[i] = (struct end){ .fd = fds[i] };
		loop_io_init(&pair[i].io, on_end);
		assert_int_equal(loop_io_set(loop, &pair[i].io, fds[i], LOOP_READ), 0);
	}
}

static void on_end_of_turn(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* One turn: what is ready now. */
static void turn(void)
{
	struct loop_timer now;
	loop_timer_init(&now, on_end_of_turn);
	loop_timer_start(loop, &now, 0);
	loop_run(loop);
}

static void test_tells_what_is_ready(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	turn();
	assert_int_equal(pair[0].calls, 0);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	turn();
	assert_int_equal(pair[1].calls, 1);
	assert_int_equal(pair[1].last, LOOP_READ);
	turn(); /* level-triggered: nobody read it */
	assert_int_equal(pair[1].calls, 2);
	assert_int_equal(loop_io_set(loop, &pair[1].io, pair[1].fd, LOOP_READ | LOOP_WRITE), 0);
	turn();
	assert_int_equal(pair[1].last, LOOP_READ | LOOP_WRITE);
	close_end(&pair[0]);
	close_end(&pair[1]);
}

static void test_what_is_not_wanted_is_not_told(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	assert_int_equal(loop_io_set(loop, &pair[1].io, pair[1].fd, 0), 0);
	turn();
	turn();
	assert_int_equal(pair[1].calls, 0);
	assert_int_equal(loop_io_set(loop, &pair[1].io, pair[1].fd, LOOP_READ), 0);
	turn();
	assert_int_equal(pair[1].calls, 1);
	close_end(&pair[0]);
	close_end(&pair[1]);
}

static void test_a_hang_up_reaches_who_waits_for_anything(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	close_end(&pair[0]);
	turn();
	assert_int_equal(pair[1].last, LOOP_READ);
	close_end(&pair[1]);
}

/* Both ends are ready in one batch, and whichever is called first closes the other one. */
static void test_no_event_for_what_was_closed_in_the_same_turn(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	assert_int_equal(write(pair[1].fd, "x", 1), 1);
	pair[0].stops = &pair[1];
	pair[1].stops = &pair[0];
	turn();
	assert_int_equal(pair[0].calls + pair[1].calls, 1);
	close_end(pair[0].fd >= 0 ? &pair[0] : &pair[1]);
}

static void test_a_number_that_comes_back_is_another_file(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct end pair[2];
		open_pair(pair); /* gets the same numbers each time */
		assert_int_equal(write(pair[0].fd, "x", 1), 1);
		turn();
		assert_int_equal(pair[1].calls, 1);
		close_end(&pair[0]);
		close_end(&pair[1]);
	}
}

static void test_stop_works_while_another_process_holds_a_copy(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	int copy = dup(pair[1].fd);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	loop_io_stop(loop, &pair[1].io);
	close(pair[1].fd);
	turn();
	assert_int_equal(pair[1].calls, 0);
	close(copy);
	close_end(&pair[0]);
}

static void on_other(struct loop_io *io, int events)
{
	container_of(io, struct end, io)->calls += 100;
	(void)events;
}

static void test_hand_over_changes_the_callback(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	loop_io_hand_over(&pair[1].io, on_other);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	turn();
	assert_int_equal(pair[1].calls, 100);
	close_end(&pair[0]);
	close_end(&pair[1]);
}

static void test_stopping_twice_is_fine(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	loop_io_stop(loop, &pair[0].io);
	loop_io_stop(loop, &pair[0].io);
	assert_int_equal(loop_io_events(&pair[0].io), 0);
	close(pair[0].fd);
	close_end(&pair[1]);
}

/* --- timers ---------------------------------------------------------------------------------------------------------------- */

struct alarm {
	struct loop_timer timer;
	int fired;
	int order;
	uint64_t fired_ns;
	uint64_t again_ns;
};

static int fired_so_far;

static void on_alarm(struct loop_timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);
	alarm->fired++;
	alarm->order = ++fired_so_far;
	alarm->fired_ns = loop_now_ns(loop);
	if (alarm->again_ns != UINT64_MAX)
		loop_timer_start(loop, timer, alarm->again_ns);
}

static void test_timers_fire_in_order_and_not_early(void **state)
{
	(void)state;
	struct alarm alarms[3] = { 0 };
	struct loop_timer end;
	fired_so_far = 0;
	uint64_t start_ns = loop_now_ns(loop);
	const uint64_t after_ms[3] = { 9, 3, 6 };
	for (int i = 0; i < 3; i++) {
		alarms[i].again_ns = UINT64_MAX;
		loop_timer_init(&alarms[i].timer, on_alarm);
		loop_timer_start(loop, &alarms[i].timer, after_ms[i] * NS_PER_MS);
	}
	loop_timer_init(&end, on_end_of_turn);
	loop_timer_start(loop, &end, 12 * NS_PER_MS);
	loop_run(loop);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(alarms[i].fired, 1);
		assert_true(alarms[i].fired_ns - start_ns >= after_ms[i] * NS_PER_MS);
		assert_false(loop_timer_active(&alarms[i].timer));
	}
	assert_int_equal(alarms[1].order, 1);
	assert_int_equal(alarms[2].order, 2);
	assert_int_equal(alarms[0].order, 3);
}

static void test_a_timer_that_starts_itself_does_not_hold_up_the_turn(void **state)
{
	(void)state;
	struct alarm alarm = { .again_ns = 0 };
	loop_timer_init(&alarm.timer, on_alarm);
	loop_timer_start(loop, &alarm.timer, 0);
	turn();
	assert_int_equal(alarm.fired, 1);
	turn();
	assert_int_equal(alarm.fired, 2);
	loop_timer_stop(loop, &alarm.timer);
	turn();
	assert_int_equal(alarm.fired, 2);
}

static int sleeps;

static void before_sleep(void *arg)
{
	assert_ptr_equal(arg, &sleeps);
	sleeps++;
}

static void test_turns_are_told(void **state)
{
	(void)state;
	sleeps = 0;
	loop_on_turn(loop, before_sleep, &sleeps);
	turn();
	turn();
	assert_int_equal(sleeps, 2);
}

static void stop_before_sleep(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void test_who_stops_before_it_sleeps_does_not_sleep(void **state)
{
	(void)state;
	struct loop_timer late;
	loop_timer_init(&late, on_end_of_turn);
	loop_timer_start(loop, &late, 20 * NS_PER_S);
	loop_on_turn(loop, stop_before_sleep, NULL);
	loop_run(loop);
	assert_true(loop_timer_active(&late));
	loop_timer_stop(loop, &late);
}

static void test_the_longest_turn_begins_anew_when_taken(void **state)
{
	(void)state;
	turn();
	turn();
	(void)loop_take_longest_turn_ns(loop);
	assert_int_equal(loop_take_longest_turn_ns(loop), 0);
}

/* --- edge-triggered -------------------------------------------------------------------------------------------------------------- */

static void watch_edges(struct end *end, int events)
{
	assert_int_equal(loop_io_set(loop, &end->io, end->fd, events | LOOP_EDGE), 0);
}

static void open_edge_pair(struct end pair[2])
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	for (int i = 0; i < 2; i++) {
		pair[i] = (struct end){ .fd = fds[i] };
		loop_io_init(&pair[i].io, on_end);
		watch_edges(&pair[i], LOOP_READ);
	}
}

static void test_an_edge_is_told_once(void **state)
{
	(void)state;
	struct end pair[2];
	open_edge_pair(pair);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	turn();
	assert_int_equal(pair[1].calls, 1);
	turn(); /* nobody read it, and nothing happened */
	assert_int_equal(pair[1].calls, 1);
	assert_int_equal(write(pair[0].fd, "y", 1), 1);
	turn();
	assert_int_equal(pair[1].calls, 2);
	close_end(&pair[0]);
	turn();
	assert_int_equal(pair[1].calls, 3);
	assert_true(pair[1].last & LOOP_ENDED);
	close_end(&pair[1]);
}

static void test_room_is_an_edge_too(void **state)
{
	(void)state;
	struct end pair[2];
	static const char zeros[4096];
	open_edge_pair(pair);
	while (write(pair[0].fd, zeros, sizeof zeros) > 0)
		;
	watch_edges(&pair[0], LOOP_READ | LOOP_WRITE);
	turn();
	assert_int_equal(pair[0].calls, 0);
	char drain[4096];
	while (read(pair[1].fd, drain, sizeof drain) > 0)
		;
	turn();
	assert_int_equal(pair[0].calls, 1);
	assert_true(pair[0].last & LOOP_WRITE);
	close_end(&pair[0]);
	close_end(&pair[1]);
}

static int again_left;

static void on_again(struct loop_io *io, int events)
{
	struct end *end = container_of(io, struct end, io);
	assert_true(events & LOOP_READ);
	end->calls++;
	if (again_left-- > 0)
		loop_io_again(loop, io);
}

static void test_who_asks_again_is_called_in_the_next_turn(void **state)
{
	(void)state;
	struct end pair[2];
	open_edge_pair(pair);
	loop_io_hand_over(&pair[0].io, on_again);
	again_left = 2;
	loop_io_again(loop, &pair[0].io);
	loop_io_again(loop, &pair[0].io); /* twice is once */
	turn();
	assert_int_equal(pair[0].calls, 1);
	turn();
	turn();
	assert_int_equal(pair[0].calls, 3);
	turn();
	assert_int_equal(pair[0].calls, 3);
	again_left = 0;
	loop_io_again(loop, &pair[0].io);
	loop_io_again(loop, &pair[1].io);
	close_end(&pair[0]); /* not called any more */
	turn();
	assert_int_equal(pair[0].calls, 3);
	assert_int_equal(pair[1].calls, 2); /* and of the end of the other one */
	close_end(&pair[1]);
}

static int waits;

static void on_wait(void *arg, bool sleep)
{
	(void)sleep;
	assert_ptr_equal(arg, &waits);
	waits++;
	loop_woke(loop);
	loop_poll_ready(loop);
}

static void test_another_way_to_wait(void **state)
{
	(void)state;
	struct end pair[2];
	open_pair(pair);
	waits = 0;
	loop_set_waiter(loop, on_wait, &waits);
	assert_int_equal(write(pair[0].fd, "x", 1), 1);
	turn();
	assert_true(waits > 0);
	assert_int_equal(pair[1].calls, waits); /* level-triggered: asked after each wait */
	loop_set_waiter(loop, NULL, NULL);
	close_end(&pair[0]);
	close_end(&pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tells_what_is_ready, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_not_wanted_is_not_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_hang_up_reaches_who_waits_for_anything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_event_for_what_was_closed_in_the_same_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_number_that_comes_back_is_another_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop_works_while_another_process_holds_a_copy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hand_over_changes_the_callback, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stopping_twice_is_fine, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timers_fire_in_order_and_not_early, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_timer_that_starts_itself_does_not_hold_up_the_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_turns_are_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_stops_before_it_sleeps_does_not_sleep, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_longest_turn_begins_anew_when_taken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_edge_is_told_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_room_is_an_edge_too, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_asks_again_is_called_in_the_next_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_another_way_to_wait, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
