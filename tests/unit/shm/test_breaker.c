/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "base/clock.h"
#include "fleet.h"
#include "shm/breaker.h"

#define TIMEOUT_NS (30 * NS_PER_S)
static const struct breaker_limits limits = { .error_threshold = 5, .probes = 3, .timeout_ns = TIMEOUT_NS };
static const struct breaker_limits off = { .error_threshold = 0, .probes = 3, .timeout_ns = TIMEOUT_NS };

/* --- one process -------------------------------------------------------------------------------------------------------- */

static void expect(struct breaker *breaker, enum breaker_verdict verdict, uint64_t now_ns, struct breaker_pass *pass)
{
	struct breaker_pass unused;
	assert_int_equal(breaker_look(breaker, &limits, now_ns), verdict);
	assert_int_equal(breaker_ask(breaker, &limits, now_ns, pass ? pass : &unused), verdict);
}

static void fail_times(struct breaker *breaker, uint32_t times, uint64_t now_ns)
{
	for (uint32_t i = 0; i < times; i++) {
		struct breaker_pass pass;
		assert_int_not_equal(breaker_ask(breaker, &limits, now_ns, &pass), BREAKER_REFUSE);
		breaker_report(breaker, &limits, &pass, false, now_ns);
	}
}

static bool report(struct breaker *breaker, struct breaker_pass *pass, bool ok, uint64_t now_ns)
{
	return breaker_report(breaker, &limits, pass, ok, now_ns);
}

static void test_zeros_are_a_closed_breaker(void **state)
{
	(void)state;
	struct breaker breaker;
	memset(&breaker, 0, sizeof breaker);
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
	assert_int_equal(breaker_look(&breaker, &limits, 0), BREAKER_PASS);
	assert_true(breaker_due_ns(&breaker, &limits, 0) == UINT64_MAX);
	struct breaker_pass pass = { 0 }; /* and a pass of zeros is none */
	for (int i = 0; i < 20; i++)
		assert_false(report(&breaker, &pass, false, 1));
	assert_false(breaker_abandon(&breaker, &pass));
	assert_int_equal(breaker.round, 0);
	expect(&breaker, BREAKER_PASS, 0, &pass);
	assert_false(report(&breaker, &pass, true, 1));
	assert_int_equal(breaker.round, 0);
	assert_string_equal(breaker_state_name(BREAKER_HALF_OPEN), "half-open");
	assert_string_equal(breaker_state_name((enum breaker_state)99), "unknown");
}

static void test_failures_in_a_row_open_it(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	fail_times(&breaker, 4, 100);
	expect(&breaker, BREAKER_PASS, 100, &pass);
	assert_false(report(&breaker, &pass, true, 100)); /* not in a row */
	fail_times(&breaker, 4, 200);
	expect(&breaker, BREAKER_PASS, 200, &pass);
	assert_true(report(&breaker, &pass, false, 200));
	assert_int_equal(breaker_state(&breaker), BREAKER_OPEN);
	assert_int_equal(breaker.trips, 1);
	expect(&breaker, BREAKER_REFUSE, 200, NULL);
	expect(&breaker, BREAKER_REFUSE, 100, NULL); /* one whose turn began before */
	expect(&breaker, BREAKER_REFUSE, 200 + TIMEOUT_NS - 1, NULL);
	assert_true(breaker_due_ns(&breaker, &limits, 300) == 200 + TIMEOUT_NS);
	expect(&breaker, BREAKER_PROBE, 200 + TIMEOUT_NS, NULL);
	assert_int_equal(breaker_state(&breaker), BREAKER_HALF_OPEN);
}

