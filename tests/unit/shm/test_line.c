/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>

#include "fleet.h"
#include "segment.h"
#include "shm/line.h"

/* --- one process -------------------------------------------------------------------------------------------------------- */

static void make(struct shm *shm, uint32_t seats)
{
	segment_make(shm, seats, 1, 2);
	shm->header->n_upstreams = 4;
	for (uint32_t i = 0; i < seats; i++)
		shm->seats[i].generation = 1;
}

static void join(struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t ticket, uint64_t now_ns)
{
	assert_true(limit_reserve(shm, seat, limit_upstream(shm, upstream)));
	line_show(shm, upstream, seat, ticket, now_ns);
}

static void test_tickets(void **state)
{
	(void)state;
	struct shm shm;
	make(&shm, 2);
	assert_int_equal(line_ticket(&shm, 1), 1);
	assert_int_equal(line_ticket(&shm, 1), 2);
	assert_int_equal(line_ticket(&shm, 2), 1);
	segment_drop(&shm);
}

static void test_the_least_ticket_is_first(void **state)
{
	(void)state;
	struct shm shm;
	struct line_first firsts[LINE_GENERATIONS];
	make(&shm, 4);
	assert_false(line_waits(&shm, 1));
	assert_int_equal(line_firsts(&shm, 1, 0, firsts), 0);
	join(&shm, 1, 2, 7, 1000);
	join(&shm, 1, 0, 9, 1000);
	join(&shm, 1, 3, 8, 1000);
	assert_true(line_waits(&shm, 1));
	assert_false(line_waits(&shm, 0));
	assert_int_equal(line_firsts(&shm, 1, 1000, firsts), 1);
	assert_int_equal(firsts[0].seat, 2);
	assert_int_equal(firsts[0].ticket, 7);
	assert_true(line_is_first(&shm, 1, 2, 7, 1000));
	assert_false(line_is_first(&shm, 1, 0, 9, 1000));
	assert_false(line_is_first(&shm, 1, 3, 8, 1000));
	assert_true(line_is_first(&shm, 0, 3, 8, 1000)); /* another upstream */
	line_show(&shm, 1, 2, 10, 1000);
	assert_true(line_is_first(&shm, 1, 3, 8, 1000));
	line_show(&shm, 1, 3, 0, 1000);
	assert_int_equal(line_firsts(&shm, 1, 1000, firsts), 1);
	assert_int_equal(firsts[0].seat, 0);
	assert_false(line_is_first(&shm, 1, 2, 10, 1000));
	segment_drop(&shm);
}

static void test_who_does_not_look_is_passed_over(void **state)
{
	(void)state;
	struct shm shm;
	struct line_first firsts[LINE_GENERATIONS];
	const uint64_t then_ns = 10 * NS_PER_S, last_ns = then_ns + LINE_STALE_NS;
	make(&shm, 2);
	join(&shm, 0, 0, 1, then_ns);
	join(&shm, 0, 1, 2, last_ns);
	assert_false(line_is_first(&shm, 0, 1, 2, then_ns - 1)); /* a clock that lags */
	assert_false(line_is_first(&shm, 0, 1, 2, last_ns));
	assert_true(line_is_first(&shm, 0, 1, 2, last_ns + 1));
	assert_int_equal(line_firsts(&shm, 0, last_ns + 1, firsts), 1);
	assert_int_equal(firsts[0].seat, 1);
	line_show(&shm, 0, 0, 1, last_ns + 1); /* it only hung */
	assert_false(line_is_first(&shm, 0, 1, 2, last_ns + 1));
	line_clear(&shm, 0);
	assert_true(line_is_first(&shm, 0, 1, 2, last_ns + 1));
	assert_int_equal(shm_line_head(&shm, 0, 1)->ticket, 2);
	segment_drop(&shm);
}

static void test_a_line_for_each_generation(void **state)
{
	(void)state;
	struct shm shm;
	struct line_first firsts[LINE_GENERATIONS];
	make(&shm, 4 * LINE_GENERATIONS);
	shm.seats[1].generation = shm.seats[3].generation = 2;
	join(&shm, 0, 0, 5, 0);
	join(&shm, 0, 1, 6, 0);
	join(&shm, 0, 2, 4, 0);
	join(&shm, 0, 3, 7, 0);
	assert_true(line_is_first(&shm, 0, 1, 6, 0));
	assert_true(line_is_first(&shm, 0, 2, 4, 0));
	assert_false(line_is_first(&shm, 0, 0, 5, 0));
	assert_false(line_is_first(&shm, 0, 3, 7, 0));
	assert_int_equal(line_firsts(&shm, 0, 0, firsts), 2);
	assert_int_equal(firsts[0].seat, 2);
	assert_int_equal(firsts[1].seat, 1);
	for (uint32_t i = 0; i < shm.dims.seats; i++) { /* more than there is room for */
		shm.seats[i].generation = i;
		line_show(&shm, 0, i, i + 1, 0);
	}
	assert_int_equal(line_firsts(&shm, 0, 0, firsts), LINE_GENERATIONS);
	for (uint32_t i = 0; i < LINE_GENERATIONS; i++)
		assert_int_equal(firsts[i].generation, i);
	segment_drop(&shm);
}

