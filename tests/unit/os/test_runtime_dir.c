#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/runtime_dir.h"

/* What an ordinary user gets, told by a child process: root cannot be it for itself. */
static void as_user(const char *xdg, char *out, size_t size)
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char dir[256];
		int rc = geteuid() == 0 ? seteuid(12345) : 0;
		rc |= xdg != NULL ? setenv("XDG_RUNTIME_DIR", xdg, 1) : unsetenv("XDG_RUNTIME_DIR");
		runtime_dir_default(dir, sizeof dir);
		_exit(rc != 0 || write(ends[1], dir, strlen(dir) + 1) < 0);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], out, size);
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(got > 0);
}

static void test_root(void **state)
{
	(void)state;
	char dir[64];
	if (geteuid() != 0)
		skip();
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/0", 1), 0);
	assert_ptr_equal(runtime_dir_default(dir, sizeof dir), dir);
	assert_string_equal(dir, "/run/aegis");
}

static void test_user(void **state)
{
	(void)state;
	char dir[256], private[64];
	snprintf(private, sizeof private, "/tmp/aegis-%lu", geteuid() == 0 ? 12345UL : (unsigned long)geteuid());
	as_user("/run/user/7", dir, sizeof dir);
	assert_string_equal(dir, "/run/user/7/aegis");
	as_user(NULL, dir, sizeof dir);
	assert_string_equal(dir, private);
	as_user("relative", dir, sizeof dir);
	assert_string_equal(dir, private);
	as_user("", dir, sizeof dir);
	assert_string_equal(dir, private);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_user),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
