/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/rate.h"

static const uint64_t start_ns = 1000 * NS_PER_S;

static uint32_t drain(struct rate *rate, const struct rate_limit *limit, uint64_t now_ns)
{
	uint32_t passed = 0;
	while (rate_take(rate, limit, now_ns, NULL))
		passed++;
	return passed;
}

static void test_burst_on_top_of_one(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000, 100, 1);
	uint64_t wait_ns = 7;
	assert_true(rate_take(&rate, &limit, start_ns, &wait_ns));
	assert_int_equal(wait_ns, 0);
	assert_int_equal(drain(&rate, &limit, start_ns), 100);
	assert_int_equal(drain(&rate, &limit, start_ns + NS_PER_MS), 1);
	assert_int_equal(drain(&rate, &limit, start_ns + 51 * NS_PER_MS), 50);
	assert_int_equal(drain(&rate, &limit, start_ns + 3600 * NS_PER_S), 101); /* idle time is not saved up */
}

static void test_no_burst_is_one_at_a_time(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(10, 0, 1);
	for (uint64_t i = 0; i < 50; i++)
		assert_int_equal(drain(&rate, &limit, start_ns + i * 100 * NS_PER_MS), 1);
	assert_int_equal(drain(&rate, &limit, start_ns + 5 * NS_PER_S - 1), 0);
}

static void test_no_limit(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(0, 5, 1), zero = { 0 };
	uint64_t wait_ns = 7;
	for (int i = 0; i < 1000; i++)
		assert_true(rate_take(&rate, &limit, start_ns, &wait_ns) && rate_take(&rate, &zero, start_ns, &wait_ns));
	assert_int_equal(wait_ns, 0);
	assert_int_equal(rate_take_many(&rate, &zero, UINT32_MAX, start_ns, &wait_ns), UINT32_MAX);
	assert_int_equal(rate.tat, 0);
}

static void test_wait_is_exact(void **state)
{
	(void)state;
	static const uint64_t paces[] = { 1, 3, 7, 999, 1000, 100000, 3000000 };
	for (size_t i = 0; i < ARRAY_LEN(paces); i++) {
		struct rate rate = { 0 };
		struct rate_limit limit = rate_limit_make(paces[i], 3, 1);
		uint64_t now_ns = start_ns, wait_ns = 0;
		assert_int_equal(drain(&rate, &limit, now_ns), 4);
		for (int turn = 0; turn < 100; turn++) {
			assert_false(rate_take(&rate, &limit, now_ns, &wait_ns));
			assert_in_range(wait_ns, 1, NS_PER_S / paces[i] + 1);
			assert_false(rate_take(&rate, &limit, now_ns + wait_ns - 1, NULL));
			now_ns += wait_ns;
			assert_true(rate_take(&rate, &limit, now_ns, NULL));
		}
	}
}

/* What passes in five seconds, asked each step, is what the pace and the burst give to the unit. */
static void test_five_seconds_at_many_paces(void **state)
{
	(void)state;
	static const struct {
		uint64_t per_s, burst, step_ns, passes;
	} rows[] = {
		{ 1000, 100, 1000000, 5000 }, /* as often as the pace: the burst is never needed */
		{ 1000, 100, 999999, 5001 },
		{ 1000, 100, 500000, 5100 },
		{ 1000, 100, 333333, 5100 },
		{ 1000, 100, 10007, 5100 },
		{ 1000, 1, 333333, 5001 },
		{ 3, 2, 1000000, 17 },
		{ 3, 100, 77777, 115 },
		{ 100000, 100, 3333, 500100 },
		{ 100000, 5000, 1009, 505000 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rate rate = { 0 };
		struct rate_limit limit = rate_limit_make(rows[i].per_s, rows[i].burst, 1);
		uint64_t passed = 0;
		for (uint64_t t = 0; t < 5 * NS_PER_S; t += rows[i].step_ns)
			passed += rate_take(&rate, &limit, start_ns + t, NULL);
		assert_int_equal(passed, rows[i].passes);
	}
}

/* A third of a second each: on the dot, and not one nanosecond before, for five seconds. */
static void test_thirds(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(3, 1, 1);
	assert_int_equal(drain(&rate, &limit, start_ns), 2);
	for (uint64_t unit = 1; unit <= 15; unit++) {
		uint64_t at_ns = start_ns + (unit * NS_PER_S + 2) / 3;
		assert_int_equal(drain(&rate, &limit, at_ns - 1), 0);
		assert_int_equal(drain(&rate, &limit, at_ns), 1);
	}
}

/* Clocks of other processors, up to 50 us behind: not one more passes, and hardly one less. */
static void test_clock_that_is_behind(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000, 100, 1);
	uint64_t passed = 0, random = 88172645463325252U;
	for (uint64_t t = 0; t < 5 * NS_PER_S; t += 20000) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		passed += rate_take(&rate, &limit, start_ns + t - random % 50000, NULL);
	}
	assert_in_range(passed, 5099, 5100);
	assert_int_equal(drain(&rate, &limit, start_ns), 0); /* five seconds behind, far outside of what can be */
}

