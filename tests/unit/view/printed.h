/* What an output makes of the segment of segment.h: the fixture of the tests of outputs. Include after cmocka.h. */
#ifndef AEGIS_TESTS_PRINTED_H
#define AEGIS_TESTS_PRINTED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/region.h"
#include "segment.h"
#include "view/snapshot.h"

static struct shm shm;

static int setup(void **state)
{
	(void)state;
	void *base;
	assert_int_equal(region_reserve(shm_size_bytes(&segment_dims), &base), 0);
	shm_init(&shm, base, &segment_dims);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	region_close(shm.header, shm_size_bytes(&segment_dims));
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

typedef void print_fn(const struct snapshot *snapshot, FILE *out);

/* What it says of the segment as it is now; the caller frees it. */
static inline char *printed_by(print_fn *print)
{
	struct snapshot *snapshot;
	char *text = NULL;
	size_t size;
	assert_int_equal(snapshot_make(&shm, SEGMENT_NOW_NS, &snapshot), 0);
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	print(snapshot, out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(strlen(text), size);
	snapshot_free(snapshot);
	return text;
}

static inline void check_contains(const char *text, const char *wanted)
{
	if (strstr(text, wanted) == NULL)
		fail_msg("this is missing:\n%s\nin:\n%s", wanted, text);
}

static inline void check_lacks(const char *text, const char *unwanted)
{
	if (strstr(text, unwanted) != NULL)
		fail_msg("this should not be there:\n%s\nin:\n%s", unwanted, text);
}

#endif
