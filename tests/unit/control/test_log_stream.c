#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../shm/segment.h"
#include "base/log_format.h"
#include "control/log_stream.h"
#include "shm/log_port.h"
#include "shm/log_records.h"

enum { SEATS = 3 };

static struct shm shm;
static struct log_stream *stream;
static struct log_sink sink;
static struct log_port ports[SEATS][N_LOG_KINDS];

static int begin(void **state)
{
	(void)state;
	segment_make(&shm, SEATS, 2, 2);
	for (uint32_t seat = 0; seat < SEATS; seat++) {
		atomic_store(&shm.seats[seat].started_ns, 1);
		for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
			log_port_open(&ports[seat][kind], &shm, seat, kind, LOG_RING_LEAST, NULL);
	}
	text_copy(shm.listeners[1].name, sizeof shm.listeners[1].name, "app");
	text_copy(shm.upstreams[0].name, sizeof shm.upstreams[0].name, "web");
	text_copy(shm.servers[1].name, sizeof shm.servers[1].name, "a");
	stream = test_malloc(sizeof *stream);
	memset(&sink, 0, sizeof sink);
	return 0;
}

static int end(void **state)
{
	(void)state;
	log_sink_close(&sink);
	test_free(stream);
	segment_drop(&shm);
	return 0;
}

static bool say(uint32_t seat, const char *message)
{
	struct line_record *record = log_port_reserve(&ports[seat][LOG_KIND_ERROR], sizeof *record + strlen(message));
	if (!record)
		return false;
	*record = (struct line_record){ .unix_ns = UINT64_C(1767323045678000000), .pid = 77, .slot = seat + 10, .level = LOG_LEVEL_WARN };
	memcpy(record + 1, message, strlen(message));
	log_port_commit(&ports[seat][LOG_KIND_ERROR]);
	return true;
}

static bool record(uint32_t seat, uint32_t serial)
{
	struct access_record *record = log_port_reserve(&ports[seat][LOG_KIND_ACCESS], sizeof *record);
	if (!record)
		return false;
	*record = (struct access_record){ .serial = serial,
		.listener = 1,
		.upstream = 0,
		.server = 1,
		.connect_ns = ACCESS_NEVER,
		.first_byte_ns = ACCESS_NEVER,
		.reason = REASON_FULL };
	log_port_commit(&ports[seat][LOG_KIND_ACCESS]);
	return true;
}

/* Until there is no more, or the target takes no more. */
static void work(void)
{
	bool any = false;
	while (log_stream_work(stream, &any))
		;
}

static void to_pipe(int ends[2], enum log_kind kind, enum log_format format)
{
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	sink = (struct log_sink){ .kind = LOG_SINK_FILE, .fd = ends[1] };
	log_stream_init(stream, &shm, kind, &sink, format);
}

static const char *drain(int fd)
{
	static char bytes[1 << 20];
	size_t length = 0;
	for (ssize_t n; (n = read(fd, bytes + length, sizeof bytes - 1 - length)) > 0;)
		length += (size_t)n;
	bytes[length] = '\0';
	return bytes;
}

static void lines_of_all_seats(void **state)
{
	(void)state;
	int ends[2];
	to_pipe(ends, LOG_KIND_ERROR, LOG_FORMAT_TEXT);
	assert_true(say(2, "one\n\x1b\xff"));
	assert_true(say(0, "two"));
	assert_true(say(2, "three"));
	work();
	assert_string_equal(drain(ends[0]), "2026-01-02T03:04:05.678Z warn  worker 10: two\n"
	                                    "2026-01-02T03:04:05.678Z warn  worker 12: one\\n\\u001b?\n"
	                                    "2026-01-02T03:04:05.678Z warn  worker 12: three\n");
	work();
	assert_string_equal(drain(ends[0]), "");
	close(ends[0]);
	close(ends[1]);
}

