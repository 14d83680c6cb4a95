/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <unistd.h>

#include "../shm/segment.h"
#include "base/clock.h"
#include "upstream/line.h"

/* Three workers in one process: they have a loop in common, and nothing else but what real ones have. */
enum { WORKERS = 3, CLIENTS = 200 };

struct client {
	struct waiter waiter;
	struct line *line;
	uint32_t turns; /* times that it was its turn */
	bool waits, served;
};

struct worker {
	struct lines lines;
	struct line line;
	uint32_t hot; /* hot connections, and places with them */
	uint32_t spared;
};

struct ground {
	struct loop *loop;
	struct shm shm;
	struct bells bells;
	struct worker workers[WORKERS];
	struct client clients[CLIENTS];
	uint32_t n_clients;
	struct client *order[CLIENTS]; /* in which they were served */
	uint32_t n_served;
	uint32_t expected;   /* run until so many are served */
	uint64_t not_before; /* the rate: nobody is served before this time */
	uint64_t first_try_ns;
	struct loop_timer deadline;
};

static struct ground *ground;

static struct worker *worker_of(const struct line *line)
{
	return container_of(line, struct worker, line);
}

static bool take_place(struct line *line)
{
	struct worker *worker = worker_of(line);
	if (worker->hot > 0) {
		worker->hot--;
		return true;
	}
	return limit_reserve(line->lines->shm, line->lines->seat, limit_server(line->lines->shm, 0));
}

static void free_place(struct line *line)
{
	limit_release(line->lines->shm, line->lines->seat, limit_server(line->lines->shm, 0));
	line_freed(line);
}

static void on_serve(struct line *line, struct waiter *waiter, uint64_t *due_ns)
{
	struct client *client = container_of(waiter, struct client, waiter);
	client->turns++;
	if (!ground->first_try_ns)
		ground->first_try_ns = loop_now_ns(ground->loop);
	if (loop_now_ns(ground->loop) < ground->not_before) {
		*due_ns = ground->not_before;
		return;
	}
	if (!take_place(line))
		return;
	client->waits = false;
	client->served = true;
	line_leave(line, waiter);
	ground->order[ground->n_served++] = client;
	if (ground->n_served == ground->expected)
		loop_stop(ground->loop);
}

static bool on_spare(struct line *line)
{
	struct worker *worker = worker_of(line);
	if (worker->hot == 0)
		return false;
	worker->hot--;
	worker->spared++;
	free_place(line);
	return true;
}

static const struct line_ops ops = { .serve = on_serve, .spare = on_spare };

static void before_sleep(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < WORKERS; i++)
		lines_before_sleep(&ground->workers[i].lines);
}

static void on_deadline(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(ground->loop);
}

static int set_up(void **state)
{
	(void)state;
	ground = calloc(1, sizeof *ground);
	ground->loop = loop_new();
	segment_make(&ground->shm, WORKERS, 1, 1);
	ground->shm.header->n_upstreams = 1;
	assert_int_equal(bells_open(&ground->bells, WORKERS), 0);
	loop_on_turn(ground->loop, before_sleep, NULL);
	loop_timer_init(&ground->deadline, on_deadline);
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct worker *worker = &ground->workers[i];
		ground->shm.seats[i].slot = i;
		ground->shm.seats[i].generation = 1;
		assert_int_equal(lines_init(&worker->lines, ground->loop, &ground->shm, i, &ground->bells, &ops), 0);
		line_init(&worker->line, &worker->lines, 0, false);
	}
	shm_limit(&ground->shm, limit_server(&ground->shm, 0))->max = 1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < WORKERS; i++)
		lines_fini(&ground->workers[i].lines);
	bells_close(&ground->bells);
	loop_free(ground->loop);
	segment_drop(&ground->shm);
	free(ground);
	return 0;
}

static struct line *line_of(uint32_t worker)
{
	return &ground->workers[worker].line;
}

static struct client *join(uint32_t worker)
{
	struct client *client = &ground->clients[ground->n_clients++];
	client->line = line_of(worker);
	client->waits = line_join(client->line, &client->waiter);
	return client;
}

static void leave(struct client *client)
{
	client->waits = false;
	line_leave(client->line, &client->waiter);
}

/* Until so many are served in all; or, when they are not, for the given time. */
static void run(uint32_t served, uint64_t most_ns)
{
	ground->expected = served;
	loop_timer_start(ground->loop, &ground->deadline, most_ns);
	if (served > ground->n_served)
		loop_run(ground->loop);
	loop_timer_stop(ground->loop, &ground->deadline);
	assert_int_equal(ground->n_served, served);
}

