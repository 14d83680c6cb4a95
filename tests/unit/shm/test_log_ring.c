#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fleet.h"
#include "segment.h"
#include "shm/log_port.h"
#include "shm/log_ring.h"

enum { CAPACITY = LOG_RING_LEAST, GUARD = 4096 };

static struct log_ring *make_ring(size_t bytes)
{
	return fleet_map(sizeof(struct log_ring) + bytes + GUARD);
}

static void drop_ring(struct log_ring *ring, size_t bytes)
{
	munmap(ring, sizeof(struct log_ring) + bytes + GUARD);
}

/* A record that tells its number and its length, filled with what can be foretold. */
static void fill(char *bytes, size_t length, uint64_t number)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)(number * 31 + i);
	memcpy(bytes, &number, sizeof number);
}

static bool put(struct log_inlet *inlet, uint64_t number, size_t length)
{
	char *record = log_inlet_reserve(inlet, length);
	if (!record)
		return false;
	assert_int_equal((uintptr_t)record % 8, 0);
	fill(record, length, number);
	(void)!log_inlet_commit(inlet);
	return true;
}

static void check(const char *bytes, int length, uint64_t number)
{
	char want[LOG_RECORD_MOST];
	fill(want, (size_t)length, number);
	assert_memory_equal(bytes, want, (size_t)length);
}

static int take(struct log_ring *ring, char *out)
{
	uint64_t position = log_ring_position(ring);
	int length = log_ring_read(ring, CAPACITY, &position, out, LOG_RECORD_MOST);
	if (length >= 0)
		log_ring_release(ring, position);
	return length;
}

static void what_goes_in_comes_out_in_order(void **state)
{
	(void)state;
	struct log_ring *ring = make_ring(CAPACITY);
	struct log_inlet inlet;
	char out[LOG_RECORD_MOST];
	uint64_t random = 7;
	log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
	assert_int_equal(take(ring, out), -EAGAIN);
	for (uint64_t i = 0, read = 0; i < 20000; i++) {
		size_t length = 8 + fleet_random(&random) % (i % 100 == 0 ? LOG_RECORD_MOST - 8 : 200);
		while (!put(&inlet, i, length)) { /* full: take one out */
			int got = take(ring, out);
			assert_true(got >= 8);
			check(out, got, read++);
		}
		if (i + 1 < 20000)
			continue;
		for (int got; (got = take(ring, out)) >= 0;)
			check(out, got, read++);
		assert_int_equal(read, 20000);
	}
	assert_true(log_ring_is_empty(ring));
	drop_ring(ring, CAPACITY);
}

static void full_is_full_and_room_is_found_again(void **state)
{
	(void)state;
	struct log_ring *ring = make_ring(CAPACITY);
	struct log_inlet inlet;
	char out[LOG_RECORD_MOST];
	uint64_t n = 0;
	log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
	while (put(&inlet, n, 120))
		n++;
	assert_int_equal(n, CAPACITY / 128);
	assert_null(log_inlet_reserve(&inlet, 120));
	assert_int_equal(take(ring, out), 120);
	assert_true(put(&inlet, n, 120));
	assert_false(put(&inlet, n + 1, 120));
	drop_ring(ring, CAPACITY);
}

static void nothing_is_seen_before_it_is_whole(void **state)
{
	(void)state;
	struct log_ring *ring = make_ring(CAPACITY);
	struct log_inlet inlet, next;
	char out[LOG_RECORD_MOST];
	log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
	assert_true(put(&inlet, 1, 100));
	char *record = log_inlet_reserve(&inlet, 100);
	assert_non_null(record);
	fill(record, 100, 2);
	assert_int_equal(take(ring, out), 100);
	assert_int_equal(take(ring, out), -EAGAIN); /* its producer died in the middle of it */
	log_inlet_open(&next, ring, CAPACITY, CAPACITY);
	assert_true(put(&next, 3, 50));
	assert_int_equal(take(ring, out), 50);
	check(out, 50, 3);
	drop_ring(ring, CAPACITY);
}

