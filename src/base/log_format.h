/* How a log line looks, wherever it goes.
 *
 * Text:  2026-01-02T03:04:05.678Z warn  worker 1: message
 * JSON:  {"time":"...","level":"warn","process":"worker 1","pid":12,"message":"..."}
 */
#ifndef AEGIS_BASE_LOG_FORMAT_H
#define AEGIS_BASE_LOG_FORMAT_H

#include <stdint.h>

#include "base/log.h"
#include "base/log_sink.h"
#include "base/text.h"

struct log_entry {
	enum log_level level;
	uint64_t unix_ns;
	const char *process;
	pid_t pid;
	const char *message; /* may hold anything */
};

const char *log_level_name(enum log_level level);
uint64_t log_now_unix_ns(void);
/* As of RFC 3339, in UTC, with milliseconds. */
void log_add_time(struct text *out, uint64_t unix_ns);

/* What a sink wants before a line: of syslog and the journal their heads, of others nothing; and what comes after it. */
void log_add_head(struct text *out, const struct log_sink *sink, const struct log_entry *entry);
void log_add_end(struct text *out, const struct log_sink *sink);
/* A whole line. What is too long is cut, and still a line. */
void log_add_entry(struct text *out, const struct log_sink *sink, enum log_format format, const struct log_entry *entry);

#endif
