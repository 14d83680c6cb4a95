/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "segment.h"
#include "shm/limit.h"

/* --- one process -------------------------------------------------------------------------------------------------------- */

static void test_reserve_up_to_the_limit(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 2, 1, 1);
	uint32_t limit = limit_listener(0);
	shm_limit(&shm, limit)->max = 3;
	assert_true(limit_reserve(&shm, 0, limit));
	assert_true(limit_reserve(&shm, 1, limit));
	assert_true(limit_reserve(&shm, 0, limit));
	assert_false(limit_reserve(&shm, 1, limit));
	assert_int_equal(limit_used(&shm, limit), 3);
	assert_int_equal(*shm_ledger(&shm, 0, limit), 2);
	assert_int_equal(*shm_ledger(&shm, 1, limit), 1);
	limit_release(&shm, 0, limit);
	assert_true(limit_reserve(&shm, 1, limit));
	assert_int_equal(limit_used(&shm, limit_global()), 0);

	shm_limit(&shm, limit)->max = 1; /* lowered under what is held: nobody new until enough are gone */
	limit_release(&shm, 1, limit);
	assert_false(limit_reserve(&shm, 1, limit));
	limit_release(&shm, 1, limit);
	limit_release(&shm, 0, limit);
	assert_true(limit_reserve(&shm, 1, limit));
	shm_limit(&shm, limit)->max = 0; /* no limit, and still counted */
	for (int i = 0; i < 1000; i++)
		assert_true(limit_reserve(&shm, 0, limit));
	assert_int_equal(limit_used(&shm, limit), 1001);
	assert_int_equal(shm.seats[0].ledger_sequence % 2, 0);
	assert_int_equal(shm.seats[1].ledger_sequence % 2, 0);
	segment_drop(&shm);
}

/* Two seats: 0 lives and holds some, 1 is going to die. */
static void make_pair(struct shm *shm)
{
	segment_make(shm, 3, 2, 2);
	shm->header->n_listeners = shm->header->n_servers = 2;
	shm->header->n_upstreams = SHM_UPSTREAMS;
	for (uint32_t limit = 0; limit < shm_n_limits(shm); limit++) {
		for (uint32_t i = 0; i <= limit; i++)
			assert_true(limit_reserve(shm, 0, limit));
		for (uint32_t i = 0; i < 2 * limit; i++)
			assert_true(limit_reserve(shm, 1, limit));
	}
	shm->seats[0].state = shm->seats[1].state = SEAT_RUNNING;
}

static void expect_only_seat_0(struct shm *shm)
{
	for (uint32_t limit = 0; limit < shm_n_limits(shm); limit++) {
		assert_int_equal(limit_used(shm, limit), limit + 1);
		assert_int_equal(*shm_ledger(shm, 0, limit), limit + 1);
		assert_int_equal(*shm_ledger(shm, 1, limit), 0);
	}
}

static void test_reclaim_what_a_dead_seat_held(void **state)
{
	(void)state;
	struct shm shm;
	make_pair(&shm);
	assert_int_equal(limit_reclaim(&shm, 1), 0);
	expect_only_seat_0(&shm);
	assert_int_equal(limit_reclaim(&shm, 1), 0); /* once more changes nothing, nor does it for a seat that never was */
	assert_int_equal(limit_reclaim(&shm, 2), 0);
	expect_only_seat_0(&shm);
	segment_drop(&shm);
}

/* Killed at each point of a reserve and of a release. */
static void test_reclaim_from_half_way(void **state)
{
	(void)state;
	static const struct {
		uint32_t sequence, used;
		int32_t ledger;
	} points[] = {
		{ 1, 0, 0 },  /* reserve: begun; release: begun */
		{ 1, 1, 0 },  /* reserve: counted, not in the ledger */
		{ 1, 1, 1 },  /* reserve: both, not ended */
		{ 1, 0, -1 }, /* release: out of the ledger, still counted */
		{ 2, 1, 1 },
	};
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		struct shm shm;
		make_pair(&shm);
		uint32_t limit = limit_server(&shm, 1);
		shm.seats[1].ledger_sequence += points[i].sequence;
		shm_limit(&shm, limit)->used += points[i].used;
		*shm_ledger(&shm, 1, limit) += (uint32_t)points[i].ledger;
		assert_int_equal(limit_reclaim(&shm, 1), 0);
		expect_only_seat_0(&shm);
		/* the next worker in the seat starts from nothing */
		assert_true(limit_reserve(&shm, 1, limit));
		assert_int_equal(*shm_ledger(&shm, 1, limit), 1);
		limit_release(&shm, 1, limit);
		expect_only_seat_0(&shm);
		segment_drop(&shm);
	}
}

