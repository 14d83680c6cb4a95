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
#include "shm/ejection.h"

#define EJECTION_NS (30 * NS_PER_S)
enum { SERVERS = 10 };

static const struct ejection_limits limits = { .failures = 5, .max_percent = 50, .ejection_ns = EJECTION_NS };

/* --- one process -------------------------------------------------------------------------------------------------------- */

static struct ejection servers[SERVERS];
static struct ejection *members[SERVERS];
static const uint64_t start = 1000 * NS_PER_S;

static int make_servers(void **state)
{
	(void)state;
	memset(servers, 0, sizeof servers);
	for (uint32_t i = 0; i < SERVERS; i++)
		members[i] = &servers[i];
	return 0;
}

static struct ejection_group group_of(uint32_t n)
{
	return (struct ejection_group){ .members = members, .n = n };
}

static bool fails(uint32_t server, uint32_t n, const struct ejection_limits *by, uint64_t now_ns)
{
	const struct ejection_group group = group_of(n);
	return ejection_report(&servers[server], by, &group, false, now_ns);
}

/* Enough failures in a row. True when the last one, and none before, ejected the server. */
static bool eject(uint32_t server, uint32_t n, const struct ejection_limits *by, uint64_t now_ns)
{
	for (uint32_t i = 1; i < by->failures; i++)
		assert_false(fails(server, n, by, now_ns));
	return fails(server, n, by, now_ns);
}

static bool is_ejected(uint32_t server, uint64_t now_ns)
{
	return ejection_until_ns(&servers[server]) > now_ns;
}

static void test_zeros_are_a_server_that_never_failed(void **state)
{
	(void)state;
	assert_true(ejection_until_ns(&servers[0]) == 0);
	assert_int_equal(ejection_times(&servers[0], &limits, start), 1);
	const struct ejection_group group = group_of(2);
	assert_false(ejection_report(&servers[0], &limits, &group, true, start));
	assert_int_equal(servers[0].word, 0);
}

static void test_failures_in_a_row_eject(void **state)
{
	(void)state;
	const struct ejection_group group = group_of(2);
	for (int i = 0; i < 4; i++)
		assert_false(fails(0, 2, &limits, start));
	assert_false(ejection_report(&servers[0], &limits, &group, true, start)); /* not in a row */
	assert_true(eject(0, 2, &limits, start));
	assert_true(ejection_until_ns(&servers[0]) == start + EJECTION_NS);
	assert_int_equal(servers[0].count, 1);
	for (uint64_t i = 0; i < 20; i++) /* of connections that were under way */
		assert_false(fails(0, 2, &limits, start + i));
	assert_true(ejection_until_ns(&servers[0]) == start + EJECTION_NS);
	assert_int_equal(servers[0].failures, 0);
	assert_true(is_ejected(0, start + EJECTION_NS - 1));
	assert_false(is_ejected(0, start + EJECTION_NS));
}

static void test_off(void **state)
{
	(void)state;
	const struct ejection_limits off = { .failures = 0, .max_percent = 100, .ejection_ns = 1 };
	for (int i = 0; i < 100; i++)
		assert_false(fails(0, 2, &off, start));
	assert_int_equal(servers[0].failures, 0);
	const struct ejection_limits first = { .failures = 1, .max_percent = 100, .ejection_ns = 1 };
	assert_true(fails(0, 2, &first, start));
}

static void test_longer_each_time_and_forgiven(void **state)
{
	(void)state;
	uint64_t now = start;
	for (uint32_t times = 1; times <= 13; times++) {
		uint32_t multiple = times < EJECTION_TIMES_MAX ? times : EJECTION_TIMES_MAX;
		assert_int_equal(ejection_times(&servers[0], &limits, now), multiple);
		assert_true(eject(0, 2, &limits, now));
		assert_true(ejection_until_ns(&servers[0]) == now + multiple * EJECTION_NS);
		now = ejection_until_ns(&servers[0]);
	}
	assert_int_equal(servers[0].count, 13);
	/* one for each ejection_ns without being ejected */
	assert_int_equal(ejection_times(&servers[0], &limits, now + EJECTION_NS - 1), 10);
	assert_int_equal(ejection_times(&servers[0], &limits, now + 4 * EJECTION_NS), 7);
	assert_int_equal(ejection_times(&servers[0], &limits, now + 9 * EJECTION_NS), 2);
	assert_int_equal(ejection_times(&servers[0], &limits, now + 1000 * EJECTION_NS), 1);
	now += 4 * EJECTION_NS;
	assert_true(eject(0, 2, &limits, now));
	assert_true(ejection_until_ns(&servers[0]) == now + 7 * EJECTION_NS);
}