/* As long as it takes to look, but not to look once more because of time alone. */
static void run_quickly(uint32_t served)
{
	run(served, 20 * NS_PER_S);
}

/* A few turns: all that rings and is due happens. */
static void settle(void)
{
	ground->expected = UINT32_MAX;
	loop_timer_start(ground->loop, &ground->deadline, NS_PER_MS);
	loop_run(ground->loop);
}

static void expect_order(const struct client *const *clients, uint32_t n)
{
	assert_int_equal(ground->n_served, n);
	for (uint32_t i = 0; i < n; i++)
		assert_ptr_equal(ground->order[i], clients[i]);
}

static uint32_t waiting(void)
{
	return limit_used(&ground->shm, limit_upstream(&ground->shm, 0));
}

/* --- order --------------------------------------------------------------------------------------------------------------- */

static void test_first_come_first_served_over_all_workers(void **state)
{
	(void)state;
	const struct client *came[60];
	assert_false(line_is_busy(line_of(0)));
	assert_true(take_place(line_of(2)));
	for (uint32_t i = 0; i < ARRAY_LEN(came); i++)
		came[i] = join(i * 7 / 3 % WORKERS);
	assert_true(line_is_busy(line_of(0)));
	assert_int_equal(waiting(), ARRAY_LEN(came));
	settle();
	assert_int_equal(ground->n_served, 0);
	struct line *holder = line_of(2);
	for (uint32_t i = 0; i < ARRAY_LEN(came); i++) {
		free_place(holder);
		run_quickly(i + 1);
		holder = ground->order[i]->line;
	}
	expect_order(came, ARRAY_LEN(came));
	assert_int_equal(waiting(), 0);
	settle();
	for (uint32_t i = 0; i < WORKERS; i++)
		assert_int_equal(shm_line_head(&ground->shm, 0, i)->ticket, 0);
}

/* One ring is enough for all the places that are free. */
static void test_the_turn_is_passed_on(void **state)
{
	(void)state;
	const struct client *came[150];
	shm_limit(&ground->shm, limit_server(&ground->shm, 0))->max = 1;
	assert_true(take_place(line_of(0)));
	for (uint32_t i = 0; i < ARRAY_LEN(came); i++)
		came[i] = join(i < 100 ? 0 : i % WORKERS);
	settle();
	shm_limit(&ground->shm, limit_server(&ground->shm, 0))->max = 200;
	free_place(line_of(0));
	run_quickly(ARRAY_LEN(came));
	expect_order(came, ARRAY_LEN(came));
}

static void test_a_newcomer_is_served_when_a_place_was_freed_before_it_was_seen(void **state)
{
	(void)state;
	(void)join(1);
	run_quickly(1);
	assert_false(line_is_busy(line_of(0)));
}

static void test_who_waited_before_has_its_place(void **state)
{
	(void)state;
	assert_true(take_place(line_of(0)));
	struct client *first = join(0), *second = join(1), *third = join(0);
	uint64_t ticket = first->waiter.ticket;
	leave(first);
	settle();
	first->waits = line_join(line_of(0), &first->waiter);
	assert_true(first->waits);
	assert_int_equal(first->waiter.ticket, ticket);
	settle();
	free_place(line_of(0));
	run_quickly(1);
	assert_ptr_equal(ground->order[0], first);
	free_place(line_of(0));
	run_quickly(2);
	assert_ptr_equal(ground->order[1], second);
	leave(third);
	settle();
	assert_int_equal(waiting(), 0);
}

/* --- leaving, and limits ------------------------------------------------------------------------------------------------- */

static void test_no_more_than_may_wait(void **state)
{
	(void)state;
	shm_limit(&ground->shm, limit_upstream(&ground->shm, 0))->max = 3;
	assert_true(take_place(line_of(0)));
	struct client *first = join(0), *second = join(1), *third = join(2), *fourth = join(0);
	assert_true(first->waits && second->waits && third->waits);
	assert_false(fourth->waits);
	assert_int_equal(fourth->waiter.ticket, 0);
	leave(second);
	assert_true(join(2)->waits);
	assert_false(join(1)->waits);
	settle();
	free_place(line_of(0));
	run_quickly(1);
	assert_ptr_equal(ground->order[0], first);
	free_place(line_of(0));
	run_quickly(2);
	assert_ptr_equal(ground->order[1], third);
}

