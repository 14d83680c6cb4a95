/* How soon a process that died is replaced, and how its end is told. */
#include "master/respawn.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t most_ns = 2 * NS_PER_S;

static void test_the_first_is_replaced_at_once(void **state)
{
	(void)state;
	uint32_t quick_deaths = 0;
	assert_int_equal(respawn_delay_ns(&quick_deaths, 0, most_ns), 0);
	assert_int_equal(quick_deaths, 1);
}

static void test_who_keeps_dying_waits_ever_longer(void **state)
{
	(void)state;
	uint32_t quick_deaths = 1;
	uint64_t expected_ns = RESPAWN_FIRST_NS;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(respawn_delay_ns(&quick_deaths, RESPAWN_STEADY_NS - 1, most_ns), expected_ns);
		expected_ns = 2 * expected_ns < most_ns ? 2 * expected_ns : most_ns;
	}
	assert_int_equal(expected_ns, most_ns);
}

static void test_one_that_lived_makes_good_for_all_before(void **state)
{
	(void)state;
	uint32_t quick_deaths = 20;
	assert_int_equal(respawn_delay_ns(&quick_deaths, RESPAWN_STEADY_NS, most_ns), 0);
	assert_int_equal(quick_deaths, 0);
	assert_int_equal(respawn_delay_ns(&quick_deaths, 0, most_ns), 0);
	assert_int_equal(respawn_delay_ns(&quick_deaths, 0, most_ns), RESPAWN_FIRST_NS);
}

static int status_of(void (*last)(void))
{
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		last();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void exit_with_three(void)
{
	_exit(3);
}

static void be_killed(void)
{
	(void)kill(getpid(), SIGKILL);
}

static void test_the_end_in_words(void **state)
{
	(void)state;
	char text[RESPAWN_END_SIZE];
	assert_string_equal(respawn_end_text(status_of(exit_with_three), text), "exited with status 3");
	assert_string_equal(respawn_end_text(status_of(be_killed), text), "was killed by signal 9 (Killed)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_is_replaced_at_once),
		cmocka_unit_test(test_who_keeps_dying_waits_ever_longer),
		cmocka_unit_test(test_one_that_lived_makes_good_for_all_before),
		cmocka_unit_test(test_the_end_in_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