/* What happens to connections that were let through at the same time: of each what it is and when it is told. */
static void test_late_results_of_a_former_epoch_change_nothing(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass late[20], probe[3];
	for (int i = 0; i < 20; i++)
		expect(&breaker, BREAKER_PASS, 1, &late[i]);
	for (int i = 0; i < 5; i++)
		assert_int_equal(report(&breaker, &late[i], false, 10), i == 4);
	assert_false(report(&breaker, &late[5], true, 20)); /* open */
	assert_false(report(&breaker, &late[6], false, 20));
	assert_int_equal(breaker_state(&breaker), BREAKER_OPEN);
	assert_int_equal(breaker.since_ns, 10);

	uint64_t now = 10 + TIMEOUT_NS;
	for (int i = 0; i < 3; i++)
		expect(&breaker, BREAKER_PROBE, now, &probe[i]);
	for (int i = 7; i < 11; i++)
		assert_false(report(&breaker, &late[i], i % 2, now)); /* half-open */
	expect(&breaker, BREAKER_REFUSE, now, NULL);
	assert_false(report(&breaker, &probe[0], true, now));
	assert_true(report(&breaker, &probe[1], false, now));
	assert_false(report(&breaker, &probe[2], false, now)); /* the round is over */
	assert_int_equal(breaker.trips, 2);

	now += TIMEOUT_NS;
	for (int i = 0; i < 3; i++)
		expect(&breaker, BREAKER_PROBE, now, &probe[i]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(report(&breaker, &probe[i], true, now), i == 2);
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
	for (int i = 11; i < 20; i++)
		assert_false(report(&breaker, &late[i], false, now)); /* closed again: old failures do not count */
	fail_times(&breaker, 4, now);
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
	assert_int_equal(breaker.trips, 2);
}

/* Opened at 10, and a round begun by the first probe at the time given back. */
static uint64_t half_open(struct breaker *breaker, struct breaker_pass *first)
{
	fail_times(breaker, 5, 10);
	expect(breaker, BREAKER_REFUSE, 10, NULL);
	expect(breaker, BREAKER_PROBE, 10 + TIMEOUT_NS, first);
	return 10 + TIMEOUT_NS;
}

static void test_a_pass_is_good_for_one_report(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	uint64_t now = half_open(&breaker, &pass);
	for (int i = 0; i < 5; i++)
		assert_false(report(&breaker, &pass, true, now));
	assert_false(breaker_abandon(&breaker, &pass));
	assert_false(report(&breaker, &pass, false, now));
	assert_int_equal(breaker_state(&breaker), BREAKER_HALF_OPEN);
}

static void test_an_abandoned_probe_goes_to_another(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass[3], late;
	uint64_t now = half_open(&breaker, &pass[0]);
	expect(&breaker, BREAKER_PROBE, now, &pass[1]);
	expect(&breaker, BREAKER_PROBE, now, &pass[2]);
	expect(&breaker, BREAKER_REFUSE, now, NULL);
	late = pass[1];
	assert_true(breaker_abandon(&breaker, &pass[1]));
	expect(&breaker, BREAKER_PROBE, now, &pass[1]);
	expect(&breaker, BREAKER_REFUSE, now, NULL);
	for (int i = 0; i < 3; i++)
		assert_int_equal(report(&breaker, &pass[i], true, now), i == 2);
	assert_false(breaker_abandon(&breaker, &late));
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
}

static void test_unanswered_probes_end_the_round(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass lost[3], pass[3];
	uint64_t now = half_open(&breaker, &lost[0]);
	expect(&breaker, BREAKER_PROBE, now, &lost[1]);
	now += TIMEOUT_NS / 2;
	expect(&breaker, BREAKER_PROBE, now, &lost[2]);
	assert_false(report(&breaker, &lost[1], true, now));
	expect(&breaker, BREAKER_REFUSE, now + TIMEOUT_NS - 1, NULL);
	assert_true(breaker_due_ns(&breaker, &limits, now) == now + TIMEOUT_NS);
	now += TIMEOUT_NS;
	for (int i = 0; i < 3; i++)
		expect(&breaker, BREAKER_PROBE, now, &pass[i]);
	expect(&breaker, BREAKER_REFUSE, now, NULL);
	assert_int_equal(breaker.trips, 2);
	assert_false(report(&breaker, &lost[0], false, now)); /* answered at last: too late for good or bad */
	assert_false(report(&breaker, &lost[2], true, now));
	for (int i = 0; i < 3; i++)
		assert_int_equal(report(&breaker, &pass[i], true, now), i == 2);
}

/* One connection in a long while: what was answered does not expire. */
static void test_few_connections_close_it_too(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	uint64_t now = half_open(&breaker, &pass);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(report(&breaker, &pass, true, now), i == 2);
		now += 10 * TIMEOUT_NS;
		expect(&breaker, i == 2 ? BREAKER_PASS : BREAKER_PROBE, now, &pass);
	}
	assert_int_equal(breaker.trips, 1);
}

