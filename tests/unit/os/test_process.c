/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "os/process.h"
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

static mode_t mode_of(const char *path)
{
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	return status.st_mode & 07777;
}

static void test_boot_id(void **state)
{
	(void)state;
	char id[40] = "x", again[40], cut[8];
	assert_ptr_equal(process_boot_id(id, sizeof id), id);
	assert_int_equal(strlen(id), 36);
	assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
	assert_string_equal(process_boot_id(again, sizeof again), id);
	assert_int_equal(strlen(process_boot_id(cut, sizeof cut)), sizeof cut - 1);
	assert_memory_equal(cut, id, sizeof cut - 1);
}

static void test_start_ticks(void **state)
{
	(void)state;
	uint64_t own = process_start_ticks(getpid());
	assert_true(own > 0);
	assert_true(process_start_ticks(getppid()) <= own);
	char name[16];
	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, ") S 1 (2) 3 4 5");
	assert_int_equal(process_start_ticks(getpid()), own);
	prctl(PR_SET_NAME, name);

	pid_t child = fork();
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(process_start_ticks(child), 0);
	assert_int_equal(process_start_ticks(-1), 0);
}

static void test_one_holder(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "aegis.pid");
	pid_t running = -7;
	assert_int_equal(process_running(path), -ENOENT);
	int fd = process_lock_pid_file(path, &running);
	assert_true(fd >= 0);
	assert_int_equal(running, -7);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(process_running(path), getpid());
	assert_int_equal(process_lock_pid_file(path, &running), -EEXIST);
	assert_int_equal(running, getpid());
	assert_int_equal(process_running(path), getpid()); /* and the look did not take the lock away */
	assert_int_equal(process_lock_pid_file(path, &running), -EEXIST);
	close(fd);
	assert_int_equal(process_running(path), -ENOENT); /* a stale file */
	fd = process_lock_pid_file(path, &running);
	assert_true(fd >= 0);
	close(fd);
}

static void test_mode_whatever_the_umask(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "aegis.pid");
	pid_t running;
	mode_t before = umask(0077);
	int fd = process_lock_pid_file(path, &running);
	umask(before);
	assert_true(fd >= 0);
	assert_int_equal(mode_of(path), 0644);
	close(fd);
}

static void test_longer_old_content_is_cut(void **state)
{
	(void)state;
	scratch_write(&scratch, "aegis.pid", "99999999999999999999 and more\nand more\n");
	const char *path = scratch_path(&scratch, "aegis.pid");
	pid_t running;
	int fd = process_lock_pid_file(path, &running);
	assert_true(fd >= 0);
	char expected[32], got[64] = "";
	snprintf(expected, sizeof expected, "%d\n", (int)getpid());
	assert_int_equal(pread(fd, got, sizeof got - 1, 0), strlen(expected));
	assert_string_equal(got, expected);
	close(fd);
}