static void test_a_row_made_anew_has_no_line(void **state)
{
	(void)state;
	struct shm shm;
	uint32_t row;
	char name[16];
	make(&shm, 2);
	shm.header->n_upstreams = 0;
	for (uint32_t i = 0; i < SHM_UPSTREAMS; i++) {
		(void)snprintf(name, sizeof name, "u%u", i);
		assert_int_equal(shm_claim_upstream(&shm, name, &row), 0);
	}
	line_show(&shm, 0, 1, line_ticket(&shm, 0), 5);
	line_show(&shm, 1, 1, line_ticket(&shm, 1), 5);
	shm.upstreams[0].in_use = 0;
	assert_int_equal(shm_claim_upstream(&shm, "new", &row), 0);
	assert_int_equal(row, 0);
	assert_int_equal(shm_line_head(&shm, 0, 1)->ticket, 0);
	assert_int_equal(shm_line_head(&shm, 1, 1)->ticket, 1);
	assert_int_equal(line_ticket(&shm, 0), 1);
	segment_drop(&shm);
}

/* --- workers that are killed -------------------------------------------------------------------------------------------- */

enum { PLACES = 5, WAITERS = 8, QUEUE = 30 };

/* Each worker tries only when it is told to: a ring that is lost is never made up for. */
struct crowd {
	struct fleet fleet;
	_Atomic bool rung[FLEET];
	_Atomic bool closing; /* nobody comes any more */
	_Atomic bool done[FLEET];
	_Atomic uint32_t most_inside;
	_Atomic uint32_t most_waiting;
	_Atomic uint64_t served, turned_away;
};

static struct crowd *crowd;
static struct shm crowd_shm;

/* What a worker knows by itself; of one that was killed nothing is left. */
static struct {
	uint64_t tickets[WAITERS];
	uint32_t n_tickets, n_held;
} own;

static void raise_to(_Atomic uint32_t *most, uint32_t value)
{
	uint32_t seen = atomic_load(most);
	while (seen < value && !atomic_compare_exchange_weak(most, &seen, value))
		;
}

static void ring_firsts(void)
{
	struct line_first firsts[LINE_GENERATIONS];
	uint32_t n = line_firsts(&crowd_shm, 0, 0, firsts);
	for (uint32_t i = 0; i < n; i++)
		atomic_store(&crowd->rung[firsts[i].seat], true);
}

static void show(uint32_t me)
{
	line_show(&crowd_shm, 0, me, own.n_tickets ? own.tickets[0] : 0, 0);
}

static bool take_place(uint32_t me)
{
	if (!limit_reserve(&crowd_shm, me, limit_server(&crowd_shm, 0)))
		return false;
	raise_to(&crowd->most_inside, limit_used(&crowd_shm, limit_server(&crowd_shm, 0)));
	own.n_held++;
	return true;
}

static void arrive(uint32_t me)
{
	uint32_t line = limit_upstream(&crowd_shm, 0);
	if (own.n_tickets == WAITERS)
		return;
	if (!line_waits(&crowd_shm, 0) && take_place(me))
		return;
	if (!limit_reserve(&crowd_shm, me, line)) {
		atomic_fetch_add(&crowd->turned_away, 1);
		return;
	}
	raise_to(&crowd->most_waiting, limit_used(&crowd_shm, line));
	own.tickets[own.n_tickets++] = line_ticket(&crowd_shm, 0);
	if (own.n_tickets == 1)
		atomic_store(&crowd->rung[me], true);
}

static void leave(uint32_t me, uint32_t which)
{
	own.n_tickets--;
	memmove(&own.tickets[which], &own.tickets[which + 1], (own.n_tickets - which) * sizeof own.tickets[0]);
	if (which == 0)
		show(me);
	limit_release(&crowd_shm, me, limit_upstream(&crowd_shm, 0));
}

