/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "os/region.h"
#include "scratch.h"

static struct scratch scratch;

static int make(void **state)
{
	(void)state;
	scratch_make(&scratch);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	scratch_remove(&scratch);
	return 0;
}

static const uint64_t big = UINT64_C(64) << 20;

static void test_create_and_open(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "stats");
	void *base = NULL, *seen = NULL;
	uint64_t size = 0;
	assert_int_equal(region_create(path, big, (gid_t)-1, &base), 0);
	char *bytes = base;
	assert_int_equal(bytes[0], 0);
	assert_int_equal(bytes[big - 1], 0);
	bytes[big - 1] = 'x';
	assert_int_equal(region_open(path, 0, &seen, &size), 0);
	assert_int_equal(size, big);
	assert_int_equal(((char *)seen)[big - 1], 'x'); /* shared */
	bytes[0] = 'y';
	assert_int_equal(((char *)seen)[0], 'y');
	region_close(seen, size);

	assert_int_equal(region_open(path, 1, &seen, &size), 0);
	((char *)seen)[1] = 'z';
	assert_int_equal(bytes[1], 'z');
	region_close(seen, size);
	region_close(base, big);

	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_true((uint64_t)status.st_blocks * 512 < big / 4); /* sparse */
	assert_int_equal(scratch_count(&scratch), 1);
}

static void test_mode_whatever_the_umask(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "stats");
	static const mode_t masks[] = { 0, 0022, 0777 };
	for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
		void *base;
		mode_t before = umask(masks[i]);
		int err = region_create(path, 4096, (gid_t)-1, &base);
		umask(before);
		assert_int_equal(err, 0);
		struct stat status;
		assert_int_equal(stat(path, &status), 0);
		assert_int_equal(status.st_mode & 07777, 0640);
		region_close(base, 4096);
	}
}

static void test_group(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "stats");
	gid_t gid = geteuid() == 0 ? 4242 : getegid();
	void *base;
	assert_int_equal(region_create(path, 4096, gid, &base), 0);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_gid, gid);
	assert_int_equal(status.st_uid, geteuid());
	assert_int_equal(status.st_mode & 07777, 0640);
	region_close(base, 4096);
}

static void test_replace_leaves_the_old_one_mapped(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "stats");
	void *old, *new;
	assert_int_equal(region_create(path, 8192, (gid_t)-1, &old), 0);
	memset(old, 'o', 8192);
	assert_int_equal(region_create(path, 4096, (gid_t)-1, &new), 0);
	assert_int_equal(((char *)new)[0], 0);
	((char *)new)[0] = 'n';
	assert_int_equal(((char *)old)[0], 'o');
	assert_int_equal(((char *)old)[8191], 'o');
	region_close(old, 8192);
	region_close(new, 4096);

	/* a symbolic link is replaced, not followed */
	scratch_write(&scratch, "victim", "precious");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("victim", path), 0);
	assert_int_equal(region_create(path, 4096, (gid_t)-1, &new), 0);
	region_close(new, 4096);
	struct stat status;
	assert_int_equal(lstat(path, &status), 0);
	assert_true(S_ISREG(status.st_mode));
	assert_int_equal(stat(scratch_path(&scratch, "victim"), &status), 0);
	assert_int_equal(status.st_size, 8);
}

static void test_create_fails_without_a_trace(void **state)
{
	(void)state;
	void *base = &scratch;
	assert_int_equal(region_create(scratch_path(&scratch, "none/stats"), 4096, (gid_t)-1, &base), -ENOENT);
	assert_int_equal(region_create(scratch_path(&scratch, "stats"), 0, (gid_t)-1, &base), -EINVAL);
	assert_int_equal(region_create(scratch_path(&scratch, "stats"), UINT64_MAX, (gid_t)-1, &base), -EFBIG);
	assert_int_equal(mkdir(scratch_path(&scratch, "directory"), 0700), 0);
	assert_int_equal(region_create(scratch_path(&scratch, "directory"), 4096, (gid_t)-1, &base), -EISDIR);
	char longer[PATH_MAX + 2];
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	assert_int_equal(region_create(longer, 4096, (gid_t)-1, &base), -ENAMETOOLONG);
	assert_ptr_equal(base, &scratch);
	assert_int_equal(scratch_count(&scratch), 1);
}