static void records_with_the_names_of_their_rows(void **state)
{
	(void)state;
	int ends[2];
	to_pipe(ends, LOG_KIND_ACCESS, LOG_FORMAT_JSON);
	assert_true(record(1, 5));
	work();
	const char *line = drain(ends[0]);
	assert_non_null(strstr(line,
	        "\"id\":\"1.5\",\"phase\":\"close\",\"client\":\"unix\",\"listener\":\"app\",\"upstream\":\"web\",\"server\":\"a\","));
	assert_non_null(strstr(line, "\"reason\":\"full\",\"closed_by\":\"aegis\"}\n"));
	close(ends[0]);
	close(ends[1]);
}

/* What shared memory says about records may be anything: they are told as far as they can be, or left out and counted. */
static void nothing_in_shared_memory_is_believed(void **state)
{
	(void)state;
	int ends[2];
	to_pipe(ends, LOG_KIND_ACCESS, LOG_FORMAT_JSON);
	struct access_record *bad = log_port_reserve(&ports[0][LOG_KIND_ACCESS], sizeof *bad);
	memset(bad, 0xff, sizeof *bad); /* a phase that is none */
	log_port_commit(&ports[0][LOG_KIND_ACCESS]);
	bad = log_port_reserve(&ports[0][LOG_KIND_ACCESS], sizeof *bad);
	memset(bad, 0xff, sizeof *bad); /* rows that are none */
	bad->phase = ACCESS_CLOSE;
	bad->reason = REASON_FULL;
	memset(bad->text_lengths, 0, sizeof bad->text_lengths);
	log_port_commit(&ports[0][LOG_KIND_ACCESS]);
	bad = log_port_reserve(&ports[0][LOG_KIND_ACCESS], sizeof *bad);
	memset(bad, 0, sizeof *bad);
	bad->text_lengths[ACCESS_TEXT_NAME] = 8; /* a name that is not there */
	log_port_commit(&ports[0][LOG_KIND_ACCESS]);
	assert_non_null(log_port_reserve(&ports[0][LOG_KIND_ACCESS], 10)); /* too short */
	log_port_commit(&ports[0][LOG_KIND_ACCESS]);
	memset(shm.listeners[1].name, 'x', sizeof shm.listeners[1].name); /* names that do not end */
	memset(shm.servers[1].name, 'y', sizeof shm.servers[1].name);
	assert_true(record(0, 6));
	work();
	const char *text = drain(ends[0]);
	assert_non_null(strstr(text, "\"listener\":\"\",\"upstream\":\"\",\"server\":null"));
	assert_non_null(strstr(text, "\"id\":\"0.6\""));
	assert_int_equal(stream->unsound, 3);

	/* a ring that cannot be right is given up, and good again */
	struct log_ring *ring = shm_log_ring(&shm, 0, LOG_KIND_ACCESS);
	assert_true(record(0, 7));
	atomic_store(&ring->capacity, 12345);
	work();
	assert_int_equal(stream->unsound, 4);
	atomic_store(&ring->capacity, LOG_RING_LEAST);
	assert_true(record(0, 8));
	work();
	assert_non_null(strstr(drain(ends[0]), "\"id\":\"0.8\""));
	close(ends[0]);
	close(ends[1]);
}

/* Lines are whole and each is there once, however little the reader takes at a time; what has no room is dropped by the workers. */
static void a_slow_reader(void **state)
{
	(void)state;
	int ends[2];
	char name[64];
	to_pipe(ends, LOG_KIND_ACCESS, LOG_FORMAT_TEXT);
	uint32_t put = 0, dropped = 0, read_next = 1;
	(void)!fcntl(ends[1], F_SETPIPE_SZ, 8192);
	for (int i = 0; i < 2000; i++) {
		if (record(0, put + 1))
			put++;
		else
			dropped++;
		work();
		if (i % 700 != 699 && i != 1999)
			continue;
		for (const char *line = drain(ends[0]); *line; line = strchr(line, '\n') + 1, read_next++) {
			snprintf(name, sizeof name, " 0.%u close unix app web/a ", read_next);
			assert_non_null(strstr(line, name));
			assert_true(strstr(line, name) < strchr(line, '\n'));
		}
	}
	assert_true(dropped > 100);
	assert_int_equal(log_stream_drops(stream), dropped);
	for (int i = 0; i < 100; i++) {
		work();
		for (const char *line = drain(ends[0]); *line; line = strchr(line, '\n') + 1)
			read_next++;
	}
	assert_int_equal(read_next - 1, put);
	close(ends[0]);
	close(ends[1]);
}