static void test_who_leaves_passes_its_turn_on(void **state)
{
	(void)state;
	assert_true(take_place(line_of(0)));
	struct client *first = join(1), *second = join(2), *third = join(2);
	settle();
	free_place(line_of(0)); /* rings for the first one, */
	leave(first);           /* which leaves before it has heard */
	run_quickly(1);
	assert_ptr_equal(ground->order[0], second);
	assert_true(third->waits);
	leave(third);
	settle();
	assert_int_equal(waiting(), 0);
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

static void test_what_becomes_free_by_time(void **state)
{
	(void)state;
	(void)join(0);
	ground->not_before = loop_now_ns(ground->loop) + 7 * NS_PER_MS;
	run(1, 20 * NS_PER_S);
	assert_in_range(loop_now_ns(ground->loop), ground->not_before, UINT64_MAX);
	assert_in_range(ground->clients[0].turns, 1, 3); /* not again and again; once when this process had to stand still */
}

/* A place that nobody rang for: killed in between. */
static void test_a_lost_ring_is_made_up_for(void **state)
{
	(void)state;
	assert_true(take_place(line_of(0)));
	(void)join(1);
	settle();
	limit_release(&ground->shm, 0, limit_server(&ground->shm, 0));
	run(1, 20 * NS_PER_S);
}

static void test_a_worker_that_died_does_not_stand_in_the_way(void **state)
{
	(void)state;
	const uint64_t now_ns = loop_now_ns(ground->loop);
	assert_true(limit_reserve(&ground->shm, 2, limit_upstream(&ground->shm, 0)));
	line_show(&ground->shm, 0, 2, line_ticket(&ground->shm, 0), now_ns);
	(void)join(0);
	run(1, 20 * NS_PER_S);
	assert_in_range(loop_now_ns(ground->loop), now_ns + LINE_STALE_NS, UINT64_MAX);
	(void)join(1);
	line_clear(&ground->shm, 2); /* as the master does, before its process is gone for long */
	free_place(line_of(0));
	run_quickly(2);
	limit_release(&ground->shm, 2, limit_upstream(&ground->shm, 0));
}

static void test_generations_do_not_wait_for_each_other(void **state)
{
	(void)state;
	ground->shm.seats[2].generation = 2;
	assert_true(take_place(line_of(0)));
	struct client *old = join(0), *new = join(2), *newer = join(2);
	settle();
	assert_int_equal(old->turns, 1); /* when it joined */
	assert_true(new->turns > 0);
	assert_int_equal(newer->turns, 0);
	shm_limit(&ground->shm, limit_server(&ground->shm, 0))->max = 3;
	free_place(line_of(0));
	run_quickly(3);
	assert_true(old->served && new->served && newer->served);
}

/* --- hot connections ----------------------------------------------------------------------------------------------------- */

static void test_one_hot_connection_makes_room(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < WORKERS; i++)
		ground->workers[i].line.has_hot = true;
	shm_limit(&ground->shm, limit_server(&ground->shm, 0))->max = 5;
	for (int i = 0; i < 5; i++)
		assert_true(limit_reserve(&ground->shm, 2 - (uint32_t)i % 2, limit_server(&ground->shm, 0)));
	ground->workers[1].hot = 2;
	ground->workers[2].hot = 3;
	(void)join(0);
	run_quickly(1);
	settle();
	assert_int_equal(ground->workers[1].spared + ground->workers[2].spared, 1);
	for (uint32_t i = 2; i <= 5; i++) {
		(void)join(0);
		run_quickly(i);
	}
	settle();
	assert_int_equal(ground->workers[1].spared, 2);
	assert_int_equal(ground->workers[2].spared, 3);
}

/* Those of the worker whose turn it is are taken, not closed. */
static void test_the_worker_uses_its_own(void **state)
{
	(void)state;
	ground->workers[0].line.has_hot = true;
	assert_true(take_place(line_of(0)));
	(void)join(0);
	settle();
	assert_true(line_is_ours(line_of(0)));
	assert_false(line_is_ours(line_of(1)));
	ground->workers[0].hot = 1;
	line_freed(line_of(0));
	run_quickly(1);
	assert_int_equal(ground->workers[0].spared, 0);
	assert_int_equal(ground->workers[0].hot, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_come_first_served_over_all_workers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_turn_is_passed_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_newcomer_is_served_when_a_place_was_freed_before_it_was_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_waited_before_has_its_place, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_more_than_may_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_leaves_passes_its_turn_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_becomes_free_by_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_lost_ring_is_made_up_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_worker_that_died_does_not_stand_in_the_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_generations_do_not_wait_for_each_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_hot_connection_makes_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_worker_uses_its_own, set_up, tear_down),
	};
	alarm(300); /* what hangs fails */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
