/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>

#include "segment.h"

static const struct shm_dims small = { .seats = 3, .listeners = 2, .servers = 5 };

static void test_arrays_do_not_overlap(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, small.seats, small.listeners, small.servers);
	const char *base = (const char *)shm.header;
	struct {
		const void *start;
		uint64_t size;
	} parts[] = {
		{ shm.header, sizeof *shm.header },
		{ shm.limits, (1 + 2 + 5 + SHM_UPSTREAMS) * sizeof *shm.limits },
		{ shm.listeners, 2 * sizeof *shm.listeners },
		{ shm.servers, 5 * sizeof *shm.servers },
		{ shm.upstreams, SHM_UPSTREAMS * sizeof *shm.upstreams },
		{ shm.upstream_index, shm_index_length(SHM_UPSTREAMS) * sizeof *shm.upstream_index },
		{ shm.rates.shared, rate_table_bytes(SHM_RATE_CELLS) },
		{ shm.affinities.shared, affinity_bytes(SHM_AFFINITY_ENTRIES) },
		{ shm.line_heads, 3 * SHM_UPSTREAMS * sizeof *shm.line_heads },
		{ shm.seats, 3 * sizeof *shm.seats },
		{ shm.ledgers, 3 * shm_ledger_stride(&shm) * sizeof *shm.ledgers },
		{ shm.listener_rows, 3 * 2 * sizeof *shm.listener_rows },
		{ shm.server_rows, 3 * 5 * sizeof *shm.server_rows },
		{ shm.listener_index, shm_index_length(2) * sizeof *shm.listener_index },
		{ shm.server_index, shm_index_length(5) * sizeof *shm.server_index },
	};
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		uint64_t start = (uint64_t)((const char *)parts[i].start - base), end = start + parts[i].size;
		assert_int_equal(start % CACHE_LINE_BYTES, 0);
		assert_true(end <= shm_size_bytes(&small));
		for (size_t j = 0; j < i; j++) {
			uint64_t other = (uint64_t)((const char *)parts[j].start - base);
			assert_true(end <= other || start >= other + parts[j].size);
		}
	}
	/* what two workers write is never in one cache line */
	assert_true((uintptr_t)shm_ledger(&shm, 1, 0) / CACHE_LINE_BYTES >
	            (uintptr_t)shm_ledger(&shm, 0, limit_upstream(&shm, SHM_UPSTREAMS - 1)) / CACHE_LINE_BYTES);
	assert_ptr_equal(shm_listener_row(&shm, 2, 1), &shm.listener_rows[5]);
	assert_ptr_equal(shm_server_row(&shm, 2, 4), &shm.server_rows[14]);
	assert_int_equal(limit_server(&shm, 4) + 1, limit_upstream(&shm, 0));
	assert_int_equal(limit_upstream(&shm, SHM_UPSTREAMS - 1), shm_n_limits(&shm) - 1);
	segment_drop(&shm);
}

static void test_sizes_that_cannot_be(void **state)
{
	(void)state;
	static const struct shm_dims big[] = { { UINT32_MAX, UINT32_MAX, UINT32_MAX }, { UINT32_MAX, 1000000, 1000000 },
		{ 1, UINT32_MAX, 1 }, { 1, 1, UINT32_MAX }, { UINT32_MAX, 1 << 24, 1 }, { 1, 1U << 30, 1U << 30 } };
	for (size_t i = 0; i < ARRAY_LEN(big); i++)
		assert_int_equal(shm_size_bytes(&big[i]), 0);
	const struct shm_dims most = { .seats = 2048, .listeners = 1024, .servers = 65536 };
	assert_in_range(shm_size_bytes(&most), UINT64_C(2048) * 65536 * sizeof(struct server_row), UINT64_C(1) << 40);
	const struct shm_dims none = { 0, 0, 0 };
	assert_true(shm_size_bytes(&none) >= sizeof(struct shm_header));
}

static void test_attach(void **state)
{
	(void)state;
	struct shm made, found;
	char why[256] = "";
	segment_make(&made, small.seats, small.listeners, small.servers);
	assert_int_equal(shm_attach(&found, made.header, shm_size_bytes(&small), why, sizeof why), 0);
	assert_memory_equal(&found.dims, &made.dims, sizeof made.dims);
	assert_ptr_equal(found.header, made.header);
	assert_ptr_equal(found.limits, made.limits);
	assert_ptr_equal(found.seats, made.seats);
	assert_ptr_equal(found.ledgers, made.ledgers);
	assert_ptr_equal(found.server_rows, made.server_rows);
	assert_ptr_equal(found.server_index, made.server_index);
	assert_string_equal(made.header->version, PACKAGE_VERSION);
	segment_drop(&made);
}

static void test_times_of_another_boot(void **state)
{
	(void)state;
	static struct shm_header header;
	header.started_ns = 1000;
	/* One that was killed before it wrote its name, or a kernel that has none, is judged by the time alone. */
	assert_true(shm_is_of_this_boot(&header, "one", 1000));
	assert_false(shm_is_of_this_boot(&header, "one", 999));
	strcpy(header.boot_id, "one");
	assert_true(shm_is_of_this_boot(&header, "one", 1000));
	assert_true(shm_is_of_this_boot(&header, "", 1000));
	assert_false(shm_is_of_this_boot(&header, "", 999));
	assert_false(shm_is_of_this_boot(&header, "one", 999));
	assert_false(shm_is_of_this_boot(&header, "two", 1000));
	/* Without an end, as damage may leave it. */
	memset(header.boot_id, 'x', sizeof header.boot_id);
	assert_false(shm_is_of_this_boot(&header, "x", 1000));
}

