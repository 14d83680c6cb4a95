/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "in_child.h"
#include "os/signals.h"

static const int wanted[] = { SIGUSR1, SIGHUP, 0 };

static int check_descriptor(void)
{
	int fd = signals_open(wanted), sender = -7;
	if (fd < 0 || fcntl(fd, F_GETFD) != FD_CLOEXEC || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
		return 1;
	if (signals_next(fd, &sender) != 0 || sender != -7)
		return 2;
	if (raise(SIGUSR1) || kill(getpid(), SIGHUP) || raise(SIGUSR1))
		return 3;
	int first = signals_next(fd, &sender);
	if (sender != getpid())
		return 4;
	int second = signals_next(fd, &sender);
	if (!((first == SIGUSR1 && second == SIGHUP) || (first == SIGHUP && second == SIGUSR1)))
		return 5;
	return signals_next(fd, &sender) == 0 ? 0 : 6; /* the same one twice is one */
}

static void test_descriptor(void **state)
{
	(void)state;
	in_child(check_descriptor);
}

static int check_bad_signal(void)
{
	static const int bad[] = { SIGUSR1, 4711, 0 };
	if (signals_open(bad) != -EINVAL)
		return 1;
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	return sigismember(&mask, SIGUSR1) ? 2 : 0;
}

static void test_bad_signal(void **state)
{
	(void)state;
	in_child(check_bad_signal);
}

static void on_signal(int number)
{
	(void)number;
	_exit(99);
}

static int check_child(void)
{
	signal(SIGCHLD, on_signal);
	signal(SIGSEGV, SIG_IGN);
	int fd = signals_open(wanted);
	if (fd < 0)
		return 1;
	signals_for_child();
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	if (sigismember(&mask, SIGUSR1) || sigismember(&mask, SIGHUP))
		return 2;
	static const int masters[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGPIPE };
	for (size_t i = 0; i < ARRAY_LEN(masters); i++)
		if (raise(masters[i]))
			return 3;
	struct sigaction action;
	if (sigaction(SIGCHLD, NULL, &action) || action.sa_handler != SIG_DFL)
		return 4;
	if (sigaction(SIGSEGV, NULL, &action) || action.sa_handler != SIG_DFL)
		return 5;
	return 0;
}

static int check_broken_pipe(void)
{
	static const int some[] = { SIGHUP, 0 };
	int ends[2];
	if (signals_open(some) < 0 || pipe(ends) < 0 || close(ends[0]) < 0)
		return 1;
	return write(ends[1], "x", 1) < 0 && errno == EPIPE ? 0 : 2;
}

static void test_a_broken_pipe_is_no_end(void **state)
{
	(void)state;
	in_child(check_broken_pipe);
}

static void test_child(void **state)
{
	(void)state;
	in_child(check_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_bad_signal),
		cmocka_unit_test(test_a_broken_pipe_is_no_end),
		cmocka_unit_test(test_child),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
