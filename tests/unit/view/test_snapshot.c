#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/region.h"
#include "segment.h"
#include "view/snapshot.h"

/* A segment in a file of its own folder. */
struct fixture {
	char folder[64];
	char path[96];
	struct shm shm;
	uint64_t size;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	strcpy(fixture->folder, "/tmp/aegis-test-XXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	snprintf(fixture->path, sizeof fixture->path, "%s/stats", fixture->folder);
	fixture->size = shm_size_bytes(&segment_dims);
	void *base;
	assert_int_equal(region_create(fixture->path, fixture->size, (gid_t)-1, &base), 0);
	shm_init(&fixture->shm, base, &segment_dims);
	segment_fill(&fixture->shm);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	region_close(fixture->shm.header, fixture->size);
	unlink(fixture->path);
	rmdir(fixture->folder);
	free(fixture);
	return 0;
}

static struct snapshot *read_ok(const struct fixture *fixture)
{
	char why[256] = "";
	struct snapshot *snapshot = NULL;
	int rc = snapshot_read(fixture->path, SEGMENT_NOW_NS, &snapshot, why, sizeof why);
	if (rc != 0)
		print_error("%s: %s\n", strerror(-rc), why);
	assert_int_equal(rc, 0);
	return snapshot;
}

static void read_fails(const char *path, int expected, const char *expected_why)
{
	char why[256] = "";
	struct snapshot *untouched = (struct snapshot *)(void *)&untouched, *snapshot = untouched;
	assert_int_equal(snapshot_read(path, SEGMENT_NOW_NS, &snapshot, why, sizeof why), expected);
	assert_ptr_equal(snapshot, untouched);
	if (expected_why != NULL && strstr(why, expected_why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why, expected_why);
}

static void test_sums_over_seats(void **state)
{
	struct snapshot *snapshot = read_ok(*state);
	assert_int_equal(snapshot->active, 34);
	assert_int_equal(snapshot->max, 100000);
	assert_int_equal(snapshot->uptime_ns, UINT64_C(3723500) * NS_PER_MS);
	assert_int_equal(snapshot->n_listeners, 3);
	assert_int_equal(snapshot->listeners[0].totals.connections, 600);
	assert_int_equal(snapshot->listeners[0].totals.connect.count, 6);
	assert_int_equal(snapshot->listeners[0].totals.connect.sum_ns, 9000000);
	assert_int_equal(snapshot->listeners[0].active, 30);
	assert_int_equal(snapshot->listeners[0].max, 40);
	assert_int_equal(snapshot->listeners[1].totals.connections, 0);
	assert_false(snapshot->listeners[2].in_use);
	/* A listener that is gone counts in the totals. */
	assert_int_equal(snapshot->totals.connections, 600 + 3 * 7);
	assert_int_equal(snapshot->totals.received_bytes, UINT64_C(6000000000) + 3 * 70);
	assert_int_equal(sums_closes(&snapshot->totals, REASON_REJECTED), 18 + 3);
	assert_int_equal(sums_closes(&snapshot->totals, REASON_ERROR), 12 + 3);
	snapshot_free(snapshot);
}

static void test_servers_by_upstream(void **state)
{
	struct snapshot *snapshot = read_ok(*state);
	assert_int_equal(snapshot->n_servers, 4);
	assert_string_equal(snapshot->servers[0].name, "a");
	assert_string_equal(snapshot->servers[1].name, "b");
	assert_string_equal(snapshot->servers[2].name, "gone");
	assert_string_equal(snapshot->servers[3].upstream, "db");
	assert_true(snapshot->servers[1].backup && snapshot->servers[1].disabled && !snapshot->servers[0].backup);
	assert_int_equal(snapshot->servers[1].active, 7);
	assert_int_equal(snapshot->servers[1].weight, 102);
	assert_int_equal(snapshot->servers[1].totals.connections, 300);
	assert_int_equal(snapshot->servers[1].totals.failures, 6);
	snapshot_free(snapshot);
}

static void test_upstreams(void **state)
{
	struct snapshot *snapshot = read_ok(*state);
	assert_int_equal(snapshot->n_upstreams, 2);
	assert_null(snapshot_upstream(snapshot, "ap"));
	const struct snapshot_upstream *app = snapshot_upstream(snapshot, "app"), *db = snapshot_upstream(snapshot, "db");
	assert_int_equal(app->waiting, 3);
	assert_int_equal(app->queue_max, 100);
	assert_int_equal(app->epoch, 7);
	assert_true(app->in_use && db->in_use);
	assert_int_equal(db->queue_max, 0);
	/* Each server is judged by the settings of its own upstream. */
	assert_int_equal(snapshot->servers[0].standing.state, STANDING_UP);
	assert_int_equal(snapshot->servers[0].max, 10);
	assert_int_equal(snapshot->servers[1].standing.state, STANDING_DISABLED);
	assert_true(snapshot->servers[0].standing.is_checked && snapshot->servers[2].standing.is_checked);
	assert_false(snapshot->servers[1].standing.is_checked);
	assert_false(snapshot->servers[3].standing.is_checked);
	assert_int_equal(snapshot->rate_evictions, 11);
	assert_int_equal(snapshot->rate_unbooked, 12);
	assert_int_equal(snapshot->affinity_evictions, 13);
	snapshot_free(snapshot);
}

static void test_workers_and_slots(void **state)
{
	struct snapshot *snapshot = read_ok(*state);
	assert_int_equal(snapshot->n_workers, 2);
	assert_int_equal(snapshot->workers[0].generation, 2);
	assert_int_equal(snapshot->workers[0].state, SEAT_DRAINING);
	assert_int_equal(snapshot->workers[1].generation, 3);
	assert_int_equal(snapshot->workers[1].pid, 201);
	assert_int_equal(snapshot->workers[1].cpu, -1);
	assert_int_equal(snapshot->workers[1].accepts, 1000);
	assert_int_equal(snapshot->n_slots, 2);
	assert_int_equal(snapshot->slots[0].totals.accepts, 1000 + 1001);
	assert_int_equal(snapshot->slots[0].connections, 21);
	assert_int_equal(snapshot->slots[0].loop_lag_ns, 2 * NS_PER_MS);
	/* Nobody sits there now, but what was counted stays. */
	assert_int_equal(snapshot->slots[1].slot, 1);
	assert_int_equal(snapshot->slots[1].totals.accepts, 1002);
	assert_int_equal(snapshot->slots[1].connections, 0);
	snapshot_free(snapshot);
}

static void test_a_loop_that_stands_still_lags(void **state)
{
	struct fixture *fixture = *state;
	fixture->shm.seats[1].beat_ns = SEGMENT_NOW_NS - 10 * NS_PER_S;
	struct snapshot *snapshot = read_ok(fixture);
	assert_int_equal(snapshot->workers[1].loop_lag_ns, 9 * NS_PER_S);
	assert_int_equal(snapshot->workers[0].loop_lag_ns, 1 * NS_PER_MS);
	snapshot_free(snapshot);
}

static void test_a_note_that_is_being_written_is_left_out(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot *snapshot = read_ok(fixture);
	assert_string_equal(snapshot->last_reload_note, "1 server added");
	snapshot_free(snapshot);
	fixture->shm.header->last_reload_sequence = 1;
	snapshot = read_ok(fixture);
	assert_string_equal(snapshot->last_reload_note, "");
	snapshot_free(snapshot);
}

static void test_reading_allocates_nothing_in_the_file(void **state)
{
	struct fixture *fixture = *state;
	struct stat before, after;
	assert_int_equal(stat(fixture->path, &before), 0);
	snapshot_free(read_ok(fixture));
	assert_int_equal(stat(fixture->path, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks);
}

static void test_hostile_strings_end(void **state)
{
	struct fixture *fixture = *state;
	segment_make_hostile(&fixture->shm);
	struct snapshot *snapshot = read_ok(fixture);
	assert_string_equal(snapshot->listeners[0].name, "a\"b\\c\\nd{}\\u001b[2J?");
	assert_int_equal(strlen(snapshot->listeners[1].name), SHM_NAME_SIZE - 1);
	assert_int_equal(strlen(snapshot->engine), sizeof snapshot->engine - 1);
	/* Rows that were never used have no name and are passed over, however many there are said to be. */
	assert_int_equal(snapshot->n_listeners, 3);
	assert_int_equal(snapshot->n_servers, 4);
	snapshot_free(snapshot);
}

static void test_files_that_are_no_segment(void **state)
{
	struct fixture *fixture = *state;
	char other[128];
	snprintf(other, sizeof other, "%s/other", fixture->folder);
	read_fails(other, -ENOENT, NULL);
	assert_int_equal(symlink(fixture->path, other), 0);
	read_fails(other, -ELOOP, NULL);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(mkfifo(other, 0600), 0);
	read_fails(other, -EINVAL, "is not");
	assert_int_equal(unlink(other), 0);
	read_fails(fixture->folder, -EINVAL, "is not");
	int fd = open(other, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	read_fails(other, -EINVAL, "cut short");
	assert_int_equal(write(fd, "no segment", 10), 10);
	read_fails(other, -EINVAL, "is not");
	assert_int_equal(ftruncate(fd, INT64_C(1) << 41), 0);
	read_fails(other, -EINVAL, "is not");
	close(fd);
	assert_int_equal(unlink(other), 0);
}

static void test_another_layout(void **state)
{
	struct fixture *fixture = *state;
	fixture->shm.header->layout_hash ^= 1;
	read_fails(fixture->path, -EINVAL, "1.2.3");
}

static void test_every_cut_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	uint64_t sizes[] = { fixture->size - 1, fixture->size / 2, sizeof(struct shm_header), sizeof(struct shm_header) - 1, 64, 1 };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		assert_int_equal(truncate(fixture->path, (off_t)sizes[i]), 0);
		read_fails(fixture->path, -EINVAL, "is ");
	}
	/* The mapping of the fixture must be whole again before anybody touches it. */
	assert_int_equal(truncate(fixture->path, (off_t)fixture->size), 0);
}

static void test_sizes_that_make_no_sense(void **state)
{
	struct fixture *fixture = *state;
	struct shm_dims *dims = &fixture->shm.header->dims;
	const struct shm_dims bad[] = { { UINT32_MAX, 6, 7 }, { 5, UINT32_MAX, 7 }, { 5, 6, UINT32_MAX }, { 6, 6, 7 }, { 0, 0, 0 } };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		*dims = bad[i];
		read_fails(fixture->path, -EINVAL, "is ");
	}
	*dims = segment_dims;
	fixture->shm.header->seats_offset += 64;
	read_fails(fixture->path, -EINVAL, "is ");
}

/* Flip bytes all over the header and the rows: nothing may be touched outside, whatever comes out. */
static void test_random_damage(void **state)
{
	struct fixture *fixture = *state;
	unsigned char *bytes = (void *)fixture->shm.header;
	uint64_t seed = 1;
	for (int i = 0; i < 3000; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		uint64_t end = i % 2 == 0 ? sizeof(struct shm_header) : fixture->size;
		uint64_t at = (seed >> 20) % end;
		unsigned char was = bytes[at];
		bytes[at] = (unsigned char)(seed >> 8);
		char why[256];
		struct snapshot *snapshot = NULL;
		int rc = snapshot_read(fixture->path, SEGMENT_NOW_NS, &snapshot, why, sizeof why);
		assert_true(rc == 0 || rc == -EINVAL);
		snapshot_free(snapshot);
		/* Damage to the header is mended, or nothing but it would be tried; that of the rows adds up. */
		if (i % 2 == 0)
			bytes[at] = was;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sums_over_seats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_servers_by_upstream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upstreams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_workers_and_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_loop_that_stands_still_lags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_note_that_is_being_written_is_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reading_allocates_nothing_in_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_strings_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_that_are_no_segment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_cut_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes_that_make_no_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_damage, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