/* The next control process goes on with the line after the last whole one. */
static void who_stops_leaves_the_rest(void **state)
{
	(void)state;
	int ends[2];
	to_pipe(ends, LOG_KIND_ACCESS, LOG_FORMAT_TEXT);
	(void)!fcntl(ends[1], F_SETPIPE_SZ, 4096);
	uint32_t put = 0;
	while (record(1, put + 1))
		put++;
	work(); /* as much as the pipe holds */
	assert_int_equal(stream->error, EAGAIN);
	log_stream_stop(stream);
	uint32_t lines = 0;
	for (const char *line = drain(ends[0]); *line; line = strchr(line, '\n') + 1)
		lines++;
	assert_true(lines > 0 && lines < put);
	log_stream_init(stream, &shm, LOG_KIND_ACCESS, &sink, LOG_FORMAT_TEXT);
	for (int i = 0; i < 100; i++) {
		work();
		for (const char *line = drain(ends[0]); *line; line = strchr(line, '\n') + 1) {
			char name[32];
			snprintf(name, sizeof name, " 1.%u close ", ++lines);
			assert_true(strstr(line, name) && strstr(line, name) < strchr(line, '\n'));
		}
	}
	assert_int_equal(lines, put);
	close(ends[0]);
	close(ends[1]);
}

/* Half a line of somebody else in the same file: ours do not go on where it ended. */
static void others_write_to_it_too(void **state)
{
	(void)state;
	int ends[2];
	to_pipe(ends, LOG_KIND_ERROR, LOG_FORMAT_TEXT);
	assert_int_equal(write(ends[1], "half a li", 9), 9);
	sink.torn = true;
	assert_true(say(0, "one"));
	work();
	assert_string_equal(drain(ends[0]), "half a li\n2026-01-02T03:04:05.678Z warn  worker 10: one\n");
	assert_false(sink.torn);

	/* half a line of ours, and one of theirs: ours begins anew */
	assert_true(say(0, "two"));
	stream->written = 0;
	int full[2];
	assert_int_equal(pipe2(full, O_NONBLOCK), 0);
	sink.fd = full[1];
	char filler[65536];
	memset(filler, '.', sizeof filler);
	(void)!write(full[1], filler, sizeof filler);
	work();
	assert_int_equal(stream->error, EAGAIN);
	stream->written = 7;
	sink.torn = false;
	sink.fd = ends[1];
	work();
	assert_string_equal(drain(ends[0]), "2026-01-02T03:04:05.678Z warn  worker 10: two\n");
	close(full[0]);
	close(full[1]);
	close(ends[0]);
	close(ends[1]);
}

static void without_a_target_records_are_thrown_away(void **state)
{
	(void)state;
	log_stream_init(stream, &shm, LOG_KIND_ACCESS, NULL, LOG_FORMAT_JSON);
	for (uint32_t i = 0; i < 5000; i++) {
		assert_true(record(i % SEATS, i));
		work();
	}
	assert_int_equal(log_stream_drops(stream), 0);
}

/* --- syslog and the journal --------------------------------------------------------------------------------------------------- */

static char directory[64];

static int daemon_at(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	text_copy(un.sun_path, sizeof un.sun_path, path);
	(void)unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	return fd;
}

static const char *message(int fd)
{
	static char bytes[8192];
	ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0);
	if (n < 0)
		return NULL;
	bytes[n] = '\0';
	return bytes;
}

