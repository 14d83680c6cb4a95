#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/pattern.h"

static struct pattern pattern;

static unsigned char expected(uint64_t i)
{
	uint64_t j = i % 65521;
	return (unsigned char)((j * 7 + j / 251) % 256);
}

/* Every byte of a piece is the one that belongs there, and the pieces are as long as asked for. */
static void check_piece(uint64_t offset, uint64_t left, int n)
{
	struct iovec iov[8];
	uint64_t done = 0;
	int used = pattern_iov(&pattern, offset, left, iov, n);
	assert_in_range(used, 0, n);
	for (int i = 0; i < used; i++) {
		const unsigned char *bytes = iov[i].iov_base;
		for (size_t k = 0; k < iov[i].iov_len; k++, done++)
			if (bytes[k] != expected(offset + done))
				fail_msg("byte %llu from %llu", (unsigned long long)done, (unsigned long long)offset);
	}
	if (used < n)
		assert_int_equal(done, left);
	else
		assert_in_range(done, 1, left);
}

static void test_pieces(void **state)
{
	(void)state;
	static const uint64_t offsets[] = { 0, 1, 65520, 65521, 65522, 4 * 65521 - 1, 4 * 65521, UINT64_C(1) << 40 };
	static const uint64_t sizes[] = { 1, 2, 65521, 65536, 300000, 3000000 };
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++)
		for (size_t j = 0; j < ARRAY_LEN(sizes); j++)
			for (int n = 1; n <= 8; n += 3)
				check_piece(offsets[i], sizes[j], n);
	assert_int_equal(pattern_iov(&pattern, 5, 0, NULL, 0), 0);
}

/* A block of a usual size that is lost shows in the bytes that follow. */
static void test_lost_blocks_show(void **state)
{
	(void)state;
	for (unsigned shift = 0; shift < 30; shift++) {
		unsigned differ = 0;
		for (uint64_t i = 0; i < 64; i++)
			differ += expected(i) != expected(i + (UINT64_C(1) << shift));
		assert_true(differ > 0);
	}
}

/* The vectors of the algorithm's authors. */
static void test_hash(void **state)
{
	(void)state;
	assert_int_equal(fnv1a_add(FNV1A_START, "", 0), UINT64_C(0xcbf29ce484222325));
	assert_int_equal(fnv1a_add(FNV1A_START, "a", 1), UINT64_C(0xaf63dc4c8601ec8c));
	assert_int_equal(fnv1a_add(FNV1A_START, "foobar", 6), UINT64_C(0x85944171f73967e8));
	assert_int_equal(fnv1a_add(fnv1a_add(FNV1A_START, "foo", 3), "bar", 3), UINT64_C(0x85944171f73967e8));
}

static int fill(void **state)
{
	(void)state;
	pattern_fill(&pattern);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_lost_blocks_show),
		cmocka_unit_test(test_hash),
	};
	return cmocka_run_group_tests(tests, fill, NULL);
}