static void test_limit_changes_over_a_reload(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit fast = rate_limit_make(1000, 100, 1), faster = rate_limit_make(1000, 150, 1), slow = rate_limit_make(1, 5, 1);
	assert_int_equal(drain(&rate, &fast, start_ns), 101);
	assert_int_equal(drain(&rate, &fast, start_ns), 0);    /* the same limit made again */
	assert_int_equal(drain(&rate, &faster, start_ns), 50); /* only what is new */
	assert_int_equal(drain(&rate, &fast, start_ns), 0);
	assert_int_equal(drain(&rate, &slow, start_ns), 5);

	/* From a state that is seconds ahead to a limit with a depth of milliseconds: an empty bucket, not seconds of silence. */
	uint64_t wait_ns = 0;
	assert_false(rate_take(&rate, &fast, start_ns, &wait_ns));
	assert_int_equal(wait_ns, NS_PER_MS);
	assert_int_equal(drain(&rate, &fast, start_ns + NS_PER_MS - 1), 0);
	assert_int_equal(drain(&rate, &fast, start_ns + NS_PER_MS), 1);
	assert_int_equal(drain(&rate, &fast, start_ns + 11 * NS_PER_MS), 10);
}

static void test_limits_at_the_edges(void **state)
{
	(void)state;
	struct rate_limit limit = rate_limit_make(1, UINT64_MAX, UINT32_MAX); /* 136 years are cut to 208 days */
	assert_in_range(limit.depth, rate_time(207 * 86400 * NS_PER_S), rate_time(209 * 86400 * NS_PER_S));
	assert_int_equal(limit.quantum, limit.most);
	struct rate rate = { 0 };
	uint64_t wait_ns = 0, late_ns = UINT64_C(17) * 365 * 86400 * NS_PER_S;
	assert_int_equal(rate_take_many(&rate, &limit, UINT32_MAX, late_ns, &wait_ns), limit.most);
	assert_int_equal(wait_ns / NS_PER_S, limit.most); /* the next quantum */
	assert_int_equal(rate.tat >> 63, 0);
	assert_int_equal(rate_take_many(&rate, &limit, 1, late_ns + NS_PER_S, &wait_ns), 1);

	limit = rate_limit_make(1000, UINT64_MAX, 0);
	assert_int_equal(limit.quantum, 1);
	assert_int_equal(limit.most, UINT32_MAX);
	limit = rate_limit_make(UINT64_MAX, 0, 1); /* nothing that could be measured */
	rate = (struct rate){ 0 };
	for (int i = 0; i < 1000; i++)
		assert_true(rate_take(&rate, &limit, start_ns, NULL));
}

/* --- many at once ------------------------------------------------------------------------------------------------------------ */

static void test_many_up_to_what_there_is(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000000, 60000, 4000); /* a byte each microsecond */
	uint64_t wait_ns = 7;
	assert_int_equal(rate_take_many(&rate, &limit, 0, start_ns, &wait_ns), 0);
	assert_int_equal(rate_take_many(&rate, &limit, 50000, start_ns, &wait_ns), 50000);
	assert_int_equal(wait_ns, 0);
	assert_int_equal(rate_take_many(&rate, &limit, 50000, start_ns, &wait_ns), 14000);
	assert_int_equal(wait_ns, 4000 * NS_PER_US);

	/* nothing below a quantum, unless no more is wanted */
	assert_int_equal(rate_take_many(&rate, &limit, 50000, start_ns + 3999 * NS_PER_US, &wait_ns), 0);
	assert_int_equal(wait_ns, NS_PER_US);
	assert_int_equal(rate_take_many(&rate, &limit, 50000, start_ns + 3999 * NS_PER_US, NULL), 0);
	assert_int_equal(rate_take_many(&rate, &limit, 1500, start_ns + 3999 * NS_PER_US, &wait_ns), 1500);
	assert_int_equal(rate_take_many(&rate, &limit, 2500, start_ns + 3999 * NS_PER_US, &wait_ns), 0);
	assert_int_equal(wait_ns, NS_PER_US);
	assert_int_equal(rate_take_many(&rate, &limit, 2500, start_ns + 4000 * NS_PER_US, &wait_ns), 2500);

	/* the wait is for the rest where that is less than a quantum */
	assert_int_equal(rate_take_many(&rate, &limit, 5000, start_ns + 8000 * NS_PER_US, &wait_ns), 4000);
	assert_int_equal(wait_ns, 1000 * NS_PER_US);
	assert_int_equal(rate_take_many(&rate, &limit, UINT32_MAX, start_ns + 60 * NS_PER_S, &wait_ns), 64000); /* no more than full */
}

