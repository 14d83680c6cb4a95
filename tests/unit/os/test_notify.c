/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "os/notify.h"
#include "scratch.h"

static const char *const variables[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES" };

static int clear(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
	notify_init();
	return 0;
}

static void set_pid(const char *variable, pid_t pid)
{
	char text[16];
	snprintf(text, sizeof text, "%d", (int)pid);
	setenv(variable, text, 1);
}

/* A socket that listens where systemd would; '@' = abstract. */
static int listen_at(const char *address)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t length = strlen(address);
	assert_true(length < sizeof at.sun_path);
	memcpy(at.sun_path, address, length);
	if (address[0] == '@')
		at.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)), 0);
	return fd;
}

static void expect_message(int fd, const char *message)
{
	char got[4096];
	ssize_t length = recv(fd, got, sizeof got - 1, 0);
	assert_true(length >= 0);
	got[length] = '\0';
	assert_string_equal(got, message);
}

static void check_socket(const char *address)
{
	int fd = listen_at(address);
	setenv("NOTIFY_SOCKET", address, 1);
	notify_init();
	assert_true(notify_enabled());
	assert_null(getenv("NOTIFY_SOCKET"));
	notify_send("READY=1\nSTATUS=%d connections", 7);
	expect_message(fd, "READY=1\nSTATUS=7 connections");
	close(fd);
	notify_send("STOPPING=1"); /* nobody listens: no signal, no error */
}

static void test_path(void **state)
{
	(void)state;
	struct scratch scratch;
	scratch_make(&scratch);
	check_socket(scratch_path(&scratch, "notify"));
	scratch_remove(&scratch);
}

static void test_abstract(void **state)
{
	(void)state;
	char address[64];
	snprintf(address, sizeof address, "@aegis-test-%d", (int)getpid());
	check_socket(address);
}

static void test_quiet_without_systemd(void **state)
{
	(void)state;
	assert_false(notify_enabled());
	notify_send("READY=1");
	assert_int_equal(notify_watchdog_ns(), 0);
	assert_int_equal(notify_socket_count(), 0);
	assert_int_equal(notify_socket("app", 0), -ENOENT);
	char longer[200];
	memset(longer, 'x', sizeof longer - 1);
	longer[0] = '/';
	longer[sizeof longer - 1] = '\0';
	const char *const unusable[] = { "", "/", "@", "relative", "vsock:2:1234", longer };
	for (size_t i = 0; i < ARRAY_LEN(unusable); i++) {
		setenv("NOTIFY_SOCKET", unusable[i], 1);
		notify_init();
		assert_false(notify_enabled());
		notify_send("READY=1");
	}
}

static void test_never_blocks_and_cuts_long_messages(void **state)
{
	(void)state;
	struct scratch scratch;
	scratch_make(&scratch);
	int fd = listen_at(scratch_path(&scratch, "notify"));
	setenv("NOTIFY_SOCKET", scratch_path(&scratch, "notify"), 1);
	notify_init();
	char longer[10000];
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	notify_send("STATUS=%s", longer);
	char got[4096];
	ssize_t length = recv(fd, got, sizeof got, 0);
	assert_in_range(length, 1000, 2048);
	assert_memory_equal(got, "STATUS=xxx", 10);
	for (int i = 0; i < 10000; i++) /* far more than a queue holds */
		notify_send("WATCHDOG=1");
	expect_message(fd, "WATCHDOG=1");
	close(fd);
	scratch_remove(&scratch);
}

static void check_watchdog(const char *period, pid_t pid, uint64_t expected_ns)
{
	setenv("WATCHDOG_USEC", period, 1);
	if (pid)
		set_pid("WATCHDOG_PID", pid);
	notify_init();
	assert_int_equal(notify_watchdog_ns(), expected_ns);
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
}

