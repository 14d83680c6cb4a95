/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/bell.h"
#include "os/loop.h"

struct listener {
	struct loop *loop;
	struct loop_io io;
	struct loop_timer deadline;
	const struct bells *bells;
	uint32_t answer; /* the bell to ring when one is heard, NO_ANSWER = none */
	int heard, until;
};

enum { NO_ANSWER = UINT32_MAX };

static void on_bell(struct loop_io *io, int events)
{
	struct listener *listener = container_of(io, struct listener, io);
	(void)events;
	if (++listener->heard >= listener->until)
		loop_stop(listener->loop);
	if (listener->answer != NO_ANSWER)
		bell_ring(listener->bells, listener->answer);
}

static void on_deadline(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct listener, deadline)->loop);
}

static void listen_to(struct listener *listener, const struct bells *bells, uint32_t which, uint32_t answer)
{
	*listener = (struct listener){ .loop = loop_new(), .bells = bells, .answer = answer };
	ensure(listener->loop);
	loop_io_init(&listener->io, on_bell);
	loop_timer_init(&listener->deadline, on_deadline);
	ensure(loop_io_set(listener->loop, &listener->io, bell_fd(bells, which), LOOP_READ | LOOP_EDGE) == 0);
}

/* Run until so many were heard, but not for ever. */
static int hear(struct listener *listener, int rings)
{
	listener->until = listener->heard + rings;
	loop_timer_start(listener->loop, &listener->deadline, 20 * NS_PER_S);
	loop_run(listener->loop);
	loop_timer_stop(listener->loop, &listener->deadline);
	return listener->until - listener->heard;
}

static void close_listener(struct listener *listener)
{
	loop_io_stop(listener->loop, &listener->io);
	loop_free(listener->loop);
}

static void test_all_who_listen_hear_each_ring(void **state)
{
	struct bells bells;
	struct listener first, second, other;
	(void)state;
	assert_int_equal(bells_open(&bells, 2), 0);
	listen_to(&first, &bells, 0, NO_ANSWER);
	listen_to(&second, &bells, 0, NO_ANSWER);
	listen_to(&other, &bells, 1, NO_ANSWER);
	for (int i = 0; i < 5; i++) {
		bell_ring(&bells, 0);
		assert_int_equal(hear(&first, 1), 0);
		assert_int_equal(hear(&second, 1), 0);
	}
	assert_int_equal(first.heard, 5);
	assert_int_equal(second.heard, 5);
	bells_ring_all(&bells);
	assert_int_equal(hear(&other, 1), 0);
	assert_int_equal(other.heard, 1);
	assert_int_equal(hear(&second, 1), 0);
	close_listener(&first);
	close_listener(&second);
	close_listener(&other);
	bells_close(&bells);
}

static void test_what_rang_before_is_heard(void **state)
{
	struct bells bells;
	struct listener listener;
	(void)state;
	assert_int_equal(bells_open(&bells, 1), 0);
	for (int i = 0; i < 1000; i++)
		bell_ring(&bells, 0);
	listen_to(&listener, &bells, 0, NO_ANSWER);
	assert_int_equal(hear(&listener, 1), 0);
	assert_int_equal(listener.heard, 1);
	close_listener(&listener);
	bells_close(&bells);
}

static void test_which_is_counted_around(void **state)
{
	struct bells bells = { 0 };
	(void)state;
	bells_close(&bells);
	assert_int_equal(bells_open(&bells, 3), 0);
	assert_int_equal(bell_fd(&bells, 4), bell_fd(&bells, 1));
	assert_int_not_equal(bell_fd(&bells, 0), bell_fd(&bells, 2));
	bells_close(&bells);
}

/* Answers each ring of bell 1 by bell 0, until it is killed. */
static pid_t start_echo(const struct bells *bells)
{
	struct listener listener;
	pid_t parent = getpid(), pid = fork();
	if (pid != 0) {
		assert_true(pid > 0);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	listen_to(&listener, bells, 1, 0);
	for (;;)
		(void)hear(&listener, 1000);
}

static void end(pid_t pid)
{
	int status;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_processes_and_one_that_is_killed(void **state)
{
	struct bells bells;
	struct listener listener;
	(void)state;
	assert_int_equal(bells_open(&bells, 2), 0);
	listen_to(&listener, &bells, 0, NO_ANSWER);
	pid_t echo = start_echo(&bells);
	for (int i = 0; i < 1000; i++) {
		bell_ring(&bells, 1);
		assert_int_equal(hear(&listener, 1), 0);
	}
	end(echo);
	bell_ring(&bells, 1); /* nobody is there: the next one hears it */
	echo = start_echo(&bells);
	assert_int_equal(hear(&listener, 1), 0);
	end(echo);
	close_listener(&listener);
	bells_close(&bells);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_who_listen_hear_each_ring),
		cmocka_unit_test(test_what_rang_before_is_heard),
		cmocka_unit_test(test_which_is_counted_around),
		cmocka_unit_test(test_processes_and_one_that_is_killed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
