#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/attr.h"
#include "base/hash.h"

/* xxhsum's self test: bytes of a generator, every branch of the hash, with and without a seed. */
static void test_xxh64(void **state)
{
	static const uint64_t prime32 = 2654435761U, prime64 = UINT64_C(11400714785074694797);
	static const struct {
		size_t size;
		uint64_t seed, hash;
	} vectors[] = {
		{ 0, 0, UINT64_C(0xef46db3751d8e999) },
		{ 0, prime32, UINT64_C(0xac75fda2929b17ef) },
		{ 1, 0, UINT64_C(0xe934a84adb052768) },
		{ 1, prime32, UINT64_C(0x5014607643a9b4c3) },
		{ 4, 0, UINT64_C(0x9136a0dca57457ee) },
		{ 14, 0, UINT64_C(0x8282dcc4994e35c8) },
		{ 14, prime32, UINT64_C(0xc3bd6bf63deb6df0) },
		{ 222, 0, UINT64_C(0xb641ae8cb691c174) },
		{ 222, prime32, UINT64_C(0x20cb8ab7ae10c14a) },
	};
	unsigned char bytes[224];
	uint64_t generator = prime32;
	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++) {
		bytes[i] = (unsigned char)(generator >> 56);
		generator *= prime64;
	}
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_true(hash_xxh64(bytes, vectors[i].size, vectors[i].seed) == vectors[i].hash);
}

/* Of texts, as the packages of other languages print them. */
static void test_xxh64_of_text(void **state)
{
	static const char text[] = "Nobody inspects the spammish repetition";
	(void)state;
	assert_true(hash_xxh64("a", 1, 0) == UINT64_C(0xd24ec4f1a98c6e5b));
	assert_true(hash_xxh64("abc", 3, 0) == UINT64_C(0x44bc2cf5ad770999));
	assert_true(hash_xxh64(text, sizeof text - 1, 0) == UINT64_C(0xfbcea83c8a378bf1));
}

static void test_where_the_bytes_lie_does_not_matter(void **state)
{
	unsigned char bytes[128];
	(void)state;
	for (size_t size = 0; size <= 100; size++) {
		for (size_t i = 0; i < size; i++)
			bytes[i] = (unsigned char)(i * 37);
		uint64_t hash = hash_xxh64(bytes, size, 5);
		for (size_t shift = 1; shift < 8; shift++) {
			memmove(bytes + shift, bytes + shift - 1, size);
			assert_true(hash_xxh64(bytes + shift, size, 5) == hash);
		}
	}
}

/* SplitMix64 with seed 1234567, as its author's code prints it. */
static void test_sequence(void **state)
{
	uint64_t sequence = 1234567;
	(void)state;
	assert_true(hash_next(&sequence) == UINT64_C(6457827717110365317));
	assert_true(hash_next(&sequence) == UINT64_C(3203168211198807973));
	assert_true(hash_next(&sequence) == UINT64_C(9817491932198370423));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xxh64),
		cmocka_unit_test(test_xxh64_of_text),
		cmocka_unit_test(test_where_the_bytes_lie_does_not_matter),
		cmocka_unit_test(test_sequence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
