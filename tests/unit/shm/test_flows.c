/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "fleet.h"
#include "shm/flows.h"

static const uint64_t seed[2] = { 1, 2 };

static void make(struct flows *flows)
{
	assert_int_equal(flows_new(flows, 0, seed), 0);
}

static uint64_t hash_of(uint64_t n)
{
	return hash_mix(n + 1);
}

/* --- one process ------------------------------------------------------------------------------------------------------------- */

static void test_put_find_drop(void **state)
{
	struct flows flows;
	struct flows_found found = { 0 };
	(void)state;
	make(&flows);
	uint32_t owner = flows_join(&flows);
	assert_int_not_equal(owner, 0);
	assert_true(flows_lives(&flows, owner));
	assert_false(flows_lives(&flows, owner + 1));
	assert_false(flows_lives(&flows, 0));
	assert_false(flows_find(&flows, 7, &found));
	uint64_t cell = flows_put(&flows, 7, owner, 11), zero = flows_put(&flows, 0, owner, 12);
	assert_int_not_equal(cell, 0);
	assert_true(flows_find(&flows, 7, &found));
	assert_true(found.lives && found.owner == owner && found.server == 11);
	assert_true(flows_find(&flows, 0, &found)); /* no hash is special */
	assert_int_equal(found.server, 12);
	flows_move(&flows, cell, owner, 13);
	assert_true(flows_find(&flows, 7, &found));
	assert_int_equal(found.server, 13);
	flows_drop(&flows, cell);
	flows_drop(&flows, zero);
	flows_drop(&flows, 0);
	assert_false(flows_find(&flows, 7, &found));
	assert_false(flows_find(&flows, 0, &found));
	flows_close(&flows);
}

static void test_the_dead(void **state)
{
	struct flows flows;
	struct flows_found found;
	(void)state;
	make(&flows);
	uint32_t one = flows_join(&flows), other = flows_join(&flows);
	assert_int_not_equal(one, other);
	uint64_t before = flows_put(&flows, 5, one, 50);
	flows_leave(&flows, one);
	assert_false(flows_lives(&flows, one));
	assert_true(flows_find(&flows, 5, &found));
	assert_true(!found.lives && found.owner == one && found.server == 50);
	uint64_t after = flows_put(&flows, 5, other, 51);
	assert_true(after == before); /* in its place */
	assert_true(flows_find(&flows, 5, &found));
	assert_true(found.lives && found.owner == other && found.server == 51);
	flows_drop(&flows, after);
	assert_false(flows_find(&flows, 5, &found));
	flows_leave(&flows, one); /* for the second time: nothing */
	assert_true(flows_lives(&flows, other));
	flows_close(&flows);
}

/* Who lives counts, where one that is dead had the session as well. */
static void test_the_living_come_first(void **state)
{
	struct flows flows;
	struct flows_found found;
	(void)state;
	make(&flows);
	uint32_t one = flows_join(&flows), other = flows_join(&flows);
	assert_int_not_equal(flows_put(&flows, 5, one, 1), 0);
	assert_int_not_equal(flows_put(&flows, 5, other, 2), 0); /* both live */
	flows_leave(&flows, one);
	assert_true(flows_find(&flows, 5, &found));
	assert_true(found.lives && found.server == 2);
	flows_close(&flows);
}

static void test_full(void **state)
{
	struct flows flows;
	struct flows_found found;
	uint64_t cells[FLOWS_LOOK];
	(void)state;
	make(&flows);
	uint32_t owner = flows_join(&flows), other = flows_join(&flows);
	for (uint32_t i = 0; i < FLOWS_LOOK; i++) { /* all in one place: who knew the seed could */
		cells[i] = flows_put(&flows, i + 1, owner, i + 1);
		assert_int_not_equal(cells[i], 0);
	}
	assert_int_equal(flows_put(&flows, 1000, owner, 1), 0);
	for (uint32_t i = 0; i < FLOWS_LOOK; i++) {
		assert_true(flows_find(&flows, i + 1, &found));
		assert_int_equal(found.server, i + 1);
	}
	flows_drop(&flows, cells[3]);
	assert_true(flows_put(&flows, 1000, owner, 1) == cells[3]);
	flows_leave(&flows, owner); /* what was his is free */
	for (uint32_t i = 0; i < FLOWS_LOOK; i++)
		assert_int_not_equal(flows_put(&flows, 2000 + i, other, 1), 0);
	assert_int_equal(flows_put(&flows, 3000, other, 1), 0);
	flows_close(&flows);
}

static void test_half_full(void **state)
{
	struct flows flows;
	struct flows_found found;
	(void)state;
	assert_int_equal(flows_new(&flows, 200000, seed), 0);
	uint32_t owner = flows_join(&flows);
	for (uint32_t i = 0; i < 200000; i++)
		assert_int_not_equal(flows_put(&flows, hash_of(i), owner, i + 1), 0);
	for (uint32_t i = 0; i < 200000; i++) {
		assert_true(flows_find(&flows, hash_of(i), &found));
		assert_int_equal(found.server, i + 1);
	}
	flows_close(&flows);
}

/* What the kernel gives away of a dead one is left alone for a while, from when that is seen. */
static void test_ports(void **state)
{
	struct flows flows;
	const uint64_t second = UINT64_C(1000000000), now_ns = 1000 * second;
	(void)state;
	make(&flows);
	uint32_t one = flows_join(&flows), other = flows_join(&flows);
	assert_true(flows_take_port(&flows, 65535, one, now_ns));
	flows_leave_port(&flows, 65535, other);                      /* not his */
	assert_false(flows_take_port(&flows, 65535, other, now_ns)); /* he is dead, though nobody has said so */
	flows_leave_port(&flows, 65535, one);
	assert_true(flows_take_port(&flows, 65535, other, now_ns));
	flows_leave(&flows, other);
	assert_false(flows_take_port(&flows, 65535, one, now_ns + 7 * second));
	assert_false(flows_take_port(&flows, 65535, one, now_ns + 6 * second)); /* by a clock that was read before it was seen */
	assert_false(flows_take_port(&flows, 65535, one, now_ns + (7 + FLOWS_PORT_S - 1) * second));
	assert_true(flows_take_port(&flows, 65535, one, now_ns + (7 + FLOWS_PORT_S) * second));
	assert_true(flows_take_port(&flows, 0, one, 0));
	flows_close(&flows);
}

