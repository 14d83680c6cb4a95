/* Where log lines go: a file, stderr, or the socket of syslog or of systemd's journal. Nothing here ever waits for a reader.
 *
 * Owner: whoever opened it; a forked child may use it as well, since every write is a whole number of lines.
 */
#ifndef AEGIS_BASE_LOG_SINK_H
#define AEGIS_BASE_LOG_SINK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/attr.h"

enum log_sink_kind { LOG_SINK_NONE, LOG_SINK_STDERR, LOG_SINK_FILE, LOG_SINK_SYSLOG, LOG_SINK_JOURNAL };

struct log_sink {
	enum log_sink_kind kind;
	int fd;
	bool owned;          /* fd is ours to close */
	bool socket;         /* fd wants send() */
	bool regular;        /* a file that takes lines of any length in one piece */
	bool may_block;      /* fd could not be made non-blocking: ask poll() first */
	bool torn;           /* the last line got only half out: whoever writes next begins a new line */
	char path[PATH_MAX]; /* LOG_SINK_FILE: the file; LOG_SINK_SYSLOG, LOG_SINK_JOURNAL: the socket */
};

/* target: "stderr", "syslog", "journal" or an absolute path; "syslog:PATH" and "journal:PATH" name another socket. 0 or a negative errno.
 */
must_check int log_sink_open(struct log_sink *out, const char *target);
/* What is all zero may be closed. */
void log_sink_close(struct log_sink *sink);

/* Open the path anew: the descriptor, or a negative errno (-EINVAL where it is not a file); the sink stays as it is. */
must_check int log_sink_open_again(const struct log_sink *sink);
/* Go on with this descriptor, which becomes the sink's. */
void log_sink_adopt(struct log_sink *sink, int fd);

/* Does it take one line at a time, as messages without a line end? */
static inline bool log_sink_takes_messages(const struct log_sink *sink)
{
	return sink->kind == LOG_SINK_SYSLOG || sink->kind == LOG_SINK_JOURNAL;
}
/* How many bytes of whole lines may be written at a time, so that no other process's lines come in between. */
size_t log_sink_most(const struct log_sink *sink);
/* Write: the number of bytes that it took, or a negative errno (-EAGAIN: not now). Where a daemon behind a socket was started anew, it is
 * found again. */
must_check ssize_t log_sink_write(struct log_sink *sink, const char *bytes, size_t length);

#endif