static void the_capacity_changes_when_the_ring_is_empty(void **state)
{
	(void)state;
	enum { LARGE = 4 * CAPACITY };
	struct log_ring *ring = make_ring(LARGE);
	struct log_inlet inlet;
	char out[LOG_RECORD_MOST];
	uint64_t position;
	log_inlet_open(&inlet, ring, LARGE, CAPACITY);
	for (uint64_t i = 0; i < 100; i++) {
		assert_true(put(&inlet, i, 120));
		assert_int_equal(take(ring, out), 120);
	}
	assert_true(put(&inlet, 100, 120));
	log_inlet_open(&inlet, ring, LARGE, LARGE); /* the next worker wants more, and what is left stays readable */
	assert_true(put(&inlet, 101, 120));
	assert_int_equal(take(ring, out), 120);
	check(out, 120, 100);
	assert_int_equal(take(ring, out), 120);
	uint64_t n = 0;
	while (put(&inlet, n, 120))
		n++;
	assert_int_equal(n, LARGE / 128);
	log_inlet_open(&inlet, ring, LARGE, CAPACITY); /* and less */
	for (uint64_t i = 0; i < n; i++) {
		position = log_ring_position(ring);
		assert_int_equal(log_ring_read(ring, LARGE, &position, out, sizeof out), 120);
		check(out, 120, i);
		log_ring_release(ring, position);
	}
	for (n = 0; put(&inlet, n, 120);)
		n++;
	assert_int_equal(n, CAPACITY / 128);
	assert_int_equal(log_ring_capacity(0), LOG_RING_LEAST);
	assert_int_equal(log_ring_capacity(100 * 1024), 64 * 1024);
	assert_int_equal(log_ring_capacity(UINT64_MAX / 4), LOG_RING_ACCESS_MOST);
	drop_ring(ring, LARGE);
}

static void half_full_is_told_once(void **state)
{
	(void)state;
	struct log_ring *ring = make_ring(CAPACITY);
	struct log_inlet inlet;
	char out[LOG_RECORD_MOST];
	log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
	for (int round = 0; round < 5; round++) {
		int told = 0;
		while (log_inlet_reserve(&inlet, 120))
			told += log_inlet_commit(&inlet);
		assert_int_equal(told, 1);
		while (take(ring, out) >= 0)
			;
	}
	for (int i = 0; i < 1000; i++) { /* who keeps up is never called */
		assert_non_null(log_inlet_reserve(&inlet, 120));
		assert_false(log_inlet_commit(&inlet));
		assert_int_equal(take(ring, out), 120);
	}
	drop_ring(ring, CAPACITY);
}

/* Whatever the ring says: no byte outside it is read, and the end is -EBADMSG, -EAGAIN or a record that lies within. */
static void nothing_is_believed(void **state)
{
	(void)state;
	char out[LOG_RECORD_MOST];
	uint64_t random = 99;
	for (int i = 0; i < 20000; i++) {
		struct log_ring *ring = i % 1000 == 0 ? make_ring(CAPACITY) : *state;
		*state = ring;
		static const uint32_t capacities[] = { 0, 1, CAPACITY - 8, CAPACITY, 2 * CAPACITY, UINT32_MAX, 1U << 31 };
		uint64_t *words = (uint64_t *)(void *)ring->bytes;
		atomic_store(&ring->capacity, i % 3 ? CAPACITY : capacities[fleet_random(&random) % ARRAY_LEN(capacities)]);
		atomic_store(&ring->head, i % 2 ? fleet_random(&random) : fleet_random(&random) % (2 * CAPACITY));
		atomic_store(&ring->tail, atomic_load(&ring->head) - fleet_random(&random) % (CAPACITY + 64));
		if (i % 5)
			atomic_store(&ring->tail, atomic_load(&ring->tail) & ~UINT64_C(7));
		for (size_t j = 0; j < CAPACITY / 8; j++)
			words[j] = i % 7 == 0 ? UINT32_MAX : i % 7 == 1 ? fleet_random(&random) : fleet_random(&random) % 5000;
		uint64_t position = log_ring_position(ring), before = position;
		for (int turn = 0; turn < 1000; turn++) {
			int length = log_ring_read(ring, CAPACITY, &position, out, sizeof out);
			assert_true(length == -EBADMSG || length == -EAGAIN || (length >= 0 && length <= LOG_RECORD_MOST));
			if (length < 0)
				break;
			assert_true(position - before <= CAPACITY);
		}
		log_ring_release(ring, log_ring_end(ring));
		assert_true(log_ring_is_empty(ring));
		/* and a producer goes on with it */
		struct log_inlet inlet;
		log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
		assert_true(put(&inlet, 5, 64));
		if (i % 1000 == 999)
			drop_ring(ring, CAPACITY);
	}
}

/* A tail that cannot be leads nobody out of the ring. */
static void a_producer_believes_nothing_either(void **state)
{
	(void)state;
	struct log_ring *ring = make_ring(CAPACITY);
	struct log_inlet inlet;
	log_inlet_open(&inlet, ring, CAPACITY, CAPACITY);
	while (put(&inlet, 1, 120))
		;
	const uint64_t tails[] = { atomic_load(&ring->head) + 8, UINT64_MAX, 1U << 31, atomic_load(&ring->head) - CAPACITY - 8 };
	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		atomic_store(&ring->tail, tails[i]);
		const char *record = log_inlet_reserve(&inlet, 120);
		assert_true(!record || (record >= ring->bytes && record + 120 <= ring->bytes + CAPACITY));
	}
	drop_ring(ring, CAPACITY);
}