static void test_what_was_not_used_is_given_back(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000000, 60000, 4000), none = { 0 };
	assert_int_equal(rate_take_many(&rate, &limit, 64000, start_ns, NULL), 64000);
	rate_give_back(&rate, &limit, 63000);
	assert_int_equal(rate_take_many(&rate, &limit, 64000, start_ns, NULL), 63000);
	rate_give_back(&rate, &limit, 64000);
	assert_int_equal(rate_take_many(&rate, &limit, UINT32_MAX, start_ns + NS_PER_S, NULL), 64000);
	rate_give_back(&rate, &none, 5);
	assert_int_equal(rate_take_many(&rate, &limit, 1, start_ns + NS_PER_S, NULL), 0);
}

/* Five seconds of bytes in pieces of all sizes are what the pace gives, from slow lines to more than any network has. */
static void test_bytes_of_five_seconds(void **state)
{
	(void)state;
	static const uint64_t paces[] = { 1, 3, 1000, 56 * 1024, 1 << 20, 125000000, 12500000000 };
	for (size_t i = 0; i < ARRAY_LEN(paces); i++) {
		struct rate rate = { 0 };
		struct rate_limit limit = rate_limit_make(paces[i], 65536, 4096);
		uint64_t sum = 0, random = 88172645463325252U, now_ns = start_ns, end_ns = start_ns + 5 * NS_PER_S, wait_ns = 0;
		while (now_ns < end_ns) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			uint32_t wanted = (uint32_t)(random % 200000) + 1;
			sum += rate_take_many(&rate, &limit, wanted, now_ns, &wait_ns);
			now_ns += wait_ns + random % 64;
		}
		sum += rate_take_many(&rate, &limit, 4096, end_ns, NULL);
		double expected = 5 * (double)paces[i] + 65536 + 4096;
		assert_true((double)sum <= expected + 1 + expected * 2e-4); /* each take costs its time rounded down */
		assert_true((double)sum >= expected - 4096);
	}
}

/* --- many processes ---------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4 };

static struct board {
	_Alignas(CACHE_LINE_BYTES) struct rate rate;
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t clock_ns; /* the only clock: asking moves it */
	_Atomic uint64_t passed;
	_Atomic uint64_t turns[WORKERS];
	_Atomic uint64_t not_before_ns[WORKERS]; /* the time a worker asks with is no earlier; UINT64_MAX = not asking */
} * board;

static const uint64_t ask_every_ns = 10000;

/* A millisecond of ours is many seconds of that clock: do not leave a worker that is not running too far behind. */
static void wait_for_the_slowest(void)
{
	for (uint32_t seat = 0; seat < WORKERS; seat++)
		while (atomic_load(&board->not_before_ns[seat]) < atomic_load(&board->clock_ns) - NS_PER_S / 2)
			sched_yield();
}

_Noreturn static void run_worker(const struct rate_limit *limit, uint32_t seat, uint64_t end_ns)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		atomic_store(&board->not_before_ns[seat], UINT64_MAX);
		wait_for_the_slowest();
		atomic_store(&board->not_before_ns[seat], atomic_load(&board->clock_ns));
		uint64_t now_ns = atomic_fetch_add(&board->clock_ns, ask_every_ns);
		if (now_ns >= end_ns)
			break;
		if (rate_take(&board->rate, limit, now_ns, NULL))
			atomic_fetch_add(&board->passed, 1);
		atomic_fetch_add_explicit(&board->turns[seat], 1, memory_order_relaxed);
	}
	atomic_store(&board->not_before_ns[seat], UINT64_MAX);
	_exit(0);
}

