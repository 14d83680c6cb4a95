/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include <arpa/inet.h>
#include <string.h>

#include "fleet.h"
#include "shm/recorder.h"

enum { RING_BYTES = RECORDER_BYTES_LEAST, RING = RING_BYTES / sizeof(struct record) };

struct ground {
	struct recorder_head head;
	_Alignas(CACHE_LINE_BYTES) char ring[RECORDER_BYTES_MOST];
	struct fleet fleet;
	_Atomic uint64_t torn, seen;
};

static struct ground *ground;

static int set_up(void **state)
{
	(void)state;
	ground = fleet_map(sizeof *ground);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return munmap(ground, sizeof *ground);
}

/* All of its words follow from a number. */
static struct record record_of(uint64_t number)
{
	struct record record = { .time_ns = number * 3, .serial = (uint32_t)number, .kind = RECORD_CHOSEN, .row = (uint16_t)number };
	record.number = (uint32_t)number * 5;
	for (size_t i = 0; i < ARRAY_LEN(record.words); i++)
		record.words[i] = number * (7 + i);
	return record;
}

static bool is_whole(const struct record *record, uint64_t number)
{
	struct record wanted = record_of(number);
	wanted.sequence = (uint32_t)number;
	return memcmp(record, &wanted, sizeof wanted) == 0;
}

static void write_n(struct recorder *recorder, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct record record = record_of(recorder->next);
		recorder_write(recorder, &record);
	}
}

static bool read_one(uint64_t number, struct record *out)
{
	return recorder_read(&ground->head, ground->ring, number, out);
}

static void assert_all_there(uint64_t from, uint64_t to)
{
	struct record record;
	uint32_t n;
	assert_int_equal(recorder_oldest(&ground->head, &n), from);
	assert_int_equal(from + n, to);
	for (uint64_t number = from; number < to; number++) {
		assert_true(read_one(number, &record));
		assert_true(is_whole(&record, number));
	}
	assert_false(read_one(to, &record));
}

static void test_what_was_written_is_read(void **state)
{
	struct recorder recorder;
	struct record record;
	(void)state;
	recorder_begin(&recorder, &ground->head, ground->ring, RING_BYTES);
	assert_int_equal(recorder.size, RING);
	assert_all_there(0, 0);
	write_n(&recorder, 5);
	assert_all_there(0, 5);
	write_n(&recorder, RING - 5);
	assert_all_there(1, RING); /* one less than there are: the next one may be being written */
	write_n(&recorder, 10 * RING + 3);
	assert_all_there(10 * RING + 4, 11 * RING + 3);
	assert_false(read_one(10 * RING + 3, &record));
	assert_false(read_one(0, &record));
	assert_false(read_one(UINT64_MAX, &record));
}

static void test_the_next_writer_goes_on(void **state)
{
	struct recorder first, second, third;
	(void)state;
	recorder_begin(&first, &ground->head, ground->ring, RING_BYTES);
	write_n(&first, 7);
	recorder_go_on(&second, &ground->head, ground->ring); /* the master */
	assert_int_equal(second.size, RING);
	write_n(&second, 1);
	recorder_begin(&third, &ground->head, ground->ring, RING_BYTES);
	write_n(&third, 2);
	assert_all_there(0, 10);
}

static void test_off(void **state)
{
	struct recorder recorder;
	struct record record;
	uint32_t n = 1;
	(void)state;
	recorder_begin(&recorder, &ground->head, ground->ring, 0);
	assert_int_equal(recorder.size, 0);
	assert_int_equal(recorder_oldest(&ground->head, &n), 0);
	assert_int_equal(n, 0);
	assert_false(read_one(0, &record));
	recorder_go_on(&recorder, &ground->head, ground->ring);
	assert_int_equal(recorder.size, 0);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(recorder_bytes_used(1), 4096);
	assert_int_equal(recorder_bytes_used(4096), 4096);
	assert_int_equal(recorder_bytes_used(4097), 8192);
	assert_int_equal(recorder_bytes_used(128 * 1024), 128 * 1024);
	assert_int_equal(recorder_bytes_used(UINT64_MAX), RECORDER_BYTES_MOST);
}

/* Records stand elsewhere in a ring of another size: those that are not where they belong do not count. */
static void test_another_size(void **state)
{
	struct recorder recorder;
	struct record record;
	uint32_t n;
	(void)state;
	recorder_begin(&recorder, &ground->head, ground->ring, 2 * RING_BYTES);
	write_n(&recorder, 2 * RING + 40);
	recorder_begin(&recorder, &ground->head, ground->ring, RING_BYTES);
	write_n(&recorder, 3);
	for (uint64_t number = recorder_oldest(&ground->head, &n); n > 0; n--, number++)
		if (read_one(number, &record))
			assert_true(is_whole(&record, number));
	for (uint64_t number = recorder.next - 3; number < recorder.next; number++)
		assert_true(read_one(number, &record));
	recorder_begin(&recorder, &ground->head, ground->ring, 4 * RING_BYTES);
	write_n(&recorder, 1);
	for (uint64_t number = recorder_oldest(&ground->head, &n); n > 0; n--, number++)
		if (read_one(number, &record))
			assert_true(is_whole(&record, number));
}