static uint32_t nobodys(const void *arg, uint32_t limit)
{
	return limit == *(const uint32_t *)arg ? 2 : 0;
}

/* Places that were left stay counted when who left them dies; one that died with what it had just taken is counted no longer. */
static void test_reclaim_but_what_was_left(void **state)
{
	(void)state;
	struct shm shm;
	make_pair(&shm);
	uint32_t limit = limit_server(&shm, 1), used = limit_used(&shm, limit);
	shm.nobodys = nobodys;
	shm.nobodys_arg = &limit;
	for (int i = 0; i < 3; i++) {
		limit_pass_begin(&shm, 0);
		limit_pass_end(&shm, 0, limit, -1);
	}
	limit_pass_begin(&shm, 0);
	limit_pass_end(&shm, 0, limit, 0);
	assert_int_equal(limit_used(&shm, limit), used);
	limit_pass_begin(&shm, 1); /* has taken the third one */
	assert_int_equal(limit_reclaim(&shm, 1), 0);
	assert_int_equal(*shm_ledger(&shm, 0, limit), limit + 1 - 3);
	assert_int_equal(limit_used(&shm, limit), limit + 1 - 3 + 2);
	limit_pass_begin(&shm, 0);
	limit_pass_end(&shm, 0, limit, 1);
	limit_release(&shm, 0, limit);
	assert_int_equal(*shm_ledger(&shm, 0, limit), limit + 1 - 3);
	segment_drop(&shm);
}

static void test_two_died_half_way(void **state)
{
	(void)state;
	struct shm shm;
	make_pair(&shm);
	assert_true(limit_reserve(&shm, 2, 0));
	shm.seats[2].state = SEAT_RUNNING;
	shm.seats[1].ledger_sequence++;
	shm_limit(&shm, 0)->used++;
	shm.seats[2].ledger_sequence++;
	shm_limit(&shm, 0)->used++;
	assert_int_equal(limit_reclaim(&shm, 1), -EAGAIN); /* as far as anyone can tell, seat 2 is in between */
	assert_int_equal(limit_used(&shm, 0), 4);
	assert_int_equal(limit_reclaim(&shm, 2), 0);
	assert_int_equal(limit_reclaim(&shm, 1), 0);
	assert_int_equal(*shm_ledger(&shm, 2, 0), 0);
	expect_only_seat_0(&shm);
	segment_drop(&shm);
}

static void test_release_of_what_is_not_held_stops_the_process(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 1, 1, 1);
	pid_t child = fork();
	if (child == 0) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		limit_release(&shm, 0, 0);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	segment_drop(&shm);
}

/* --- many processes ----------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4, KILLS = 600, HOLD_AT_MOST = 3, TURNS_BETWEEN_KILLS = 4000 };
static const uint32_t maxima[] = { 5, 2, 7 }; /* global, listener 0, server 0 */

/* What the workers and the test tell each other. holders has one byte per seat for each limit: adding to it tells at once how many
 * are inside over all, which a number per seat could not, and a dead seat's byte can be taken out. */
static struct board {
	_Atomic uint64_t holders[3];
	_Atomic uint32_t highest[3];
	_Atomic uint32_t violations;
	_Atomic uint32_t refused;
	_Atomic uint64_t turns[WORKERS];
	_Atomic bool stop;
} * board;

static uint32_t count_bytes(uint64_t bytes)
{
	uint32_t sum = 0;
	for (; bytes; bytes >>= 8)
		sum += (uint32_t)(bytes & 0xff);
	return sum;
}

static void enter(uint32_t seat, uint32_t limit)
{
	uint64_t one = UINT64_C(1) << (seat * 8);
	uint32_t inside = count_bytes(atomic_fetch_add(&board->holders[limit], one) + one);
	uint32_t highest = atomic_load(&board->highest[limit]);
	while (inside > highest && !atomic_compare_exchange_weak(&board->highest[limit], &highest, inside))
		;
	if (inside > maxima[limit])
		atomic_fetch_add(&board->violations, 1);
}

static void leave(struct shm *shm, uint32_t seat, uint32_t limit)
{
	atomic_fetch_sub(&board->holders[limit], UINT64_C(1) << (seat * 8));
	limit_release(shm, seat, limit);
}

_Noreturn static void run_worker(struct shm *shm, uint32_t seat, uint64_t random)
{
	uint32_t held[3] = { 0 };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&board->stop)) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		uint32_t limit = (uint32_t)(random % 3);
		if (held[limit] > 0 && (held[limit] >= HOLD_AT_MOST || random & 8)) {
			leave(shm, seat, limit);
			held[limit]--;
		} else if (limit_reserve(shm, seat, limit)) {
			enter(seat, limit);
			held[limit]++;
		} else {
			atomic_fetch_add_explicit(&board->refused, 1, memory_order_relaxed);
		}
		atomic_fetch_add_explicit(&board->turns[seat], 1, memory_order_relaxed);
		if (random % 509 == 0)
			sched_yield(); /* more changes of process than two CPUs would make by themselves */
	}
	for (uint32_t limit = 0; limit < 3; limit++)
		for (; held[limit] > 0; held[limit]--)
			leave(shm, seat, limit);
	_exit(0);
}