static pid_t start_worker(const struct rate_limit *limit, uint32_t seat, uint64_t end_ns)
{
	pid_t pid = fork();
	if (pid == 0)
		run_worker(limit, seat, end_ns);
	assert_true(pid > 0);
	return pid;
}

static void test_booked_in_turn(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000, 99, 1);
	uint64_t at_ns = 7;
	assert_true(rate_book(&rate, &limit, 60, start_ns, 0, &at_ns));
	assert_int_equal(at_ns, start_ns);
	assert_true(rate_book(&rate, &limit, 60, start_ns, RATE_PATIENCE_NS, &at_ns)); /* 40 are there */
	assert_int_equal(at_ns, start_ns + 20 * NS_PER_MS);
	assert_true(rate_book(&rate, &limit, 60, start_ns, RATE_PATIENCE_NS, &at_ns));
	assert_int_equal(at_ns, start_ns + 80 * NS_PER_MS);
	assert_false(rate_take(&rate, &limit, start_ns + 79 * NS_PER_MS, NULL)); /* all is booked */
	assert_true(rate_take(&rate, &limit, start_ns + 81 * NS_PER_MS, NULL));
	assert_true(rate_book(&rate, &limit, 60, start_ns + 3600 * NS_PER_S, 0, &at_ns)); /* long over */
	assert_int_equal(at_ns, start_ns + 3600 * NS_PER_S);
}

static void test_booked_only_so_far_ahead(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000, 99, 1);
	uint64_t at_ns;
	assert_true(rate_book(&rate, &limit, 100, start_ns, 0, &at_ns));
	for (uint64_t i = 1; i <= 10; i++) {
		assert_true(rate_book(&rate, &limit, 100, start_ns, RATE_PATIENCE_NS, &at_ns));
		assert_int_equal(at_ns, start_ns + i * 100 * NS_PER_MS);
	}
	assert_false(rate_book(&rate, &limit, 50, start_ns, RATE_PATIENCE_NS, &at_ns));
	assert_in_range(at_ns, start_ns + 50 * NS_PER_MS, start_ns + 50 * NS_PER_MS + 1);
	assert_false(rate_book(&rate, &limit, 50, at_ns - 2, RATE_PATIENCE_NS, &at_ns));
	assert_true(rate_book(&rate, &limit, 50, at_ns, RATE_PATIENCE_NS, &at_ns));
	assert_int_equal(at_ns / NS_PER_MS, start_ns / NS_PER_MS + 1050);
}

static void test_booked_and_given_back(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(1000, 99, 1);
	uint64_t at_ns;
	for (int i = 0; i < 5; i++)
		assert_true(rate_book(&rate, &limit, 100, start_ns, RATE_PATIENCE_NS, &at_ns));
	for (int i = 0; i < 4; i++)
		rate_give_back(&rate, &limit, 100);
	assert_true(rate_book(&rate, &limit, 100, start_ns, RATE_PATIENCE_NS, &at_ns));
	assert_int_equal(at_ns, start_ns + 100 * NS_PER_MS);
}

/* What was booked with a slow limit does not hold up who comes with a fast one. */
static void test_booked_with_another_limit(void **state)
{
	(void)state;
	struct rate rate = { 0 };
	struct rate_limit slow = rate_limit_make(10, 99, 1), fast = rate_limit_make(100000, 99, 1);
	uint64_t at_ns;
	assert_true(rate_book(&rate, &slow, 100, start_ns, 0, &at_ns));
	assert_true(rate_book(&rate, &fast, 100, start_ns, RATE_PATIENCE_NS, &at_ns));
	assert_int_equal(at_ns, start_ns + NS_PER_MS);
	struct rate_limit none = rate_limit_make(0, 0, 1);
	assert_true(rate_book(&rate, &none, 1000000, start_ns, 0, &at_ns));
	assert_int_equal(at_ns, start_ns);
}