/* --- two processes, one of which is killed and replaced time and again ------------------------------------------------------- */

static struct log_ring *shared;
static struct {
	_Atomic uint64_t put; /* the number of the last record that is certainly in */
} * progress;

static _Noreturn void produce(uint64_t random)
{
	struct log_inlet inlet;
	uint64_t number = atomic_load(&progress->put);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_inlet_open(&inlet, shared, CAPACITY, CAPACITY);
	for (;;) {
		size_t length = 16 + fleet_random(&random) % 300;
		char *record = log_inlet_reserve(&inlet, length);
		if (!record) {
			sched_yield();
			continue;
		}
		fill(record, length, ++number);
		(void)!log_inlet_commit(&inlet);
		atomic_store(&progress->put, number);
	}
}

static void a_killed_producer_leaves_whole_records(void **state)
{
	(void)state;
	char out[LOG_RECORD_MOST];
	uint64_t last = 0, random = 3;
	shared = make_ring(CAPACITY);
	progress = fleet_map(sizeof *progress);
	for (int round = 0; round < 100; round++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			produce(fleet_random(&random) + (uint64_t)round);
		for (uint64_t n = fleet_random(&random) % 3000, got = 0; got < n;) {
			int length = take(shared, out);
			assert_true(length == -EAGAIN || length >= 16);
			if (length < 0) {
				sched_yield();
				continue;
			}
			uint64_t number;
			memcpy(&number, out, sizeof number);
			/* killed between commit and saying so: the next one says the number once more */
			assert_true(number == last + 1 || number == last);
			check(out, length, number);
			last = number;
			got++;
		}
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	for (int length; (length = take(shared, out)) >= 0;) {
		uint64_t number;
		memcpy(&number, out, sizeof number);
		assert_true(number == last + 1 || number == last);
		last = number;
	}
	assert_true(last >= atomic_load(&progress->put));
	munmap(progress, sizeof *progress);
	drop_ring(shared, CAPACITY);
}

/* --- ports ------------------------------------------------------------------------------------------------------------------- */

static bool rings(const struct bells *bell)
{
	eventfd_t count;
	struct pollfd look = { .fd = bell_fd(bell, 0), .events = POLLIN };
	bool rung = poll(&look, 1, 0) == 1;
	if (rung)
		assert_int_equal(read(bell_fd(bell, 0), &count, sizeof count), sizeof count);
	return rung;
}

static void who_sleeps_is_rung_once(void **state)
{
	(void)state;
	struct shm shm;
	struct bells bell;
	struct log_port error, access;
	segment_make(&shm, 2, 1, 1);
	assert_int_equal(bells_open(&bell, 1), 0);
	log_port_open(&error, &shm, 0, LOG_KIND_ERROR, LOG_RING_LEAST, &bell);
	log_port_open(&access, &shm, 1, LOG_KIND_ACCESS, LOG_RING_LEAST, &bell);
	assert_non_null(log_port_reserve(&error, 100));
	log_port_commit(&error);
	assert_false(rings(&bell)); /* it is awake, and looks by itself */
	log_port_sleep(&shm);
	assert_non_null(log_port_reserve(&access, 100));
	assert_false(rings(&bell));
	log_port_commit(&access);
	assert_true(rings(&bell));
	assert_non_null(log_port_reserve(&error, 100));
	log_port_commit(&error);
	assert_false(rings(&bell));

	/* what does not fit is counted, by its kind; and the half was told */
	uint64_t n = 0;
	while (log_port_reserve(&access, 1000)) {
		log_port_commit(&access);
		n++;
	}
	assert_true(n > 10);
	assert_true(rings(&bell));
	assert_int_equal(counter_get(&shm.seats[1].access_drops), 1);
	assert_int_equal(counter_get(&shm.seats[1].log_drops), 0);
	while (log_port_reserve(&error, 1000))
		log_port_commit(&error);
	assert_null(log_port_reserve(&error, 1000));
	assert_int_equal(counter_get(&shm.seats[0].log_drops), 2);
	bells_close(&bell);
	segment_drop(&shm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out_in_order),
		cmocka_unit_test(full_is_full_and_room_is_found_again),
		cmocka_unit_test(nothing_is_seen_before_it_is_whole),
		cmocka_unit_test(the_capacity_changes_when_the_ring_is_empty),
		cmocka_unit_test(half_full_is_told_once),
		cmocka_unit_test(nothing_is_believed),
		cmocka_unit_test(a_producer_believes_nothing_either),
		cmocka_unit_test(a_killed_producer_leaves_whole_records),
		cmocka_unit_test(who_sleeps_is_rung_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
