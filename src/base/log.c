#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

/* A whole line fits into PIPE_BUF: a pipe takes all of it or nothing. */
enum { LINE_SIZE = PIPE_BUF, MESSAGE_SIZE = PIPE_BUF / 2, PROCESS_SIZE = 48 };

enum sink_kind { SINK_STDERR, SINK_FILE, SINK_SYSLOG, SINK_JOURNAL };

/* Where lines go. */
struct sink {
	enum sink_kind kind;
	int fd;
	bool owned;          /* fd is ours to close */
	bool socket;         /* fd wants send() */
	bool may_block;      /* fd could not be made non-blocking: ask poll() first */
	bool torn;           /* the last line got only half out: start the next one on a new line */
	char path[PATH_MAX]; /* SINK_FILE: the file; SINK_SYSLOG, SINK_JOURNAL: the socket */
};

static struct {
	struct sink sink;
	enum log_level level;
	enum log_format format;
	char process[PROCESS_SIZE];
	uint64_t dropped;
} state = {
	.sink = { .kind = SINK_STDERR, .fd = STDERR_FILENO, .may_block = true },
	.level = LOG_LEVEL_INFO,
	.process = "aegis",
};

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"
};
static const int priorities[] = {
	[LOG_LEVEL_ERROR] = LOG_ERR, [LOG_LEVEL_WARN] = LOG_WARNING, [LOG_LEVEL_INFO] = LOG_INFO, [LOG_LEVEL_DEBUG] = LOG_DEBUG
};
static_assert(ARRAY_LEN(level_names) == LOG_LEVEL_DEBUG + 1 && ARRAY_LEN(priorities) == LOG_LEVEL_DEBUG + 1, "one row per level");

static int open_path(const char *path)
{
	/* O_NONBLOCK: the path may be a FIFO */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	return fd < 0 ? -errno : fd;
}

static int open_file(struct sink *out, const char *path)
{
	if (path[0] != '/')
		return -EINVAL;
	if (!text_copy(out->path, sizeof out->path, path))
		return -ENAMETOOLONG;
	int fd = open_path(path);
	if (fd < 0)
		return fd;
	out->fd = fd;
	out->owned = true;
	return 0;
}

static int connect_unix(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (!text_copy(un.sun_path, sizeof un.sun_path, path))
		return -ENAMETOOLONG;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&un, sizeof un) != 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int open_socket(struct sink *out, const char *path)
{
	if (!text_copy(out->path, sizeof out->path, path))
		return -ENAMETOOLONG;
	int fd = connect_unix(path);
	if (fd < 0)
		return fd;
	out->fd = fd;
	out->owned = out->socket = true;
	return 0;
}

/* Our own description of what stderr is, non-blocking, because the flag of the shared one belongs to the caller's terminal or
 * pipe too. A regular file is left as it is: a write to it does not wait for a reader. */
static void open_stderr(struct sink *out)
{
	struct stat st;

	out->fd = STDERR_FILENO;
	if (fstat(STDERR_FILENO, &st) != 0 || S_ISREG(st.st_mode))
		return;
	if (S_ISSOCK(st.st_mode)) {
		out->socket = true;
		return;
	}
	int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		out->may_block = true;
		return;
	}
	out->fd = fd;
	out->owned = true;
}

/* What follows prefix and a colon, fallback when only prefix stands there, or NULL. */
static const char *path_after(const char *target, const char *prefix, const char *fallback)
{
	size_t length = strlen(prefix);

	if (strncmp(target, prefix, length) != 0)
		return NULL;
	if (target[length] == '\0')
		return fallback;
	return target[length] == ':' ? target + length + 1 : NULL;
}

static int sink_open(struct sink *out, const char *target)
{
	const char *path;

	if (strcmp(target, "stderr") == 0) {
		out->kind = SINK_STDERR;
		open_stderr(out);
		return 0;
	}
	if ((path = path_after(target, "syslog", "/dev/log")) != NULL) {
		out->kind = SINK_SYSLOG;
		return open_socket(out, path);
	}
	if ((path = path_after(target, "journal", "/run/systemd/journal/socket")) != NULL) {
		out->kind = SINK_JOURNAL;
		return open_socket(out, path);
	}
	out->kind = SINK_FILE;
	return open_file(out, target);
}

int log_open(const char *target, enum log_level level, enum log_format format)
{
	static struct sink sink; /* PATH_MAX is much for a stack */

	memset(&sink, 0, sizeof sink);
	int rc = sink_open(&sink, target);
	if (rc != 0)
		return rc;
	if (state.sink.owned)
		close(state.sink.fd);
	state.sink = sink;
	state.level = level;
	state.format = format;
	return 0;
}

int log_reopen(void)
{
	if (state.sink.kind != SINK_FILE)
		return 0;
	int fd = open_path(state.sink.path);
	if (fd < 0)
		return fd;
	log_adopt_file(fd);
	return 0;
}

int log_file_fd(void)
{
	return state.sink.kind == SINK_FILE ? state.sink.fd : -1;
}