/* Of n servers as many as max_percent allows, rounded down. */
static void test_no_more_than_max_percent(void **state)
{
	static const struct {
		uint32_t n, max_percent, places;
	} rows[] = {
		{ 1, 50, 0 },
		{ 1, 100, 1 },
		{ 2, 50, 1 },
		{ 2, 49, 0 },
		{ 3, 33, 0 },
		{ 3, 34, 1 },
		{ 3, 50, 1 },
		{ 3, 67, 2 },
		{ 10, 50, 5 },
		{ 10, 59, 5 },
		{ 10, 0, 0 },
		{ 10, 9, 0 },
		{ 10, 99, 9 },
		{ 10, 100, 10 },
	};
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct ejection_limits by = limits;
		by.max_percent = rows[row].max_percent;
		make_servers(state);
		for (uint32_t i = 0; i < rows[row].n; i++)
			assert_int_equal(eject(i, rows[row].n, &by, start), i < rows[row].places);
		for (uint32_t i = 0; i < rows[row].n; i++)
			assert_int_equal(is_ejected(i, start), i < rows[row].places);
	}
}

static void test_one_too_many_waits_for_a_place(void **state)
{
	(void)state;
	assert_true(eject(0, 2, &limits, start));
	assert_false(eject(1, 2, &limits, start));
	assert_int_equal(servers[1].failures, 0); /* counts anew: not each failure looks at all servers */
	assert_false(eject(1, 2, &limits, start + EJECTION_NS - 1));
	assert_int_equal(servers[1].word, 0);
	assert_true(eject(1, 2, &limits, start + EJECTION_NS));
	assert_false(eject(0, 2, &limits, start + EJECTION_NS)); /* and its turn is kept for later */
	assert_true(ejection_until_ns(&servers[0]) == start + EJECTION_NS);
	assert_int_equal(ejection_times(&servers[0], &limits, start + EJECTION_NS), 2);
}

static void test_the_ends_of_numbers(void **state)
{
	(void)state;
	const struct ejection_limits for_ever = { .failures = 1, .max_percent = 100, .ejection_ns = UINT64_MAX };
	assert_true(fails(0, 2, &for_ever, UINT64_MAX / 2));
	assert_true(ejection_until_ns(&servers[0]) > UINT64_MAX - NS_PER_US);
	assert_false(is_ejected(0, UINT64_MAX));
	const struct ejection_limits moment = { .failures = 1, .max_percent = 100, .ejection_ns = 0 };
	assert_true(fails(1, 2, &moment, start));
	assert_false(is_ejected(1, start));
	assert_true(fails(1, 2, &moment, start + 1)); /* up to the microsecond */
	assert_true(ejection_until_ns(&servers[1]) == start + NS_PER_US);

	const struct ejection_limits never = { .failures = UINT32_MAX, .max_percent = 100, .ejection_ns = 1 };
	servers[2].failures = UINT32_MAX - 1;
	assert_true(fails(2, 3, &never, start));
	servers[3].failures = UINT32_MAX;
	assert_true(fails(3, 4, &never, start));
	assert_int_equal(servers[3].failures, 0);

	servers[4].count = UINT32_MAX;
	assert_true(eject(4, 10, &limits, start));
	assert_int_equal(servers[4].count, 0);
}

static void test_reset(void **state)
{
	(void)state;
	assert_true(eject(0, 2, &limits, start));
	assert_false(fails(1, 2, &limits, start));
	ejection_reset(&servers[0]);
	ejection_reset(&servers[1]);
	assert_false(is_ejected(0, start));
	assert_int_equal(servers[0].count, 1);
	assert_true(eject(1, 2, &limits, start));
	assert_true(ejection_until_ns(&servers[1]) == start + EJECTION_NS);
}

/* --- in the middle ------------------------------------------------------------------------------------------------------ */

/* A member that stops whoever counts it: its memory may not be read until something has happened. */
static struct ejection *trap;
static void (*in_the_middle)(void);