static void test_off(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(breaker_ask(&breaker, &off, 1, &pass), BREAKER_PASS);
		assert_false(breaker_report(&breaker, &off, &pass, false, 1));
	}
	assert_int_equal(breaker.round, 0);
	uint64_t now = half_open(&breaker, &pass);
	assert_int_equal(breaker_look(&breaker, &off, now), BREAKER_PASS);
	assert_int_equal(breaker_ask(&breaker, &off, now, &pass), BREAKER_PASS);
	uint64_t round = breaker.round;
	assert_false(report(&breaker, &pass, false, now)); /* by one who has other settings: it was no probe */
	assert_int_equal(breaker.round, round);
}

/* A reload may change the numbers in the middle of anything. */
static void test_other_limits_half_way(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_limits other = limits;
	struct breaker_pass pass;
	fail_times(&breaker, 4, 1);
	other.error_threshold = 2;
	assert_int_equal(breaker_ask(&breaker, &other, 1, &pass), BREAKER_PASS);
	assert_true(breaker_report(&breaker, &other, &pass, false, 1));

	other.timeout_ns = 7;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(breaker_ask(&breaker, &other, 8, &pass), BREAKER_PROBE);
		assert_false(breaker_report(&breaker, &other, &pass, true, 8));
	}
	other.probes = 2; /* which all succeeded */
	assert_int_equal(breaker_ask(&breaker, &other, 8, &pass), BREAKER_PROBE);
	struct breaker_pass second;
	assert_int_equal(breaker_ask(&breaker, &other, 8, &second), BREAKER_REFUSE);
	assert_true(breaker_report(&breaker, &other, &pass, true, 8));
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);

	other = (struct breaker_limits){ .error_threshold = UINT32_MAX, .probes = 0, .timeout_ns = 0 };
	for (uint32_t i = 0; i < BREAKER_COUNT_MAX; i++) {
		assert_int_equal(breaker_ask(&breaker, &other, 9, &pass), BREAKER_PASS);
		assert_int_equal(breaker_report(&breaker, &other, &pass, false, 9), i == BREAKER_COUNT_MAX - 1);
	}
	assert_int_equal(breaker_ask(&breaker, &other, 9, &pass), BREAKER_PROBE);
	assert_true(breaker_report(&breaker, &other, &pass, true, 9));
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
}

static void test_the_ends_of_numbers(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	breaker.round = UINT64_MAX << 34; /* the last epoch */
	breaker.trips = UINT64_MAX;
	fail_times(&breaker, 5, 10);
	assert_int_equal(breaker_state(&breaker), BREAKER_OPEN);
	assert_int_equal(breaker.round >> 34, 0);
	assert_int_equal(breaker.trips, 0);
	expect(&breaker, BREAKER_PROBE, UINT64_MAX, &pass);
	assert_int_equal(pass.epoch, 1);

	struct breaker_limits for_ever = limits;
	for_ever.timeout_ns = UINT64_MAX;
	assert_true(report(&breaker, &pass, false, UINT64_MAX - 5));
	assert_int_equal(breaker_look(&breaker, &for_ever, UINT64_MAX - 1), BREAKER_REFUSE);
	assert_true(breaker_due_ns(&breaker, &for_ever, 20) == UINT64_MAX);

	struct breaker wide = { 0 }; /* as many probes as there can be */
	const struct breaker_limits many = { .error_threshold = 1, .probes = UINT32_MAX, .timeout_ns = 1 };
	assert_int_equal(breaker_ask(&wide, &many, 1, &pass), BREAKER_PASS);
	assert_true(breaker_report(&wide, &many, &pass, false, 1));
	for (uint32_t i = 0; i < BREAKER_COUNT_MAX; i++)
		assert_int_equal(breaker_ask(&wide, &many, 2, &pass), BREAKER_PROBE);
	struct breaker_pass none;
	assert_int_equal(breaker_ask(&wide, &many, 2, &none), BREAKER_REFUSE);
	for (uint32_t i = 0; i < BREAKER_COUNT_MAX; i++) {
		struct breaker_pass each = pass;
		assert_int_equal(breaker_report(&wide, &many, &each, true, 2), i == BREAKER_COUNT_MAX - 1);
	}
}

