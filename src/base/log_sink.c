#include "base/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"

enum { REGULAR_MOST = 64 * 1024 };

static int open_path(const char *path)
{
	/* O_NONBLOCK: the path may be a FIFO */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	return fd < 0 ? -errno : fd;
}

static bool is_regular(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int open_file(struct log_sink *out, const char *path)
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
	out->regular = is_regular(fd);
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

static int open_socket(struct log_sink *out, const char *path)
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
static void open_stderr(struct log_sink *out)
{
	struct stat st;

	out->fd = STDERR_FILENO;
	out->regular = is_regular(STDERR_FILENO);
	if (out->regular || fstat(STDERR_FILENO, &st) != 0)
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

int log_sink_open(struct log_sink *out, const char *target)
{
	static struct log_sink sink; /* PATH_MAX is much for a stack */
	const char *path;
	int error = 0;

	memset(&sink, 0, sizeof sink);
	if (strcmp(target, "stderr") == 0) {
		sink.kind = LOG_SINK_STDERR;
		open_stderr(&sink);
	} else if ((path = path_after(target, "syslog", "/dev/log")) != NULL) {
		sink.kind = LOG_SINK_SYSLOG;
		error = open_socket(&sink, path);
	} else if ((path = path_after(target, "journal", "/run/systemd/journal/socket")) != NULL) {
		sink.kind = LOG_SINK_JOURNAL;
		error = open_socket(&sink, path);
	} else {
		sink.kind = LOG_SINK_FILE;
		error = open_file(&sink, target);
	}
	if (!error)
		*out = sink;
	return error;
}

void log_sink_close(struct log_sink *sink)
{
	if (sink->owned)
		close(sink->fd);
	sink->kind = LOG_SINK_NONE;
	sink->owned = false;
	sink->fd = -1;
}

int log_sink_open_again(const struct log_sink *sink)
{
	return sink->kind == LOG_SINK_FILE ? open_path(sink->path) : -EINVAL;
}

void log_sink_adopt(struct log_sink *sink, int fd)
{
	if (sink->owned)
		close(sink->fd);
	sink->fd = fd;
	sink->owned = true;
	sink->torn = false;
	sink->regular = is_regular(fd);
}

size_t log_sink_most(const struct log_sink *sink)
{
	return sink->regular ? REGULAR_MOST : PIPE_BUF;
}

static ssize_t write_once(const struct log_sink *sink, const char *bytes, size_t length)
{
	if (sink->socket)
		return send(sink->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sink->may_block) {
		struct pollfd wait = { .fd = sink->fd, .events = POLLOUT };
		if (poll(&wait, 1, 0) != 1 || !(wait.revents & POLLOUT)) {
			errno = EAGAIN;
			return -1;
		}
	}
	return write(sink->fd, bytes, length);
}

/* The daemon behind the socket was started anew: connect again. */
static bool revive(struct log_sink *sink)
{
	if (!log_sink_takes_messages(sink) || errno == EAGAIN || errno == EMSGSIZE || errno == ENOBUFS)
		return false;
	int fd = connect_unix(sink->path);
	if (fd < 0)
		return false;
	close(sink->fd);
	sink->fd = fd;
	return true;
}

ssize_t log_sink_write(struct log_sink *sink, const char *bytes, size_t length)
{
	ssize_t n = write_once(sink, bytes, length);

	if (n < 0 && revive(sink))
		n = write_once(sink, bytes, length);
	return n < 0 ? -errno : n;
}
