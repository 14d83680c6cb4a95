#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

static char directory[64];

static const char *in_directory(const char *name)
{
	static char path[108];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return path;
}

static const char *content(const char *path)
{
	static char bytes[65536];
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	ssize_t n = read(fd, bytes, sizeof bytes - 1);
	assert_true(n >= 0);
	bytes[n] = '\0';
	close(fd);
	return bytes;
}

/* The line without its time. */
static const char *message_of(const char *line)
{
	assert_true(strlen(line) > 25);
	assert_int_equal(line[10], 'T');
	assert_int_equal(line[23], 'Z');
	return line + 25;
}

static void a_file_gets_one_line_each(void **state)
{
	(void)state;
	const char *path = in_directory("a.log");
	struct stat st;

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	log_set_process("worker 1");
	log_warn("server %s is %s", "a", "down");
	assert_string_equal(message_of(content(path)), "warn  worker 1: server a is down\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_true(log_file_fd() >= 0);
	assert_true(fcntl(log_file_fd(), F_GETFL) & O_APPEND);
	assert_true(fcntl(log_file_fd(), F_GETFD) & FD_CLOEXEC);
}

static void the_level_decides(void **state)
{
	(void)state;
	const char *path = in_directory("level.log");

	assert_int_equal(log_open(path, LOG_LEVEL_WARN, LOG_FORMAT_TEXT), 0);
	assert_true(log_enabled(LOG_LEVEL_ERROR));
	assert_false(log_enabled(LOG_LEVEL_INFO));
	log_info("no");
	log_debug("no");
	log_error("yes");
	assert_string_equal(message_of(content(path)), "error worker 1: yes\n");
}

static void lines_cannot_be_forged(void **state)
{
	(void)state;
	const char *path = in_directory("forge.log");

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	log_info("user \"%s\"", "x\n2026-01-01T00:00:00.000Z error master: forged\x1b[2J");
	assert_string_equal(
	        message_of(content(path)), "info  worker 1: user \"x\\n2026-01-01T00:00:00.000Z error master: forged\\u001b[2J\"\n");
}

static void json_is_json(void **state)
{
	(void)state;
	const char *path = in_directory("json.log");
	char want[128];

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_JSON), 0);
	log_info("say \"%s\"\n", "\xff");
	const char *line = content(path);
	assert_memory_equal(line, "{\"time\":\"2", 10);
	snprintf(want, sizeof want, "\",\"level\":\"info\",\"process\":\"worker 1\",\"pid\":%d,\"message\":\"say \\\"?\\\"\\n\"}\n",
	        (int)getpid());
	assert_string_equal(line + 33, want);
}

static void long_lines_are_cut_but_whole(void **state)
{
	(void)state;
	static char big[20000];
	const char *path = in_directory("long.log");

	memset(big, '\x01', sizeof big - 1);
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_JSON), 0);
	log_info("%s", big);
	const char *line = content(path);
	size_t length = strlen(line);
	assert_true(length > 3000 && length <= 4096);
	assert_string_equal(line + length - 3, "\"}\n");
	assert_null(strstr(line, "\\u00\"")); /* no torn escape */

	memset(big, 'x', sizeof big - 1);
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	log_info("%s", big);
	line = content(path) + length;
	assert_string_equal(line + strlen(line) - 5, "x...\n");
}

static void reopens_after_rotation(void **state)
{
	(void)state;
	char path[108], old[128];
	text_copy(path, sizeof path, in_directory("rotate.log"));
	snprintf(old, sizeof old, "%s.1", path);

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	log_info("one");
	assert_int_equal(rename(path, old), 0);
	log_info("two");
	assert_int_equal(log_reopen(), 0);
	log_info("three");
	assert_non_null(strstr(content(old), ": two\n"));
	assert_string_equal(message_of(content(path)), "info  worker 1: three\n");

	/* a worker gets the new descriptor from the master */
	int fd = open(old, O_WRONLY | O_APPEND);
	log_adopt_file(fd);
	assert_int_equal(log_file_fd(), fd);
	log_info("four");
	assert_non_null(strstr(content(old), ": four\n"));

	/* what cannot be opened leaves the old one */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(log_reopen() < 0);
	log_info("five");
	assert_non_null(strstr(content(old), ": five\n"));
	assert_int_equal(rmdir(path), 0);
}

static void wrong_targets_leave_the_old_one(void **state)
{
	(void)state;
	char link[128], path[108];
	text_copy(path, sizeof path, in_directory("old.log"));
	snprintf(link, sizeof link, "%s.link", path);

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(log_open(link, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), -ELOOP);
	assert_int_equal(log_open("relative.log", LOG_LEVEL_INFO, LOG_FORMAT_TEXT), -EINVAL);
	assert_int_equal(log_open("/no/such/directory/x.log", LOG_LEVEL_INFO, LOG_FORMAT_TEXT), -ENOENT);
	assert_int_equal(log_open("syslog:/no/such/socket", LOG_LEVEL_INFO, LOG_FORMAT_TEXT), -ENOENT);
	log_info("still here");
	assert_non_null(strstr(content(path), ": still here\n"));
}

