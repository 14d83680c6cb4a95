/* Processes that work on one piece of shared memory, and are killed while they do. Their work is the clock: nobody sleeps. */
#ifndef AEGIS_TESTS_FLEET_H
#define AEGIS_TESTS_FLEET_H

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FLEET = 8 };

struct fleet {
	_Atomic uint64_t turns[FLEET];
	_Atomic uint32_t seen[FLEET]; /* the order that each has seen */
	_Atomic uint32_t order;       /* odd = pause */
	_Atomic bool stop;
};

typedef void fleet_turn_fn(uint32_t me, uint64_t random);

static inline void *fleet_map(size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	return base;
}

static inline uint64_t fleet_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Take turns until it is told to stop or killed. */
static inline pid_t fleet_start(struct fleet *fleet, uint32_t me, uint64_t seed, fleet_turn_fn *turn)
{
	pid_t parent = getpid(), pid = fork();
	if (pid != 0) {
		assert_true(pid > 0);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	while (!atomic_load(&fleet->stop)) {
		uint32_t order = atomic_load(&fleet->order);
		atomic_store(&fleet->seen[me], order);
		if (order & 1) {
			sched_yield();
			continue;
		}
		turn(me, fleet_random(&random));
		atomic_fetch_add_explicit(&fleet->turns[me], 1, memory_order_relaxed);
		if (random % 509 == 0)
			sched_yield(); /* more changes of process than so few CPUs would make by themselves */
	}
	_exit(0);
}

/* Until it has taken so many turns more. */
static inline void fleet_wait(const struct fleet *fleet, uint32_t who, uint64_t turns)
{
	uint64_t until = atomic_load(&fleet->turns[who]) + turns;
	while (atomic_load(&fleet->turns[who]) < until)
		sched_yield();
}

/* Until all stand still. */
static inline void fleet_pause(struct fleet *fleet)
{
	uint32_t order = atomic_fetch_add(&fleet->order, 1) + 1;
	for (uint32_t i = 0; i < FLEET; i++)
		while (atomic_load(&fleet->seen[i]) != order)
			sched_yield();
}

static inline void fleet_go_on(struct fleet *fleet)
{
	atomic_fetch_add(&fleet->order, 1);
}

static inline void fleet_kill(pid_t pid)
{
	int status;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static inline void fleet_stop(struct fleet *fleet, const pid_t *pids)
{
	atomic_store(&fleet->stop, true);
	for (uint32_t i = 0; i < FLEET; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
}

/* All of them at work, and one after the other killed at a random moment, within so many turns, and replaced. */
static inline void fleet_suffer(struct fleet *fleet, uint64_t kills, uint64_t turns, fleet_turn_fn *turn)
{
	pid_t pids[FLEET];
	uint64_t random = 88172645463325252U;
	for (uint32_t i = 0; i < FLEET; i++)
		pids[i] = fleet_start(fleet, i, i, turn);
	for (uint64_t n = 0; n < kills; n++) {
		uint32_t who = (uint32_t)(fleet_random(&random) % FLEET);
		fleet_wait(fleet, who, fleet_random(&random) % turns + 1);
		fleet_kill(pids[who]);
		pids[who] = fleet_start(fleet, who, 100 + n, turn);
	}
	fleet_stop(fleet, pids);
}

#endif