static void test_owners_are_unique(void **state)
{
	struct flows flows;
	uint32_t *all = calloc(FLOWS_OWNERS, sizeof *all);
	(void)state;
	make(&flows);
	assert_non_null(all);
	for (uint32_t i = 0; i < FLOWS_OWNERS; i++) {
		all[i] = flows_join(&flows);
		assert_int_not_equal(all[i], 0);
	}
	assert_int_equal(flows_join(&flows), 0);
	flows_leave(&flows, all[100]);
	uint32_t again = flows_join(&flows);
	assert_true(again != 0 && again != all[100]);
	for (uint32_t i = 0; i < FLOWS_OWNERS; i++)
		assert_true(i == 100 ? !flows_lives(&flows, all[i]) : flows_lives(&flows, all[i]));
	free(all);
	flows_close(&flows);
}

static void test_open(void **state)
{
	struct flows flows, again;
	struct flows_found found;
	(void)state;
	make(&flows);
	uint32_t owner = flows_join(&flows);
	assert_int_not_equal(flows_put(&flows, 5, owner, 50), 0);
	assert_int_equal(flows_open(&again, dup(flows.fd)), 0);
	assert_true(flows_find(&again, 5, &found));
	assert_true(found.lives && found.server == 50);
	assert_int_equal(again.shared->seed[1], 2);
	flows_close(&again);

	/* One of another kind or size, and what is none at all. */
	int fd = memfd_create("x", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flows_open(&again, fd), -EINVAL);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(flows_open(&again, fd), -EINVAL);
	assert_int_equal(ftruncate(fd, (off_t)sizeof(struct flows_shared) + (1 << 14) * 64), 0);
	assert_int_equal(flows_open(&again, fd), -EINVAL); /* zeros */
	close(fd);
	flows.shared->magic++;
	assert_int_equal(flows_open(&again, flows.fd), -EINVAL);
	flows_close(&flows);
}

/* --- many processes ---------------------------------------------------------------------------------------------------------- */

enum { KEYS = 512, PER_OWNER = KEYS / FLEET, ROUNDS = 60 };

static struct shared {
	struct fleet fleet;
	_Atomic uint32_t owners[FLEET];
	_Atomic uint64_t wrong;
} * shared;
static struct flows all;

/* Each process has sessions of its own, in places that they all share, and looks for those of the others. What it put it finds, and what it
 * finds is of whom it belongs to. */
static void turn(uint32_t me, uint64_t random)
{
	static uint64_t cells[PER_OWNER];
	struct flows_found found;
	uint32_t owner = atomic_load(&shared->owners[me]);
	uint32_t mine = (uint32_t)(random % PER_OWNER), other = (uint32_t)(random >> 32) % KEYS;
	uint64_t hash = (uint64_t)(mine * FLEET + me + 1);
	if (cells[mine]) {
		if (!flows_find(&all, hash, &found) || found.owner != owner || found.server != mine + 1)
			atomic_fetch_add(&shared->wrong, 1);
		flows_drop(&all, cells[mine]);
		cells[mine] = 0;
		if (flows_find(&all, hash, &found) && found.owner == owner)
			atomic_fetch_add(&shared->wrong, 1);
	} else {
		cells[mine] = flows_put(&all, hash, owner, mine + 1);
	}
	if (flows_find(&all, other + 1, &found) && found.server != other / FLEET + 1)
		atomic_fetch_add(&shared->wrong, 1);
}

/* They are killed all the time. What a dead one had is nobody's loss: in the end the living have all the room there is. */
static void test_many_write_and_die(void **state)
{
	pid_t pids[FLEET];
	struct flows_found found;
	(void)state;
	shared = fleet_map(sizeof *shared);
	make(&all);
	for (uint32_t i = 0; i < FLEET; i++) {
		atomic_store(&shared->owners[i], flows_join(&all));
		pids[i] = fleet_start(&shared->fleet, i, i, turn);
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t who = round % FLEET;
		fleet_wait(&shared->fleet, (who + 1) % FLEET, 2000);
		fleet_kill(pids[who]);
		flows_leave(&all, atomic_load(&shared->owners[who]));
		atomic_store(&shared->owners[who], flows_join(&all));
		pids[who] = fleet_start(&shared->fleet, who, round + 100, turn);
	}
	fleet_stop(&shared->fleet, pids);
	assert_int_equal(atomic_load(&shared->wrong), 0);
	for (uint32_t i = 0; i < FLEET; i++)
		flows_leave(&all, atomic_load(&shared->owners[i]));
	uint32_t owner = flows_join(&all);
	for (uint64_t i = 0; i < FLOWS_LOOK; i++)
		assert_int_not_equal(flows_put(&all, 5000 + i, owner, 1), 0);
	for (uint64_t i = 0; i < FLOWS_LOOK; i++)
		assert_true(flows_find(&all, 5000 + i, &found) && found.lives);
	flows_close(&all);
	assert_int_equal(munmap(shared, sizeof *shared), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_find_drop),
		cmocka_unit_test(test_the_dead),
		cmocka_unit_test(test_the_living_come_first),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_half_full),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_owners_are_unique),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_many_write_and_die),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