static int open_daemon(const char *kind, enum log_kind log, char path[108])
{
	char target[160];
	snprintf(path, 108, "%s/%s", directory, kind);
	snprintf(target, sizeof target, "%s:%s", kind, path);
	int fd = daemon_at(path);
	assert_int_equal(log_sink_open(&sink, target), 0);
	log_stream_init(stream, &shm, log, &sink, LOG_FORMAT_TEXT);
	return fd;
}

static void syslog_gets_a_message_each(void **state)
{
	(void)state;
	char path[108];
	int fd = open_daemon("syslog", LOG_KIND_ACCESS, path);
	for (uint32_t i = 1; i <= 3; i++)
		assert_true(record(0, i));
	work();
	for (uint32_t i = 1; i <= 3; i++) {
		char tail[64];
		const char *got = message(fd);
		assert_non_null(got);
		assert_memory_equal(got, "<30>", 4); /* daemon.info */
		snprintf(tail, sizeof tail, " aegis[%d]: 0.%u close unix app web/a ", (int)getpid(), i);
		assert_non_null(strstr(got, tail));
		assert_null(strchr(got, '\n'));
	}

	/* nobody reads: they wait; then all of them come */
	uint32_t put = 3, got = 3;
	while (record(0, put + 1)) {
		put++;
		work();
	}
	assert_int_equal(stream->error, EAGAIN);
	while (got < put) {
		const char *next = message(fd);
		if (!next) {
			work();
			continue;
		}
		char name[32];
		snprintf(name, sizeof name, " 0.%u close ", ++got);
		assert_non_null(strstr(next, name));
	}

	/* the daemon is started anew: what was said meanwhile waited */
	close(fd);
	assert_true(record(0, 9001));
	work();
	assert_true(stream->error != 0 && stream->error != EAGAIN);
	fd = daemon_at(path);
	work();
	assert_non_null(strstr(message(fd), " 0.9001 close "));
	close(fd);
}

static void the_journal_gets_fields_each(void **state)
{
	(void)state;
	char path[108], want[256];
	int fd = open_daemon("journal", LOG_KIND_ERROR, path);
	assert_true(say(1, "two\nlines="));
	work();
	snprintf(want, sizeof want,
	        "PRIORITY=4\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=aegis\nSYSLOG_PID=77\nAEGIS_PROCESS=worker 11\nMESSAGE=worker 11: "
	        "two\\nlines=\n");
	assert_string_equal(message(fd), want);
	close(fd);
	log_sink_close(&sink);
	fd = open_daemon("journal", LOG_KIND_ACCESS, path);
	stream->format = LOG_FORMAT_JSON;
	assert_true(record(0, 1));
	work();
	const char *got = message(fd);
	assert_non_null(strstr(got, "AEGIS_PROCESS=access\nMESSAGE={\"time\":"));
	assert_string_equal(got + strlen(got) - 2, "}\n");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines_of_all_seats, begin, end),
		cmocka_unit_test_setup_teardown(records_with_the_names_of_their_rows, begin, end),
		cmocka_unit_test_setup_teardown(nothing_in_shared_memory_is_believed, begin, end),
		cmocka_unit_test_setup_teardown(a_slow_reader, begin, end),
		cmocka_unit_test_setup_teardown(who_stops_leaves_the_rest, begin, end),
		cmocka_unit_test_setup_teardown(others_write_to_it_too, begin, end),
		cmocka_unit_test_setup_teardown(without_a_target_records_are_thrown_away, begin, end),
		cmocka_unit_test_setup_teardown(syslog_gets_a_message_each, begin, end),
		cmocka_unit_test_setup_teardown(the_journal_gets_fields_each, begin, end),
	};
	const char *tmp = getenv("TMPDIR");
	snprintf(directory, sizeof directory, "%s/aegis-stream-XXXXXX", tmp && strlen(tmp) < 30 ? tmp : "/tmp");
	if (!mkdtemp(directory))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	return system(command) == 0 ? failed : 1;
}
