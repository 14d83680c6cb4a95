#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/slab.h"

static void test_hands_out_each_object_once(void **state)
{
	enum { CAPACITY = 100, OBJECT_BYTES = 24 };
	(void)state;
	void *region = calloc(1, slab_region_bytes(OBJECT_BYTES, CAPACITY));
	void *objects[CAPACITY];
	struct slab slab;
	slab_init(&slab, region, OBJECT_BYTES, CAPACITY);
	for (int i = 0; i < CAPACITY; i++) {
		objects[i] = slab_take(&slab);
		assert_non_null(objects[i]);
		assert_int_equal((uintptr_t)objects[i] % 8, 0);
		memset(objects[i], i, OBJECT_BYTES);
	}
	for (int i = 0; i < CAPACITY; i++)
		for (int j = 0; j < OBJECT_BYTES; j++)
			assert_int_equal(((unsigned char *)objects[i])[j], i);
	assert_null(slab_take(&slab));
	assert_int_equal(slab.in_use, CAPACITY);
	for (int i = 0; i < CAPACITY; i++)
		slab_give_back(&slab, objects[i]);
	assert_int_equal(slab.in_use, 0);
	free(region);
}

static void test_last_in_is_first_out(void **state)
{
	(void)state;
	void *region = calloc(1, slab_region_bytes(64, 4));
	struct slab slab;
	slab_init(&slab, region, 64, 4);
	void *a = slab_take(&slab), *b = slab_take(&slab);
	slab_give_back(&slab, a);
	slab_give_back(&slab, b);
	assert_ptr_equal(slab_take(&slab), b);
	assert_ptr_equal(slab_take(&slab), a);
	assert_int_equal(slab.touched, 2);
	free(region);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_hands_out_each_object_once),
		cmocka_unit_test(test_last_in_is_first_out) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