static void test_reset(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass, probe;
	uint64_t now = half_open(&breaker, &probe);
	breaker_reset(&breaker);
	expect(&breaker, BREAKER_PASS, now, &pass);
	assert_false(report(&breaker, &probe, false, now));
	assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
	assert_int_equal(breaker.trips, 1);
}

/* Killed between the two writes of a change: the moment was moved, the word was not. */
static void test_killed_between_two_writes(void **state)
{
	(void)state;
	struct breaker breaker = { 0 };
	struct breaker_pass pass;
	fail_times(&breaker, 4, 10);
	breaker.since_ns = 20; /* about to open it */
	fail_times(&breaker, 1, 15);
	expect(&breaker, BREAKER_REFUSE, 15 + TIMEOUT_NS, NULL);
	breaker.since_ns = 20 + TIMEOUT_NS; /* about to begin a round: once more as long */
	expect(&breaker, BREAKER_REFUSE, 20 + TIMEOUT_NS, NULL);
	expect(&breaker, BREAKER_PROBE, 20 + 2 * TIMEOUT_NS, &pass);
	breaker.since_ns += 5; /* about to take the second probe */
	expect(&breaker, BREAKER_PROBE, 20 + 2 * TIMEOUT_NS, NULL);
	assert_false(report(&breaker, &pass, true, 20 + 2 * TIMEOUT_NS));
}

/* --- many processes ----------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 300, ASKS = 50, KILLS = 300, TURNS_BETWEEN_KILLS = 2000, EPOCHS = 1 << 22 };

static struct board {
	struct fleet fleet;
	_Alignas(CACHE_LINE_BYTES) struct breaker breaker;
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t now;
	_Atomic uint32_t granted, asked;
	_Atomic uint32_t closed;
	_Atomic uint32_t violations;
	_Atomic bool answer, ok;
	_Atomic uint32_t used[EPOCHS]; /* probes in use, or used, by their epoch */
} * board;

static struct breaker_pass held[16];
static uint32_t n_held;

static void turn_of_a_round(uint32_t me, uint64_t random)
{
	(void)me, (void)random;
	uint64_t now = atomic_load(&board->now);
	if (atomic_load(&board->answer)) {
		for (; n_held > 0; n_held--)
			breaker_report(&board->breaker, &limits, &held[n_held - 1], atomic_load(&board->ok), now);
		return;
	}
	struct breaker_pass pass;
	enum breaker_verdict verdict = breaker_ask(&board->breaker, &limits, now, &pass);
	if (verdict == BREAKER_PROBE) {
		atomic_fetch_add(&board->granted, 1);
		if (n_held < ARRAY_LEN(held))
			held[n_held++] = pass;
	} else if (verdict == BREAKER_PASS) {
		atomic_fetch_add(&board->violations, 1);
	}
}