/* A copy of a good segment of size bytes, with one byte changed. 0 or what shm_attach() says. */
static int attach_changed(const struct shm *good, size_t size, size_t offset, unsigned change, char *why, size_t why_size)
{
	struct shm found;
	unsigned char *copy = segment_memory(size);
	memcpy(copy, good->header, size);
	if (offset < size)
		copy[offset] = (unsigned char)(copy[offset] ^ change);
	why[0] = '\0';
	int err = shm_attach(&found, copy, size, why, why_size);
	if (err == 0 && found.header != (void *)copy)
		err = 1;
	free(copy);
	return err;
}

static void test_attach_to_a_truncated_file(void **state)
{
	(void)state;
	struct shm good;
	char why[256];
	segment_make(&good, small.seats, small.listeners, small.servers);
	size_t size = (size_t)shm_size_bytes(&small);
	assert_int_equal(attach_changed(&good, size, size, 0, why, sizeof why), 0);
	for (size_t cut = 0; cut < size; cut += cut < 2048 ? 1 : size / 1000) {
		assert_int_equal(attach_changed(&good, cut, size, 0, why, sizeof why), -EINVAL);
		assert_non_null(strstr(why, cut < 68 ? "not a statistics segment" : "is cut short"));
	}
	assert_int_equal(attach_changed(&good, size - 1, size, 0, why, sizeof why), -EINVAL);
	segment_drop(&good);
}

static void test_attach_to_a_damaged_header(void **state)
{
	(void)state;
	struct shm good;
	char why[256];
	segment_make(&good, small.seats, small.listeners, small.servers);
	size_t size = (size_t)shm_size_bytes(&small);
	const size_t version = offsetof(struct shm_header, version),
	             end = offsetof(struct shm_header, server_index_offset) + sizeof(uint64_t);
	for (size_t offset = 0; offset < end; offset++) {
		if (offset >= version && offset < offsetof(struct shm_header, limits_offset))
			continue; /* only shown, where the hash is another one */
		for (unsigned bit = 0; bit < 8; bit++) {
			assert_int_equal(attach_changed(&good, size, offset, 1U << bit, why, sizeof why), -EINVAL);
			assert_true(strlen(why) > 10);
		}
	}
	segment_drop(&good);
}

static void test_attach_to_another_version(void **state)
{
	(void)state;
	struct shm made, found = { 0 };
	char why[256];
	segment_make(&made, small.seats, small.listeners, small.servers);
	uint64_t size = shm_size_bytes(&small);
	made.header->layout_hash ^= 1;
	assert_int_equal(shm_attach(&found, made.header, size, why, sizeof why), -EINVAL);
	assert_string_equal(
	        why, "was written by another build of Aegis " PACKAGE_VERSION ": use the aegis-stat of that build or restart Aegis");
	strcpy(made.header->version, "0.0.9");
	assert_int_equal(shm_attach(&found, made.header, size, why, sizeof why), -EINVAL);
	assert_string_equal(
	        why, "was written by Aegis 0.0.9, this is " PACKAGE_VERSION ": use the aegis-stat of that version or restart Aegis");
	/* shorter than our header is: its version is still named */
	assert_int_equal(shm_attach(&found, made.header, 68, why, sizeof why), -EINVAL);
	assert_non_null(strstr(why, "written by Aegis 0.0.9"));
	/* what could upset a terminal is not passed on, and a version without an end has one */
	memset(made.header->version, '\033', sizeof made.header->version);
	assert_int_equal(shm_attach(&found, made.header, size, why, sizeof why), -EINVAL);
	assert_null(strchr(why, '\033'));
	assert_non_null(strstr(why, "written by Aegis ???????????????????????????????, this is"));
	assert_null(found.header);
	segment_drop(&made);
}

static void test_attach_to_anything_else(void **state)
{
	(void)state;
	struct shm found;
	char why[256];
	unsigned char *bytes = segment_memory(4096);
	assert_int_equal(shm_attach(&found, bytes, 4096, why, sizeof why), -EINVAL);
	memset(bytes, 0xff, 4096);
	assert_int_equal(shm_attach(&found, bytes, 4096, why, sizeof why), -EINVAL);
	assert_non_null(strstr(why, "not a statistics segment"));
	free(bytes);
}

static void test_names_of_states(void **state)
{
	(void)state;
	assert_string_equal(instance_state_name(INSTANCE_STARTING), "starting");
	assert_string_equal(instance_state_name(INSTANCE_STOPPING), "stopping");
	assert_string_equal(instance_state_name((enum instance_state)99), "unknown");
	assert_string_equal(seat_state_name(SEAT_FREE), "free");
	assert_string_equal(seat_state_name(SEAT_DRAINING), "draining");
	assert_string_equal(seat_state_name((enum seat_state)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrays_do_not_overlap),
		cmocka_unit_test(test_sizes_that_cannot_be),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_times_of_another_boot),
		cmocka_unit_test(test_attach_to_a_truncated_file),
		cmocka_unit_test(test_attach_to_a_damaged_header),
		cmocka_unit_test(test_attach_to_another_version),
		cmocka_unit_test(test_attach_to_anything_else),
		cmocka_unit_test(test_names_of_states),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