/* A hundred who always want more: each has its share, and all together what there is. */
static void test_booked_by_many(void **state)
{
	(void)state;
	enum { MANY = 100, SECONDS = 10 };
	struct rate rate = { 0 };
	struct rate_limit limit = rate_limit_make(100000, 9999, 1);
	uint64_t ready_ns[MANY], got[MANY] = { 0 }, all = 0;
	for (unsigned i = 0; i < MANY; i++)
		ready_ns[i] = start_ns;
	for (uint64_t now_ns = start_ns; now_ns < start_ns + SECONDS * NS_PER_S; now_ns += NS_PER_MS)
		for (unsigned i = 0; i < MANY; i++)
			while (ready_ns[i] <= now_ns) {
				assert_true(rate_book(&rate, &limit, 500, now_ns, RATE_PATIENCE_NS, &ready_ns[i]));
				got[i] += 500; /* and used at ready_ns */
				all += 500;
				if (ready_ns[i] == now_ns)
					break;
			}
	assert_in_range(all, SECONDS * 100000, SECONDS * 100000 + 10000 + MANY * 500);
	for (unsigned i = 0; i < MANY; i++)
		assert_in_range(got[i], all / MANY - 1000, all / MANY + 1000);
}

static int make_board(void **state)
{
	(void)state;
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((void *)board == MAP_FAILED)
		return -1;
	board->clock_ns = start_ns;
	for (uint32_t seat = 0; seat < WORKERS; seat++)
		board->not_before_ns[seat] = UINT64_MAX;
	return 0;
}

static int drop_board(void **state)
{
	(void)state;
	return munmap(board, sizeof *board);
}

static void wait_for_workers(const pid_t *pids)
{
	for (uint32_t seat = 0; seat < WORKERS; seat++) {
		int status;
		assert_int_equal(waitpid(pids[seat], &status, 0), pids[seat]);
		assert_int_equal(status, 0);
	}
}

static void test_all_workers_together(void **state)
{
	(void)state;
	struct rate_limit limit = rate_limit_make(1000, 100, 1);
	uint64_t end_ns = start_ns + 5 * NS_PER_S;
	pid_t pids[WORKERS];
	for (uint32_t seat = 0; seat < WORKERS; seat++)
		pids[seat] = start_worker(&limit, seat, end_ns);
	wait_for_workers(pids);
	assert_in_range(board->passed, 4998, 5100);
	assert_int_equal(board->passed + drain(&board->rate, &limit, end_ns - 1), 5100);
}

/* A killed worker takes at most the unit with it that it had just taken. */
static void test_killed_workers(void **state)
{
	(void)state;
	enum { KILLS = 200, SECONDS = 40 };
	struct rate_limit limit = rate_limit_make(1000, 100, 1);
	uint64_t end_ns = start_ns + SECONDS * NS_PER_S, random = 88172645463325252U;
	pid_t pids[WORKERS];
	for (uint32_t seat = 0; seat < WORKERS; seat++)
		pids[seat] = start_worker(&limit, seat, end_ns);
	for (int kills = 0; kills < KILLS; kills++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		uint32_t seat = (uint32_t)(random % WORKERS);
		uint64_t until = atomic_load(&board->turns[seat]) + random / WORKERS % 2000;
		while (atomic_load(&board->turns[seat]) < until && atomic_load(&board->clock_ns) < end_ns)
			sched_yield();
		assert_int_equal(kill(pids[seat], SIGKILL), 0);
		assert_int_equal(waitpid(pids[seat], NULL, 0), pids[seat]);
		atomic_store(&board->not_before_ns[seat], UINT64_MAX);
		pids[seat] = start_worker(&limit, seat, end_ns);
	}
	wait_for_workers(pids);
	uint64_t all = board->passed + drain(&board->rate, &limit, end_ns - 1);
	assert_in_range(all, SECONDS * 1000 + 100 - KILLS, SECONDS * 1000 + 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_on_top_of_one),
		cmocka_unit_test(test_no_burst_is_one_at_a_time),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_wait_is_exact),
		cmocka_unit_test(test_five_seconds_at_many_paces),
		cmocka_unit_test(test_thirds),
		cmocka_unit_test(test_clock_that_is_behind),
		cmocka_unit_test(test_limit_changes_over_a_reload),
		cmocka_unit_test(test_limits_at_the_edges),
		cmocka_unit_test(test_many_up_to_what_there_is),
		cmocka_unit_test(test_what_was_not_used_is_given_back),
		cmocka_unit_test(test_bytes_of_five_seconds),
		cmocka_unit_test(test_booked_in_turn),
		cmocka_unit_test(test_booked_only_so_far_ahead),
		cmocka_unit_test(test_booked_and_given_back),
		cmocka_unit_test(test_booked_with_another_limit),
		cmocka_unit_test(test_booked_by_many),
		cmocka_unit_test_setup_teardown(test_all_workers_together, make_board, drop_board),
		cmocka_unit_test_setup_teardown(test_killed_workers, make_board, drop_board),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