/* All of them ask as often as they can, then all of them answer. */
static void test_exactly_so_many_probes_in_each_round(void **state)
{
	(void)state;
	pid_t pids[FLEET];
	board = fleet_map(sizeof *board);
	atomic_store(&board->fleet.order, 1);
	for (uint32_t i = 0; i < FLEET; i++)
		pids[i] = fleet_start(&board->fleet, i, i, turn_of_a_round);

	uint64_t trips = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		if (breaker_state(&board->breaker) == BREAKER_CLOSED) {
			fail_times(&board->breaker, 5, board->now);
			trips++;
		}
		board->now += TIMEOUT_NS;
		board->granted = 0;
		board->answer = false;
		fleet_go_on(&board->fleet);
		for (uint32_t i = 0; i < FLEET; i++)
			fleet_wait(&board->fleet, i, ASKS);
		fleet_pause(&board->fleet);
		assert_int_equal(board->granted, 3);
		assert_int_equal(breaker_state(&board->breaker), BREAKER_HALF_OPEN);

		board->ok = round % 3 != 0;
		board->answer = true;
		fleet_go_on(&board->fleet);
		for (uint32_t i = 0; i < FLEET; i++)
			fleet_wait(&board->fleet, i, 1);
		fleet_pause(&board->fleet);
		assert_int_equal(breaker_state(&board->breaker), board->ok ? BREAKER_CLOSED : BREAKER_OPEN);
		trips += !board->ok; /* three failed, and it opened once */
		assert_int_equal(board->breaker.trips, trips);
	}
	assert_int_equal(board->violations, 0);
	fleet_stop(&board->fleet, pids);
	munmap(board, sizeof *board);
}

static void count_probe(const struct breaker_pass *pass)
{
	if (pass->epoch >= EPOCHS || atomic_fetch_add(&board->used[pass->epoch], 1) >= limits.probes)
		atomic_fetch_add(&board->violations, 1);
}

/* Anything may happen to a connection, in any order. The clock goes on with each turn. */
static void turn_of_chaos(uint32_t me, uint64_t random)
{
	(void)me;
	uint64_t now = atomic_fetch_add(&board->now, TIMEOUT_NS / 64);
	if (n_held < 4 && random & 1) {
		struct breaker_pass *pass = &held[n_held];
		enum breaker_verdict verdict = breaker_ask(&board->breaker, &limits, now, pass);
		if (verdict == BREAKER_PROBE)
			count_probe(pass);
		n_held += verdict != BREAKER_REFUSE;
	} else if (n_held > 0) {
		struct breaker_pass pass = held[--n_held];
		bool is_probe = pass.verdict == BREAKER_PROBE;
		if (random % 7 == 0) {
			if (is_probe) /* before it can go to another */
				atomic_fetch_sub(&board->used[pass.epoch], 1);
			breaker_abandon(&board->breaker, &pass);
		} else {
			bool ok = is_probe ? random % 5 != 0 : random % 11 == 0;
			if (breaker_report(&board->breaker, &limits, &pass, ok, now) && ok)
				atomic_fetch_add(&board->closed, 1);
		}
	}
}

static void test_killed_workers_while_others_go_on(void **state)
{
	(void)state;
	board = fleet_map(sizeof *board);
	fleet_suffer(&board->fleet, KILLS, TURNS_BETWEEN_KILLS, turn_of_chaos);
	assert_int_equal(board->violations, 0);
	assert_true(board->closed > 0);
	assert_true(board->breaker.trips > board->closed);

	/* whatever they left behind, it closes after two timeouts at the latest */
	uint64_t now = board->now + 2 * TIMEOUT_NS;
	for (int i = 0; breaker_state(&board->breaker) != BREAKER_CLOSED; i++) {
		struct breaker_pass pass;
		assert_true(i < 3);
		assert_int_equal(breaker_ask(&board->breaker, &limits, now, &pass), BREAKER_PROBE);
		(void)report(&board->breaker, &pass, true, now);
	}
	munmap(board, sizeof *board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zeros_are_a_closed_breaker),
		cmocka_unit_test(test_failures_in_a_row_open_it),
		cmocka_unit_test(test_late_results_of_a_former_epoch_change_nothing),
		cmocka_unit_test(test_a_pass_is_good_for_one_report),
		cmocka_unit_test(test_an_abandoned_probe_goes_to_another),
		cmocka_unit_test(test_unanswered_probes_end_the_round),
		cmocka_unit_test(test_few_connections_close_it_too),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_other_limits_half_way),
		cmocka_unit_test(test_the_ends_of_numbers),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_killed_between_two_writes),
		cmocka_unit_test(test_exactly_so_many_probes_in_each_round),
		cmocka_unit_test(test_killed_workers_while_others_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