static void on_trap(int signal)
{
	(void)signal;
	void (*act)(void) = in_the_middle;
	in_the_middle = NULL;
	if (act)
		act();
	if (mprotect(trap, sizeof *trap, PROT_READ | PROT_WRITE) != 0)
		_exit(1);
}

static void set_trap(void (*act)(void))
{
	const struct sigaction action = { .sa_handler = on_trap, .sa_flags = SA_NODEFER };
	trap = fleet_map(sizeof *trap);
	assert_int_equal(mprotect(trap, sizeof *trap, PROT_NONE), 0);
	in_the_middle = act;
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

static void remove_trap(void)
{
	signal(SIGSEGV, SIG_DFL);
	assert_null(in_the_middle);
	munmap(trap, sizeof *trap);
}

static struct ejection others[1]; /* the third server, for who is not to be stopped */
static uint64_t then_ns;
static bool was_ejected;

static void another_ejects_server_1(void)
{
	struct ejection *const seen[] = { &servers[0], &servers[1], &others[0] };
	const struct ejection_group group = { .members = seen, .n = 3 };
	for (int i = 0; i < 5; i++)
		was_ejected = ejection_report(&servers[1], &limits, &group, false, then_ns);
}

/* Server 0 is to be ejected, of 3 of which one may; in the middle server 1 is, later by so much. True when server 0 was. */
static bool eject_with_trap(struct ejection *first, struct ejection *second, uint64_t later_ns)
{
	struct ejection *const seen[] = { first, second, &servers[0] };
	const struct ejection_group group = { .members = seen, .n = 3 };
	bool ejected = false;
	then_ns = start + later_ns;
	for (int i = 0; i < 5; i++)
		ejected = ejection_report(&servers[0], &limits, &group, false, start);
	return ejected;
}

static void test_two_at_once(void **state)
{
	(void)state;
	for (int trap_first = 0; trap_first < 2; trap_first++) {
		make_servers(NULL);
		set_trap(another_ejects_server_1);
		bool ejected = trap_first ? eject_with_trap(trap, &servers[1], 0) : eject_with_trap(&servers[1], trap, 0);
		assert_false(was_ejected); /* it saw the reservation, and went without */
		assert_true(ejected);
		remove_trap();
	}
}

/* Who fell asleep in the middle finds his reservation gone. */
static void test_a_sleeper_ejects_nobody(void **state)
{
	(void)state;
	for (int trap_first = 0; trap_first < 2; trap_first++) {
		make_servers(NULL);
		set_trap(another_ejects_server_1);
		uint64_t later_ns = 2 * NS_PER_S;
		bool ejected = trap_first ? eject_with_trap(trap, &servers[1], later_ns) : eject_with_trap(&servers[1], trap, later_ns);
		assert_true(was_ejected);
		assert_false(ejected);
		assert_true(ejection_until_ns(&servers[0]) == 0);
		assert_true(is_ejected(1, start + later_ns));
		assert_true(eject(0, 2, &limits, ejection_until_ns(&servers[1]))); /* and is as it was */
		remove_trap();
	}
}

static _Noreturn void die(void)
{
	kill(getpid(), SIGKILL);
	_exit(1);
}

/* What a killed worker had reserved is free again after a second, for whoever asks. */
static void test_killed_in_the_middle(void **state)
{
	(void)state;
	struct ejection *shared = fleet_map(3 * sizeof *shared);
	pid_t pid = fork();
	if (pid == 0) {
		set_trap(die);
		struct ejection *const seen[] = { &shared[0], &shared[1], trap };
		const struct ejection_group group = { .members = seen, .n = 3 };
		for (int i = 0; i < 5; i++)
			ejection_report(&shared[0], &limits, &group, false, start);
		_exit(2);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	struct ejection *const seen[] = { &shared[0], &shared[1], &shared[2] };
	const struct ejection_group group = { .members = seen, .n = 3 };
	const struct ejection_limits at_once = { .failures = 1, .max_percent = 34, .ejection_ns = NS_PER_S };
	uint64_t word = shared[0].word;
	assert_int_not_equal(word, 0);
	assert_true(ejection_until_ns(&shared[0]) == 0); /* reserved is not ejected */
	assert_false(ejection_report(&shared[1], &at_once, &group, false, start + NS_PER_S - 1));
	assert_false(ejection_report(&shared[0], &at_once, &group, false, start + NS_PER_S - 1));
	assert_true(shared[0].word == word);
	assert_true(ejection_report(&shared[1], &at_once, &group, false, start + NS_PER_S));
	assert_true(ejection_report(&shared[0], &at_once, &group, false, start + 2 * NS_PER_S));
	assert_true(ejection_until_ns(&shared[0]) == start + 3 * NS_PER_S);

	shared[0].word = word; /* and the server itself need not wait for another one to clear it */
	assert_true(ejection_report(&shared[0], &at_once, &group, false, start + 4 * NS_PER_S));
	munmap(shared, 3 * sizeof *shared);
}

/* --- many processes ----------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 100, TURNS = 400 };

static struct board {
	struct fleet fleet;
	_Atomic uint64_t now;
	_Atomic uint32_t violations;
	_Atomic uint32_t told; /* ejections that someone was told to have made */
	struct ejection servers[SERVERS];
} * board;

static uint32_t count_ejected(uint64_t now_ns)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < SERVERS; i++)
		n += ejection_until_ns(&board->servers[i]) > now_ns;
	return n;
}