/* Whatever stands in the segment: nothing is read beyond the ring, and nothing that is no record comes out. */
static void test_a_reader_believes_nothing(void **state)
{
	static const uint32_t sizes[] = { 1, 3, RING - 1, RING + 1, 2 * RECORDER_BYTES_MOST, UINT32_MAX, 1U << 31 };
	struct recorder recorder;
	struct record record;
	uint64_t random = 88172645463325252U;
	uint32_t n;
	(void)state;
	ground->head.head = 1000;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		ground->head.size = sizes[i];
		assert_int_equal(recorder_oldest(&ground->head, &n), 1000);
		assert_int_equal(n, 0);
		assert_false(read_one(999, &record));
		recorder_go_on(&recorder, &ground->head, ground->ring);
		assert_int_equal(recorder.size, 0);
	}
	ground->head.size = RING;
	for (size_t i = 0; i < RING_BYTES / sizeof random; i++) {
		fleet_random(&random);
		memcpy(ground->ring + i * sizeof random, &random, sizeof random);
	}
	for (int i = 0; i < 1000; i++) {
		ground->head.head = fleet_random(&random);
		uint64_t number = recorder_oldest(&ground->head, &n);
		assert_in_range(n, 0, RING - 1);
		for (; n > 0; n--, number++)
			if (read_one(number, &record))
				assert_in_range(record.kind, RECORD_NONE + 1, N_RECORD_KINDS - 1);
	}
	recorder_go_on(&recorder, &ground->head, ground->ring);
	write_n(&recorder, 1);
	assert_true(read_one(recorder.next - 1, &record));
}

/* --- writers that are killed, and a reader beside them -------------------------------------------------------------------------- */

static struct recorder own;

static void turn_write(uint32_t me, uint64_t random)
{
	(void)me;
	if (!own.shared)
		recorder_begin(&own, &ground->head, ground->ring, RING_BYTES);
	write_n(&own, (uint32_t)(random % 5) + 1);
}

static void turn_read(uint32_t me, uint64_t random)
{
	struct record record;
	uint32_t n;
	(void)me;
	(void)random;
	for (uint64_t number = recorder_oldest(&ground->head, &n); n > 0; n--, number++) {
		if (!read_one(number, &record))
			continue;
		atomic_fetch_add(&ground->seen, 1);
		if (!is_whole(&record, number))
			atomic_fetch_add(&ground->torn, 1);
	}
}

static void test_killed_at_any_instruction(void **state)
{
	enum { KILLS = 60, WRITER = 0, READER = 1 };
	pid_t reader = fleet_start(&ground->fleet, READER, 1, turn_read);
	uint64_t written = 0;
	(void)state;
	for (uint64_t i = 0; i < KILLS; i++) {
		pid_t writer = fleet_start(&ground->fleet, WRITER, 100 + i, turn_write);
		fleet_wait(&ground->fleet, WRITER, 200 + i * 7);
		fleet_wait(&ground->fleet, READER, 3);
		fleet_kill(writer);
		struct recorder master;
		recorder_go_on(&master, &ground->head, ground->ring);
		assert_true(master.next > written); /* never set back */
		written = master.next;
		write_n(&master, 1);
		assert_all_there(written + 1 - (RING - 1), written + 1); /* nothing of what was told is missing */
	}
	fleet_kill(reader);
	assert_int_equal(ground->torn, 0);
	assert_true(ground->seen > 1000);
}

/* --- addresses ------------------------------------------------------------------------------------------------------------------ */

static void test_addresses(void **state)
{
	struct sockaddr_in6 peer = { .sin6_family = AF_UNSPEC };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(4711) };
	struct record_address address, other;
	(void)state;
	record_address_of(&address, &peer);
	assert_int_equal(address.family, 0);
	inet_pton(AF_INET, "10.1.2.3", &four.sin_addr);
	memset(&peer, 0, sizeof peer);
	memcpy(&peer, &four, sizeof four);
	record_address_of(&address, &peer);
	assert_int_equal(address.family, 4);
	assert_int_equal(address.port, 4711);
	assert_memory_equal(address.bytes, "\x0a\x01\x02\x03\0\0\0\0\0\0\0\0\0\0\0", 16);
	peer = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(80) };
	inet_pton(AF_INET6, "::ffff:10.1.2.3", &peer.sin6_addr);
	record_address_of(&other, &peer);
	assert_true(record_address_equal(&address, &other));
	inet_pton(AF_INET6, "2001:db8::1", &peer.sin6_addr);
	record_address_of(&other, &peer);
	assert_int_equal(other.family, 6);
	assert_false(record_address_equal(&address, &other));
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < N_RECORD_KINDS; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(record_kind_name((enum record_kind)i), record_kind_name((enum record_kind)j));
	assert_string_equal(record_kind_name((enum record_kind)4711), "unknown");
}

static void test_serials_are_never_0(void **state)
{
	(void)state;
	assert_int_equal(record_serial(1), 1);
	assert_int_equal(record_serial(18472), 18472);
	assert_int_equal(record_serial(UINT32_MAX), UINT32_MAX);
	assert_int_equal(record_serial(UINT64_C(1) << 32), 1);
	assert_int_equal(record_serial((UINT64_C(1) << 33) - 2), UINT32_MAX);
	assert_int_equal(record_serial((UINT64_C(1) << 33) - 1), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_written_is_read),
		TEST(test_the_next_writer_goes_on),
		TEST(test_off),
		TEST(test_sizes),
		TEST(test_another_size),
		TEST(test_a_reader_believes_nothing),
		TEST(test_killed_at_any_instruction),
		TEST(test_addresses),
		TEST(test_names),
		TEST(test_serials_are_never_0),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