static void test_open_what_is_no_region(void **state)
{
	(void)state;
	void *base = &scratch;
	uint64_t size = 7;
	scratch_write(&scratch, "empty", "");
	assert_int_equal(mkfifo(scratch_path(&scratch, "fifo"), 0600), 0);
	assert_int_equal(mkdir(scratch_path(&scratch, "directory"), 0700), 0);
	scratch_write(&scratch, "file", "x");
	assert_int_equal(symlink("file", scratch_path(&scratch, "link")), 0);
	for (int writable = 0; writable < 2; writable++) {
		assert_int_equal(region_open(scratch_path(&scratch, "none"), writable, &base, &size), -ENOENT);
		assert_int_equal(region_open(scratch_path(&scratch, "empty"), writable, &base, &size), -EINVAL);
		assert_int_equal(region_open(scratch_path(&scratch, "fifo"), writable, &base, &size), -EINVAL); /* and returns */
		assert_int_equal(region_open(scratch_path(&scratch, "directory"), writable, &base, &size), -EINVAL);
		assert_int_equal(region_open("/dev/null", writable, &base, &size), -EINVAL);
		assert_int_equal(region_open(scratch_path(&scratch, "link"), writable, &base, &size), -ELOOP);
	}
	assert_ptr_equal(base, &scratch);
	assert_int_equal(size, 7);
}

/* The flags that the kernel shows for the mapping at base (proc(5), VmFlags). */
static void mapping_flags(const void *base, char *flags, size_t size)
{
	char line[512];
	bool found = false;
	FILE *file = fopen("/proc/self/smaps", "re");
	assert_non_null(file);
	*flags = '\0';
	while (fgets(line, sizeof line, file)) {
		unsigned long start, end;
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = start == (uintptr_t)base;
		else if (found && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, size, "%s", line);
	}
	fclose(file);
}

/* A row touched here and there must not have the kernel read megabytes of holes around it. */
static void test_shared_ones_are_not_read_ahead(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "stats");
	char flags[512];
	void *base, *seen;
	uint64_t size;
	assert_int_equal(region_create(path, big, (gid_t)-1, &base), 0);
	assert_int_equal(region_open(path, 0, &seen, &size), 0);
	mapping_flags(base, flags, sizeof flags);
	assert_non_null(strstr(flags, " rr ")); /* random read */
	mapping_flags(seen, flags, sizeof flags);
	assert_non_null(strstr(flags, " rr "));
	region_close(seen, size);
	region_close(base, big);
}

static void test_reserve(void **state)
{
	(void)state;
	void *base;
	assert_int_equal(region_reserve(big, &base), 0);
	unsigned char resident = 1;
	assert_int_equal(mincore((char *)base + big / 2, 1, &resident), 0);
	assert_int_equal(resident & 1, 0);
	((char *)base)[big - 1] = 'x';
	assert_int_equal(((char *)base)[big / 2], 0);
	region_close(base, big);
	region_close(NULL, big);
	assert_int_equal(region_reserve(0, &base), -EINVAL);
	assert_int_equal(region_reserve(UINT64_MAX / 2, &base), -ENOMEM);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		TEST(test_create_and_open),
		TEST(test_mode_whatever_the_umask),
		TEST(test_group),
		TEST(test_replace_leaves_the_old_one_mapped),
		TEST(test_create_fails_without_a_trace),
		TEST(test_open_what_is_no_region),
		TEST(test_shared_ones_are_not_read_ahead),
		cmocka_unit_test(test_reserve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
