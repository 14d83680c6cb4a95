/* Log lines: what happened, where, what to do. One line each, never blocking: what cannot be written at once is dropped
 * and counted. All processes log through this file; the master opens the target and others inherit it. A worker hands its lines over
 * instead (log_hand_over()), and the control process writes them.
 *
 * What a line looks like: log_format.h; where it goes: log_sink.h.
 */
#ifndef AEGIS_BASE_LOG_H
#define AEGIS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_sink;

/* target: as log_sink_open() wants it. Before the first call lines go to stderr as text. 0 or a negative errno: the target that was open
 * stays. Who logs to a pipe ignores SIGPIPE. */
must_check int log_open(const char *target, enum log_level level, enum log_format format);

/* Open the path again after rotation (no effect for the other targets). 0 or a negative errno: the old one stays. */
must_check int log_reopen(void);

/* The descriptor of a log file, or -1 where the target is not a file; and to replace it (takes ownership). */
int log_file_fd(void);
void log_adopt_file(int fd);

/* Where lines go now, and how they look, for who writes the lines of others. */
struct log_sink *log_target(void);
enum log_format log_format(void);

/* From here on lines are not written by this process: take gets each as its message, which may hold anything but a NUL, and says whether
 * it could take it. */
typedef bool log_take_fn(void *arg, enum log_level level, const char *message, size_t length);
void log_hand_over(log_take_fn *take, void *arg);

/* Who speaks: "master", "worker 1". Copied. */
void log_set_process(const char *name);
bool log_enabled(enum log_level level);
/* How many lines this process could not write or hand over. */
uint64_t log_dropped(void);

void log_line(enum log_level level, const char *format, ...) printf_like(2, 3);
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                          \
	do {                                                    \
		if (unlikely(log_enabled(LOG_LEVEL_DEBUG)))     \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

/* At most one line per second per place that logs; says how many were held back. */
struct log_gate {
	uint64_t next_ns;
	uint64_t held_back;
};
/* True when the place may log now; *held_back is the number since the last time. */
bool log_gate_open(struct log_gate *gate, uint64_t now_ns, uint64_t *held_back);

#endif