void log_adopt_file(int fd)
{
	if (state.sink.kind != SINK_FILE) {
		close(fd);
		return;
	}
	if (state.sink.owned)
		close(state.sink.fd);
	state.sink.fd = fd;
	state.sink.owned = true;
	state.sink.torn = false;
}

void log_set_process(const char *name)
{
	text_copy(state.process, sizeof state.process, name);
}

bool log_enabled(enum log_level level)
{
	return level <= state.level;
}

uint64_t log_dropped(void)
{
	return state.dropped;
}

static ssize_t sink_write(const struct sink *sink, const char *line, size_t length)
{
	if (sink->socket)
		return send(sink->fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sink->may_block) {
		struct pollfd wait = { .fd = sink->fd, .events = POLLOUT };
		if (poll(&wait, 1, 0) != 1 || !(wait.revents & POLLOUT)) {
			errno = EAGAIN;
			return -1;
		}
	}
	return write(sink->fd, line, length);
}

/* The daemon behind the socket was started anew: connect again. */
static bool sink_revive(struct sink *sink)
{
	if ((sink->kind != SINK_SYSLOG && sink->kind != SINK_JOURNAL) || errno == EAGAIN || errno == EMSGSIZE || errno == ENOBUFS)
		return false;
	int fd = connect_unix(sink->path);
	if (fd < 0)
		return false;
	close(sink->fd);
	sink->fd = fd;
	return true;
}

/* line[0] is a '\n' that is sent only after a torn line; line[1..length) is the line. */
static void sink_put(struct sink *sink, const char *line, size_t length)
{
	size_t skip = sink->torn ? 0 : 1;
	ssize_t n = sink_write(sink, line + skip, length - skip);

	if (n < 0 && sink_revive(sink))
		n = sink_write(sink, line + skip, length - skip);
	if (n != (ssize_t)(length - skip))
		state.dropped++;
	if (n > 0)
		sink->torn = n != (ssize_t)(length - skip);
}

static void add_time(struct text *text)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	text_add(text, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
	        tm.tm_sec, now.tv_nsec / 1000000);
}

/* RFC 3164, as the C library's syslog() writes it. */
static void add_syslog_head(struct text *text, enum log_level level)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	text_add(text, "<%d>%s %2d %02d:%02d:%02d aegis[%d]: ", LOG_DAEMON | priorities[level], months[tm.tm_mon], tm.tm_mday, tm.tm_hour,
	        tm.tm_min, tm.tm_sec, (int)getpid());
}

/* The native protocol, systemd.io/JOURNAL_NATIVE_PROTOCOL: one field a line; no value holds a line end, all are escaped. */
static void add_journal_head(struct text *text, enum log_level level)
{
	text_add(text, "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=aegis\nSYSLOG_PID=%d\nAEGIS_PROCESS=", priorities[level],
	        LOG_DAEMON >> 3, (int)getpid());
	text_add_printable(text, state.process);
	text_add(text, "\nMESSAGE=");
}

static void add_json(struct text *text, enum log_level level, const char *message)
{
	text_add(text, "{\"time\":\"");
	add_time(text);
	text_add(text, "\",\"level\":\"%s\",\"process\":\"", level_names[level]);
	text_add_escaped(text, state.process);
	text_add(text, "\",\"pid\":%d,\"message\":\"", (int)getpid());
	text->size -= 2; /* room for what closes the object, however long the message */
	text_add_escaped(text, message);
	text->size += 2;
	text_add(text, "\"}");
}

static void add_text(struct text *text, enum sink_kind kind, enum log_level level, const char *message)
{
	/* syslog and the journal know time and level already */
	if (kind == SINK_STDERR || kind == SINK_FILE) {
		add_time(text);
		text_add(text, " %-5s ", level_names[level]);
	}
	text_add_printable(text, state.process);
	text_add(text, ": ");
	text_add_printable(text, message);
}

void log_line(enum log_level level, const char *format, ...)
{
	char message[MESSAGE_SIZE], line[LINE_SIZE];
	int saved = errno;
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	errno = saved; /* for %m */
	int n = vsnprintf(message, sizeof message, format, args);
	va_end(args);
	if (n < 0)
		text_copy(message, sizeof message, format);
	else if ((size_t)n >= sizeof message)
		memcpy(message + sizeof message - 4, "...", 4);

	struct text text = text_of(line, sizeof line - 1); /* room for the line end */
	text_add(&text, "\n");
	if (state.sink.kind == SINK_SYSLOG)
		add_syslog_head(&text, level);
	else if (state.sink.kind == SINK_JOURNAL)
		add_journal_head(&text, level);
	if (state.format == LOG_FORMAT_JSON)
		add_json(&text, level, message);
	else
		add_text(&text, state.sink.kind, level, message);
	if (state.sink.kind != SINK_SYSLOG)
		line[text.length++] = '\n';
	sink_put(&state.sink, line, text.length);
	errno = saved;
}

bool log_gate_open(struct log_gate *gate, uint64_t now_ns, uint64_t *held_back)
{
	if (now_ns < gate->next_ns) {
		gate->held_back++;
		return false;
	}
	*held_back = gate->held_back;
	gate->held_back = 0;
	gate->next_ns = now_ns + NS_PER_S;
	return true;
}