/* The lock goes with its holder, even when that is killed; until then others see the holder. */
static void test_holder_killed(void **state)
{
	(void)state;
	const char *path = scratch_path(&scratch, "aegis.pid");
	pid_t running = 0;
	int ready[2];
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int fd = process_lock_pid_file(path, &running);
		if (write(ready[1], fd >= 0 ? "y" : "n", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	char answer = 0;
	assert_int_equal(read(ready[0], &answer, 1), 1);
	assert_int_equal(answer, 'y');
	assert_int_equal(process_running(path), child);
	assert_int_equal(process_lock_pid_file(path, &running), -EEXIST);
	assert_int_equal(running, child);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(process_running(path), -ENOENT);
	int fd = process_lock_pid_file(path, &running);
	assert_true(fd >= 0);
	close(fd);
	close(ready[0]);
	close(ready[1]);
}

static void test_locked_without_a_pid(void **state)
{
	(void)state;
	static const char *const contents[] = { "", "x\n", "-5\n", "0\n", "123", "99999999999\n", "12x\n" };
	for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
		scratch_write(&scratch, "aegis.pid", contents[i]);
		const char *path = scratch_path(&scratch, "aegis.pid");
		int fd = open(path, O_RDWR);
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
		assert_int_equal(process_running(path), -EAGAIN);
		pid_t running = -7;
		assert_int_equal(process_lock_pid_file(path, &running), -EEXIST);
		assert_int_equal(running, 0);
		close(fd);
	}
}

static void test_not_a_regular_file(void **state)
{
	(void)state;
	pid_t running;
	scratch_write(&scratch, "victim", "precious");
	assert_int_equal(symlink("victim", scratch_path(&scratch, "link")), 0);
	assert_int_equal(process_lock_pid_file(scratch_path(&scratch, "link"), &running), -ELOOP);
	assert_int_equal(process_running(scratch_path(&scratch, "link")), -ELOOP);
	assert_int_equal(mkfifo(scratch_path(&scratch, "fifo"), 0600), 0);
	assert_int_equal(process_lock_pid_file(scratch_path(&scratch, "fifo"), &running), -EINVAL);
	assert_true(process_running(scratch_path(&scratch, "fifo")) < 0);
	assert_int_equal(process_lock_pid_file(scratch.path, &running), -EISDIR);
	assert_int_equal(process_lock_pid_file(scratch_path(&scratch, "none/aegis.pid"), &running), -ENOENT);
	struct stat status;
	assert_int_equal(stat(scratch_path(&scratch, "victim"), &status), 0);
	assert_int_equal(status.st_size, 8);
}

static void test_make_directory(void **state)
{
	(void)state;
	mode_t before = umask(0077);
	int err = process_make_directory(scratch_path(&scratch, "a//b/c/"), 0);
	umask(before);
	assert_int_equal(err, 0);
	assert_int_equal(mode_of(scratch_path(&scratch, "a")), 0755);
	assert_int_equal(mode_of(scratch_path(&scratch, "a/b")), 0755);
	assert_int_equal(mode_of(scratch_path(&scratch, "a/b/c")), 0755);
	assert_int_equal(chmod(scratch_path(&scratch, "a"), 0711), 0);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "a/b/c"), 0), 0);
	assert_int_equal(mode_of(scratch_path(&scratch, "a")), 0711); /* what is there stays as it is */
	scratch_write(&scratch, "file", "");
	assert_int_equal(process_make_directory(scratch_path(&scratch, "file"), 0), -ENOTDIR);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "file/a"), 0), -ENOTDIR);
	assert_int_equal(process_make_directory("", 0), -ENOENT);
	assert_int_equal(process_make_directory("/", 0), 0);
	char longer[PATH_MAX + 2];
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	assert_int_equal(process_make_directory(longer, 0), -ENAMETOOLONG);
}

static void test_make_private_directory(void **state)
{
	(void)state;
	mode_t before = umask(0);
	int err = process_make_directory(scratch_path(&scratch, "a/private"), 1);
	umask(before);
	assert_int_equal(err, 0);
	assert_int_equal(mode_of(scratch_path(&scratch, "a")), 0755);
	assert_int_equal(mode_of(scratch_path(&scratch, "a/private")), 0700);

	assert_int_equal(mkdir(scratch_path(&scratch, "open"), 0777), 0);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "open"), 1), 0);
	assert_int_equal(mode_of(scratch_path(&scratch, "open")), 0700);

	assert_int_equal(symlink("open", scratch_path(&scratch, "link")), 0);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "link"), 1), -EPERM);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "link/"), 1), -EPERM);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "link"), 0), 0);
	assert_int_equal(symlink("nowhere", scratch_path(&scratch, "dangling")), 0);
	assert_int_equal(process_make_directory(scratch_path(&scratch, "dangling"), 1), -EPERM);
	scratch_write(&scratch, "file", "");
	assert_int_equal(process_make_directory(scratch_path(&scratch, "file"), 1), -ENOTDIR);
	if (geteuid() == 0) {
		assert_int_equal(chown(scratch_path(&scratch, "open"), 1, 1), 0);
		assert_int_equal(process_make_directory(scratch_path(&scratch, "open"), 1), -EPERM);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot_id),
		cmocka_unit_test(test_start_ticks),
		TEST(test_one_holder),
		TEST(test_mode_whatever_the_umask),
		TEST(test_longer_old_content_is_cut),
		TEST(test_holder_killed),
		TEST(test_locked_without_a_pid),
		TEST(test_not_a_regular_file),
		TEST(test_make_directory),
		TEST(test_make_private_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