static uint32_t sum_of_counts(void)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < SERVERS; i++)
		sum += board->servers[i].count;
	return sum;
}

static void turn(uint32_t me, uint64_t random)
{
	(void)me;
	const struct ejection_group group = group_of(SERVERS);
	uint64_t now = atomic_load(&board->now);
	if (ejection_report(&board->servers[random % SERVERS], &limits, &group, random % 1009 == 0, now))
		atomic_fetch_add(&board->told, 1);
	if (random % 8 == 0 && count_ejected(now) > SERVERS / 2)
		atomic_fetch_add(&board->violations, 1);
}

/* All servers fail, and all workers know. Time stands still while they work, so that no ejection is over when the next one begins. */
static void test_killed_workers_while_others_go_on(void **state)
{
	(void)state;
	pid_t pids[FLEET];
	uint64_t random = 88172645463325252U;
	board = fleet_map(sizeof *board);
	atomic_store(&board->fleet.order, 1);
	board->now = start;
	for (uint32_t i = 0; i < SERVERS; i++)
		members[i] = &board->servers[i];
	for (uint32_t i = 0; i < FLEET; i++)
		pids[i] = fleet_start(&board->fleet, i, i, turn);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		fleet_go_on(&board->fleet);
		for (uint32_t n = 0; n < 4; n++) {
			uint32_t who = (uint32_t)(fleet_random(&random) % FLEET);
			fleet_wait(&board->fleet, who, fleet_random(&random) % TURNS);
			fleet_kill(pids[who]);
			pids[who] = fleet_start(&board->fleet, who, 100 + 4 * round + n, turn);
		}
		fleet_pause(&board->fleet);
		assert_true(count_ejected(board->now) <= SERVERS / 2);

		board->told = 0;
		uint32_t before = sum_of_counts();
		board->now += 2 * NS_PER_S; /* reservations of the dead end, ejections do not */
		fleet_go_on(&board->fleet);
		for (uint32_t i = 0; i < FLEET; i++)
			fleet_wait(&board->fleet, i, TURNS);
		fleet_pause(&board->fleet);
		assert_int_equal(count_ejected(board->now), SERVERS / 2);
		assert_int_equal(sum_of_counts() - before, board->told);
		board->now += EJECTION_TIMES_MAX * EJECTION_NS;
		assert_int_equal(count_ejected(board->now), 0);
	}
	assert_int_equal(board->violations, 0);
	fleet_stop(&board->fleet, pids);
	munmap(board, sizeof *board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_zeros_are_a_server_that_never_failed, make_servers),
		cmocka_unit_test_setup(test_failures_in_a_row_eject, make_servers),
		cmocka_unit_test_setup(test_off, make_servers),
		cmocka_unit_test_setup(test_longer_each_time_and_forgiven, make_servers),
		cmocka_unit_test_setup(test_no_more_than_max_percent, make_servers),
		cmocka_unit_test_setup(test_one_too_many_waits_for_a_place, make_servers),
		cmocka_unit_test_setup(test_the_ends_of_numbers, make_servers),
		cmocka_unit_test_setup(test_reset, make_servers),
		cmocka_unit_test(test_two_at_once),
		cmocka_unit_test(test_a_sleeper_ejects_nobody),
		cmocka_unit_test(test_killed_in_the_middle),
		cmocka_unit_test(test_killed_workers_while_others_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