/* With fd 2 replaced; returns the old one. */
static int replace_stderr(int fd)
{
	int saved = dup(STDERR_FILENO);
	assert_true(saved >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	return saved;
}

static void restore_stderr(int saved)
{
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
}

static void a_full_pipe_drops_and_counts(void **state)
{
	(void)state;
	int ends[2];
	char bytes[8192];

	assert_int_equal(pipe2(ends, 0), 0);
	int saved = replace_stderr(ends[1]);
	int rc = log_open("stderr", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	uint64_t before = log_dropped(), written = 0;
	for (int i = 0; i < 2000 && log_dropped() == before; i++, written++)
		log_info("line %d that fills the pipe bit by bit ........................................................", i);
	uint64_t dropped = log_dropped() - before;
	int flags = fcntl(ends[1], F_GETFL);
	restore_stderr(saved);
	assert_int_equal(rc, 0);
	assert_int_equal(dropped, 1);
	assert_true(written > 10);
	assert_false(flags & O_NONBLOCK); /* the caller's description is as it was */

	/* room again: lines go on, each whole */
	ssize_t n = read(ends[0], bytes, sizeof bytes);
	assert_int_equal(n, sizeof bytes);
	before = log_dropped();
	log_info("after");
	assert_int_equal(log_dropped(), before);
	close(ends[1]);
	assert_int_equal(log_open(in_directory("x.log"), LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	char last[8192] = "";
	ssize_t last_n = 0;
	while ((n = read(ends[0], bytes, sizeof bytes)) > 0) {
		memcpy(last, bytes, (size_t)n);
		last_n = n;
	}
	assert_true(last_n > 8);
	assert_memory_equal(last + last_n - 8, ": after\n", 8);
	close(ends[0]);
}

static void a_full_socket_on_stderr_drops(void **state)
{
	(void)state;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	int saved = replace_stderr(pair[1]);
	int rc = log_open("stderr", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	uint64_t before = log_dropped();
	for (int i = 0; i < 100000 && log_dropped() == before; i++)
		log_info("%0200d", i);
	uint64_t dropped = log_dropped() - before;
	close(pair[0]);
	log_info("to nobody: no signal"); /* the default for SIGPIPE would end the test */
	restore_stderr(saved);
	assert_int_equal(rc, 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(log_dropped() - before, 2);
	assert_int_equal(log_open(in_directory("x.log"), LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	close(pair[1]);
}

static int datagram_server(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	text_copy(un.sun_path, sizeof un.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	return fd;
}

static const char *datagram(int fd)
{
	static char bytes[8192];
	ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0);
	assert_true(n > 0);
	bytes[n] = '\0';
	return bytes;
}

static void syslog_gets_datagrams(void **state)
{
	(void)state;
	char path[108], target[128], tail[64];
	text_copy(path, sizeof path, in_directory("log"));
	snprintf(target, sizeof target, "syslog:%s", path);
	int fd = datagram_server(path);

	assert_int_equal(log_open(target, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	assert_int_equal(log_file_fd(), -1);
	log_error("broken\n");
	const char *got = datagram(fd);
	assert_memory_equal(got, "<27>", 4); /* daemon.err */
	snprintf(tail, sizeof tail, " aegis[%d]: worker 1: broken\\n", (int)getpid());
	assert_string_equal(got + 4 + 15, tail);

	/* nobody reads: dropped, not waited for */
	uint64_t before = log_dropped();
	for (int i = 0; i < 100000 && log_dropped() == before; i++)
		log_info("x");
	assert_int_equal(log_dropped() - before, 1);

	/* the daemon was started anew */
	close(fd);
	fd = datagram_server(path);
	log_info("again");
	assert_non_null(strstr(datagram(fd), ": again"));
	close(fd);
}

static void the_journal_gets_fields(void **state)
{
	(void)state;
	char path[108], target[128], want[256];
	text_copy(path, sizeof path, in_directory("socket"));
	snprintf(target, sizeof target, "journal:%s", path);
	int fd = datagram_server(path);

	assert_int_equal(log_open(target, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	log_warn("two\nlines=");
	snprintf(want, sizeof want,
	        "PRIORITY=4\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=aegis\nSYSLOG_PID=%d\nAEGIS_PROCESS=worker 1\nMESSAGE=worker 1: "
	        "two\\nlines=\n",
	        (int)getpid());
	assert_string_equal(datagram(fd), want);
	close(fd);
}

static void errno_survives(void **state)
{
	(void)state;
	const char *path = in_directory("errno.log");

	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	errno = ENOENT;
	log_info("%m");
	assert_int_equal(errno, ENOENT);
	assert_non_null(strstr(content(path), "No such file"));
}

static void the_gate_opens_once_a_second(void **state)
{
	(void)state;
	struct log_gate gate = { 0 };
	uint64_t held_back = 99;

	assert_true(log_gate_open(&gate, 5 * NS_PER_S, &held_back));
	assert_int_equal(held_back, 0);
	assert_false(log_gate_open(&gate, 5 * NS_PER_S + 1, &held_back));
	assert_false(log_gate_open(&gate, 6 * NS_PER_S - 1, &held_back));
	assert_true(log_gate_open(&gate, 6 * NS_PER_S, &held_back));
	assert_int_equal(held_back, 2);
	assert_true(log_gate_open(&gate, 9 * NS_PER_S, &held_back));
	assert_int_equal(held_back, 0);
}

static int make_directory(void **state)
{
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(directory, sizeof directory, "%s/aegis-log-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	umask(022);
	return mkdtemp(directory) == NULL ? -1 : 0;
}

static int remove_directory(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	return system(command) == 0 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_gets_one_line_each),
		cmocka_unit_test(the_level_decides),
		cmocka_unit_test(lines_cannot_be_forged),
		cmocka_unit_test(json_is_json),
		cmocka_unit_test(long_lines_are_cut_but_whole),
		cmocka_unit_test(reopens_after_rotation),
		cmocka_unit_test(wrong_targets_leave_the_old_one),
		cmocka_unit_test(a_full_pipe_drops_and_counts),
		cmocka_unit_test(a_full_socket_on_stderr_drops),
		cmocka_unit_test(syslog_gets_datagrams),
		cmocka_unit_test(the_journal_gets_fields),
		cmocka_unit_test(errno_survives),
		cmocka_unit_test(the_gate_opens_once_a_second),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