static void try(uint32_t me)
{
	bool moved = false;
	show(me);
	while (own.n_tickets && line_is_first(&crowd_shm, 0, me, own.tickets[0], 0)) {
		if (!take_place(me))
			return;
		atomic_fetch_add(&crowd->served, 1);
		leave(me, 0);
		moved = true;
	}
	if (moved)
		ring_firsts();
}

static void give_up(uint32_t me, uint64_t random)
{
	uint32_t which = (uint32_t)(random >> 8) % own.n_tickets;
	leave(me, which);
	if (which == 0)
		ring_firsts();
}

static void take_turn(uint32_t me, uint64_t random)
{
	if (atomic_exchange(&crowd->rung[me], false))
		try(me);
	bool closing = atomic_load(&crowd->closing);
	if (!closing && random % 4 == 0)
		arrive(me);
	if (random % 64 == 1 && own.n_tickets)
		give_up(me, random);
	if (random % 4 == 2 && own.n_held) {
		own.n_held--;
		limit_release(&crowd_shm, me, limit_server(&crowd_shm, 0));
		ring_firsts();
	}
	if (closing && !own.n_tickets && !own.n_held)
		atomic_store(&crowd->done[me], true);
}

static pid_t start(uint32_t me, uint64_t seed)
{
	memset(&own, 0, sizeof own);
	return fleet_start(&crowd->fleet, me, seed, take_turn);
}

/* As the master does. */
static void bury(uint32_t seat)
{
	line_clear(&crowd_shm, seat);
	while (limit_reclaim(&crowd_shm, seat) == -EAGAIN)
		sched_yield();
	for (uint32_t i = 0; i < FLEET; i++)
		atomic_store(&crowd->rung[i], true);
}

static void make_crowd(void)
{
	const struct shm_dims dims = { .seats = FLEET, .listeners = 1, .servers = 1 };
	crowd = fleet_map(sizeof *crowd);
	shm_init(&crowd_shm, fleet_map((size_t)shm_size_bytes(&dims)), &dims);
	crowd_shm.header->n_upstreams = crowd_shm.header->n_servers = 1;
	shm_limit(&crowd_shm, limit_server(&crowd_shm, 0))->max = PLACES;
	shm_limit(&crowd_shm, limit_upstream(&crowd_shm, 0))->max = QUEUE;
	for (uint32_t i = 0; i < FLEET; i++)
		crowd_shm.seats[i].state = SEAT_RUNNING;
}

static void drop_crowd(void)
{
	assert_int_equal(munmap(crowd_shm.header, (size_t)shm_size_bytes(&crowd_shm.dims)), 0);
	assert_int_equal(munmap(crowd, sizeof *crowd), 0);
}

/* Nobody waits for ever, no place is lost and none is given twice, however many workers are killed in the midst of it. */
static void test_nobody_is_forgotten(void **state)
{
	(void)state;
	pid_t pids[FLEET];
	make_crowd();
	for (uint32_t i = 0; i < FLEET; i++)
		pids[i] = start(i, i + 1);
	for (uint32_t kill = 0; kill < 100; kill++) {
		uint32_t who = kill % FLEET;
		fleet_wait(&crowd->fleet, who, 50 + kill * 7 % 100);
		fleet_kill(pids[who]);
		bury(who);
		pids[who] = start(who, 1000 + kill);
	}
	fleet_wait(&crowd->fleet, 0, 1000);
	atomic_store(&crowd->closing, true);
	for (uint32_t i = 0; i < FLEET; i++)
		while (!atomic_load(&crowd->done[i]))
			sched_yield();
	fleet_stop(&crowd->fleet, pids);
	assert_int_equal(limit_used(&crowd_shm, limit_server(&crowd_shm, 0)), 0);
	assert_int_equal(limit_used(&crowd_shm, limit_upstream(&crowd_shm, 0)), 0);
	assert_int_equal(crowd->most_inside, PLACES);
	assert_in_range(crowd->most_waiting, 2, QUEUE);
	assert_true(crowd->served > 100);
	for (uint32_t i = 0; i < FLEET; i++)
		assert_int_equal(shm_line_head(&crowd_shm, 0, i)->ticket, 0);
	drop_crowd();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tickets),
		cmocka_unit_test(test_the_least_ticket_is_first),
		cmocka_unit_test(test_who_does_not_look_is_passed_over),
		cmocka_unit_test(test_a_line_for_each_generation),
		cmocka_unit_test(test_a_row_made_anew_has_no_line),
		cmocka_unit_test(test_nobody_is_forgotten),
	};
	alarm(300); /* what hangs fails */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