static pid_t start_worker(struct shm *shm, uint32_t seat, uint64_t seed)
{
	shm->seats[seat].state = SEAT_RUNNING;
	pid_t pid = fork();
	if (pid == 0)
		run_worker(shm, seat, seed * UINT64_C(0x9e3779b97f4a7c15) + 1);
	assert_true(pid > 0);
	return pid;
}

/* Until the worker has done so many turns more: its work is the clock. */
static void wait_for_turns(uint32_t seat, uint64_t turns)
{
	uint64_t until = atomic_load(&board->turns[seat]) + turns;
	while (atomic_load(&board->turns[seat]) < until)
		sched_yield();
}

/* End a worker. It no longer counts as a holder from here on, which must be before its share may be taken by another. */
static void kill_worker(pid_t pid, uint32_t seat)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (uint32_t limit = 0; limit < 3; limit++)
		atomic_fetch_and(&board->holders[limit], ~(UINT64_C(0xff) << (seat * 8)));
}

static void bury(struct shm *shm, uint32_t seat)
{
	int err;
	while ((err = limit_reclaim(shm, seat)) == -EAGAIN)
		sched_yield();
	assert_int_equal(err, 0);
	for (uint32_t limit = 0; limit < 3; limit++) {
		assert_int_equal(*shm_ledger(shm, seat, limit), 0);
		assert_true(limit_used(shm, limit) <= maxima[limit]);
	}
}

static void test_killed_workers_while_others_go_on(void **state)
{
	(void)state;
	const struct shm_dims dims = { .seats = WORKERS + 2, .listeners = 1, .servers = 1 };
	struct shm shm;
	uint64_t size = shm_size_bytes(&dims);
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal((void *)board, MAP_FAILED);
	shm_init(&shm, base, &dims);
	shm.header->n_listeners = shm.header->n_servers = 1;
	for (uint32_t limit = 0; limit < 3; limit++)
		shm_limit(&shm, limit)->max = maxima[limit];

	pid_t pids[WORKERS];
	uint64_t random = 88172645463325252U;
	for (uint32_t seat = 0; seat < WORKERS; seat++)
		pids[seat] = start_worker(&shm, seat, seat);
	for (uint64_t kill_number = 0; kill_number < KILLS; kill_number++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		uint32_t seat = (uint32_t)(random % WORKERS);
		wait_for_turns(seat, random % TURNS_BETWEEN_KILLS + 1);
		uint32_t other = kill_number % 8 == 0 ? (seat + 1) % WORKERS : seat; /* sometimes two at once */
		kill_worker(pids[seat], seat);
		if (other != seat) {
			kill_worker(pids[other], other);
			int err = limit_reclaim(&shm, seat); /* whether it succeeds depends on where the other one died */
			assert_true(err == 0 || err == -EAGAIN);
			bury(&shm, other);
		}
		bury(&shm, seat);
		pids[seat] = start_worker(&shm, seat, 100 + kill_number);
		if (other != seat)
			pids[other] = start_worker(&shm, other, 1000 + kill_number);
	}
	atomic_store(&board->stop, true);
	for (uint32_t seat = 0; seat < WORKERS; seat++) {
		int status;
		assert_int_equal(waitpid(pids[seat], &status, 0), pids[seat]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(board->violations, 0);
	assert_true(board->refused > 0); /* the limits were felt */
	for (uint32_t limit = 0; limit < 3; limit++) {
		assert_int_equal(limit_used(&shm, limit), 0);
		assert_int_equal(board->highest[limit], maxima[limit]); /* and nothing was lost: all of it could be had */
		for (uint32_t seat = 0; seat < dims.seats; seat++)
			assert_int_equal(*shm_ledger(&shm, seat, limit), 0);
	}
	munmap(board, sizeof *board);
	munmap(base, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserve_up_to_the_limit),
		cmocka_unit_test(test_reclaim_what_a_dead_seat_held),
		cmocka_unit_test(test_reclaim_from_half_way),
		cmocka_unit_test(test_reclaim_but_what_was_left),
		cmocka_unit_test(test_two_died_half_way),
		cmocka_unit_test(test_release_of_what_is_not_held_stops_the_process),
		cmocka_unit_test(test_killed_workers_while_others_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
