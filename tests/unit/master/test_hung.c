/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/hung.h"

static pid_t start(void)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		for (;;)
			(void)pause();
	return pid;
}

/* One that was killed and does not end: here it was not, which is the same to who looks. */
static void add(struct hung *hung, pid_t pid, uint64_t since_ns)
{
	hung->children[hung->n].pid = pid;
	hung->children[hung->n++].since_ns = since_ns;
}

static bool is_reaped(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void one_that_ends_is_reaped(void **state)
{
	(void)state;
	struct hung hung = { 0 };
	siginfo_t info;
	pid_t pid = start();
	hung_end(&hung, pid, 0);
	if (hung.n > 0) {
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
		assert_true(hung_reap_one(&hung));
	}
	assert_int_equal(hung.n, 0);
	assert_true(is_reaped(pid));
	assert_false(hung_reap_one(&hung));
	/* One that had ended before. */
	pid = fork();
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	hung_end(&hung, pid, 0);
	assert_int_equal(hung.n, 0);
	assert_true(is_reaped(pid));
}

static void several_that_hang_are_enough(void **state)
{
	(void)state;
	struct hung hung = { 0 };
	uint64_t now_ns = 100 * NS_PER_S;
	for (int i = 0; i < HUNG_BEARABLE; i++) {
		assert_false(hung_too_many(&hung, now_ns));
		add(&hung, start(), now_ns);
	}
	assert_false(hung_too_many(&hung, now_ns)); /* they may be dying */
	assert_true(hung_too_many(&hung, now_ns + 2 * NS_PER_S));
	assert_false(hung_reap_one(&hung));
	pid_t pid = hung.children[1].pid;
	assert_int_equal(kill(pid, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_true(hung_reap_one(&hung));
	assert_true(is_reaped(pid));
	assert_false(hung_too_many(&hung, now_ns + 2 * NS_PER_S));
	while (hung.n < HUNG_MOST)
		add(&hung, start(), now_ns);
	assert_true(hung_too_many(&hung, now_ns)); /* there is no room for one more */
	for (uint32_t i = 0; i < hung.n; i++)
		assert_int_equal(kill(hung.children[i].pid, SIGKILL), 0);
	hung_fini(&hung); /* which gives them time to end */
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void one_that_stays_holds_nobody_up(void **state)
{
	(void)state;
	struct hung hung = { 0 };
	pid_t pid = start();
	add(&hung, pid, 0);
	hung_fini(&hung);
	assert_int_equal(hung.n, 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_ends_is_reaped),
		cmocka_unit_test(several_that_hang_are_enough),
		cmocka_unit_test(one_that_stays_holds_nobody_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
