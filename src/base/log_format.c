#include "base/log_format.h"

#include <assert.h>
#include <syslog.h>
#include <time.h>

#include "base/clock.h"

enum { END_BYTES = 3 }; /* of a JSON object and the line */

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"
};
static const int priorities[] = {
	[LOG_LEVEL_ERROR] = LOG_ERR, [LOG_LEVEL_WARN] = LOG_WARNING, [LOG_LEVEL_INFO] = LOG_INFO, [LOG_LEVEL_DEBUG] = LOG_DEBUG
};
static_assert(ARRAY_LEN(level_names) == LOG_LEVEL_DEBUG + 1 && ARRAY_LEN(priorities) == LOG_LEVEL_DEBUG + 1, "one row per level");

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

uint64_t log_now_unix_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void log_add_time(struct text *out, uint64_t unix_ns)
{
	time_t seconds = (time_t)(unix_ns / NS_PER_S);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	text_add(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
	        (unsigned)(unix_ns % NS_PER_S / NS_PER_MS));
}

/* RFC 3164, as the C library's syslog() writes it. */
static void add_syslog_head(struct text *out, const struct log_entry *entry)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t seconds = (time_t)(entry->unix_ns / NS_PER_S);
	struct tm tm;

	localtime_r(&seconds, &tm);
	text_add(out, "<%d>%s %2d %02d:%02d:%02d aegis[%d]: ", LOG_DAEMON | priorities[entry->level], months[tm.tm_mon], tm.tm_mday,
	        tm.tm_hour, tm.tm_min, tm.tm_sec, (int)entry->pid);
}

/* The native protocol, systemd.io/JOURNAL_NATIVE_PROTOCOL: one field a line; no value holds a line end, all are escaped. */
static void add_journal_head(struct text *out, const struct log_entry *entry)
{
	text_add(out, "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=aegis\nSYSLOG_PID=%d\nAEGIS_PROCESS=", priorities[entry->level],
	        LOG_DAEMON >> 3, (int)entry->pid);
	text_add_printable(out, entry->process);
	text_add(out, "\nMESSAGE=");
}

void log_add_head(struct text *out, const struct log_sink *sink, const struct log_entry *entry)
{
	if (sink->kind == LOG_SINK_SYSLOG)
		add_syslog_head(out, entry);
	else if (sink->kind == LOG_SINK_JOURNAL)
		add_journal_head(out, entry);
}

void log_add_end(struct text *out, const struct log_sink *sink)
{
	if (sink->kind != LOG_SINK_SYSLOG)
		text_add(out, "\n");
}

static void add_json(struct text *out, const struct log_entry *entry)
{
	text_add(out, "{\"time\":\"");
	log_add_time(out, entry->unix_ns);
	text_add(out, "\",\"level\":\"%s\",\"process\":\"", level_names[entry->level]);
	text_add_escaped(out, entry->process);
	text_add(out, "\",\"pid\":%d,\"message\":\"", (int)entry->pid);
	text_add_escaped(out, entry->message);
}

static void add_text(struct text *out, const struct log_sink *sink, const struct log_entry *entry)
{
	/* syslog and the journal know time and level already */
	if (!log_sink_takes_messages(sink)) {
		log_add_time(out, entry->unix_ns);
		text_add(out, " %-5s ", level_names[entry->level]);
	}
	text_add_printable(out, entry->process);
	text_add(out, ": ");
	text_add_printable(out, entry->message);
}

void log_add_entry(struct text *out, const struct log_sink *sink, enum log_format format, const struct log_entry *entry)
{
	log_add_head(out, sink, entry);
	out->size -= END_BYTES; /* room for what closes it, however long the message */
	if (format == LOG_FORMAT_JSON)
		add_json(out, entry);
	else
		add_text(out, sink, entry);
	out->size += END_BYTES;
	if (format == LOG_FORMAT_JSON)
		text_add(out, "\"}");
	log_add_end(out, sink);
}
