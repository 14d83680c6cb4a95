#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/linger.h"
#include "little_server.h"

static struct loop *loop;
static struct linger_set set;
static int ours, theirs;

static int set_up(void **state)
{
	int fds[2];

	(void)state;
	loop = loop_new();
	if (!loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	ours = fds[0];
	theirs = fds[1];
	linger_init(&set, loop);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	linger_fini(&set);
	loop_free(loop);
	close(theirs);
	return 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool none_lingers(void)
{
	return set.count == 0;
}

static void test_waits_for_the_other_side(void **state)
{
	char byte;

	(void)state;
	linger_close(&set, ours);
	assert_int_equal(set.count, 1);
	assert_int_equal(recv(theirs, &byte, 1, 0), 0); /* our end is told */
	assert_int_equal(send(theirs, "late", 4, MSG_NOSIGNAL), 4);
	close(theirs);
	run_until(loop, none_lingers, "the other side's end to be seen");
	assert_false(is_open(ours));
	theirs = dup(0);
}

static void test_closes_at_once_when_the_other_side_has_ended(void **state)
{
	(void)state;
	assert_int_equal(send(theirs, "bye", 3, MSG_NOSIGNAL), 3);
	assert_int_equal(shutdown(theirs, SHUT_WR), 0);
	linger_close(&set, ours);
	assert_int_equal(set.count, 0);
	assert_false(is_open(ours));
}

static void test_closes_what_is_not_connected(void **state)
{
	(void)state;
	close(ours);
	ours = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	linger_close(&set, ours);
	assert_int_equal(set.count, 0);
	assert_false(is_open(ours));
}

static void test_gives_up_after_a_second(void **state)
{
	uint64_t begun_ns = clock_now_ns();

	(void)state;
	linger_close(&set, ours);
	run_until(loop, none_lingers, "the time to be over");
	assert_true(clock_now_ns() - begun_ns >= LINGER_NS - 10 * NS_PER_MS);
	assert_false(is_open(ours));
	assert_true(send(theirs, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
}

static bool there_is_no_room(void)
{
	char bytes[4096];

	memset(bytes, 'x', sizeof bytes);
	return send(theirs, bytes, sizeof bytes, MSG_NOSIGNAL) < 0 && errno == EPIPE;
}

static void test_does_not_listen_for_ever(void **state)
{
	(void)state;
	linger_close(&set, ours);
	run_until(loop, there_is_no_room, "enough to be thrown away");
	assert_int_equal(set.count, 0);
}

static void test_the_oldest_makes_room(void **state)
{
	int peers[LINGER_MOST + 1], first = -1;
	char byte;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
		int fds[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
		peers[i] = fds[1];
		first = i == 0 ? fds[0] : first;
		linger_close(&set, fds[0]);
	}
	assert_int_equal(set.count, LINGER_MOST);
	assert_false(is_open(first));
	assert_true(send(peers[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	assert_int_equal(send(peers[1], "x", 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(peers[LINGER_MOST], &byte, 1, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(peers); i++)
		close(peers[i]);
	run_until(loop, none_lingers, "all to be closed");
	close(ours);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_waits_for_the_other_side),
		TEST(test_closes_at_once_when_the_other_side_has_ended),
		TEST(test_closes_what_is_not_connected),
		TEST(test_gives_up_after_a_second),
		TEST(test_does_not_listen_for_ever),
		TEST(test_the_oldest_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