static void test_watchdog(void **state)
{
	(void)state;
	check_watchdog("30000000", 0, UINT64_C(15000000000));
	check_watchdog("30000000", getpid(), UINT64_C(15000000000));
	check_watchdog("30000000", getpid() + 1, 0);
	check_watchdog("1", 0, 500);
	static const char *const bad[] = { "", "0", "-1", "x", "5x", " 5", "99999999999999999999", "18446744073709551615" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		check_watchdog(bad[i], 0, 0);
}

/* Run a check in a child whose descriptors from 3 on are n sockets, as systemd leaves them. The check returns 0, or its line. */
static void with_passed_sockets(int n, int (*check)(void))
{
	pid_t child = fork();
	if (child == 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		int high = fcntl(fd, F_DUPFD, 500);
		for (int i = 3; i < 20; i++)
			close(i);
		for (int i = 0; i < n; i++)
			dup2(high, 3 + i);
		close(high);
		set_pid("LISTEN_PID", getpid());
		_exit(check());
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status))
		fail_msg("the check at line %d failed", 200 + WEXITSTATUS(status));
}

/* An exit status holds 8 bits; the checks below start after line 200. */
#define NEED(condition)                        \
	do {                                   \
		if (!(condition))              \
			return __LINE__ - 200; \
	} while (0)

static int check_names(void)
{
	setenv("LISTEN_FDS", "4", 1);
	setenv("LISTEN_FDNAMES", "http:tls:http:", 1);
	notify_init();
	NEED(notify_socket_count() == 4);
	NEED(notify_socket("http", 0) == 3);
	NEED(notify_socket("tls", 0) == 4);
	NEED(notify_socket("http", 1) == 5);
	NEED(notify_socket("http", 2) == -ENOENT);
	NEED(notify_socket("tls", 1) == -ENOENT);
	NEED(notify_socket("", 0) == 6);
	NEED(notify_socket("htt", 0) == -ENOENT);
	NEED(notify_socket("http:tls", 0) == -ENOENT);
	for (int fd = 3; fd < 7; fd++)
		NEED(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	NEED(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
	return 0;
}

static int check_without_names(void)
{
	setenv("LISTEN_FDS", "2", 1);
	notify_init();
	NEED(notify_socket_count() == 2);
	NEED(notify_socket("unknown", 0) == 3);
	NEED(notify_socket("unknown", 1) == 4);
	NEED(notify_socket("http", 0) == -ENOENT);
	return 0;
}

static int check_fewer_names_than_sockets(void)
{
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "http", 1);
	notify_init();
	NEED(notify_socket("http", 0) == 3);
	NEED(notify_socket("unknown", 0) == 4);
	return 0;
}

static int check_fewer_sockets_than_said(void)
{
	setenv("LISTEN_FDS", "9", 1);
	setenv("NOTIFY_SOCKET", "/nowhere/notify", 1); /* its socket must not pass for one of those */
	notify_init();
	NEED(notify_socket_count() == 2);
	NEED(notify_enabled());
	return 0;
}

static int check_for_someone_else(void)
{
	setenv("LISTEN_FDS", "2", 1);
	set_pid("LISTEN_PID", getppid());
	notify_init();
	NEED(notify_socket_count() == 0);
	NEED(fcntl(3, F_GETFD) == 0); /* left alone */
	NEED(!getenv("LISTEN_FDS"));
	return 0;
}

static int check_bad_numbers(void)
{
	static const char *const bad[] = { "", "-1", "x", "2x", "99999", "99999999999999999999" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		set_pid("LISTEN_PID", getpid());
		setenv("LISTEN_FDS", bad[i], 1);
		notify_init();
		NEED(notify_socket_count() == 0);
	}
	return 0;
}

static void test_sockets(void **state)
{
	(void)state;
	with_passed_sockets(4, check_names);
	with_passed_sockets(2, check_without_names);
	with_passed_sockets(2, check_fewer_names_than_sockets);
	with_passed_sockets(2, check_fewer_sockets_than_said);
	with_passed_sockets(2, check_for_someone_else);
	with_passed_sockets(2, check_bad_numbers);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)
	const struct CMUnitTest tests[] = {
		TEST(test_path),
		TEST(test_abstract),
		TEST(test_quiet_without_systemd),
		TEST(test_never_blocks_and_cuts_long_messages),
		TEST(test_watchdog),
		TEST(test_sockets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
