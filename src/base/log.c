#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_format.h"
#include "base/log_sink.h"
#include "base/text.h"

/* A whole line fits into PIPE_BUF: a pipe takes all of it or nothing. */
enum { LINE_SIZE = PIPE_BUF, MESSAGE_SIZE = PIPE_BUF / 2, PROCESS_SIZE = 48 };

static struct {
	struct log_sink sink;
	enum log_level level;
	enum log_format format;
	char process[PROCESS_SIZE];
	uint64_t dropped;
	log_take_fn *take;
	void *take_arg;
} state = {
	.sink = { .kind = LOG_SINK_STDERR, .fd = STDERR_FILENO, .may_block = true },
	.level = LOG_LEVEL_INFO,
	.process = "aegis",
};

int log_open(const char *target, enum log_level level, enum log_format format)
{
	static struct log_sink sink; /* PATH_MAX is much for a stack */

	int rc = log_sink_open(&sink, target);
	if (rc != 0)
		return rc;
	log_sink_close(&state.sink);
	state.sink = sink;
	state.level = level;
	state.format = format;
	return 0;
}

int log_reopen(void)
{
	if (state.sink.kind != LOG_SINK_FILE)
		return 0;
	int fd = log_sink_open_again(&state.sink);
	if (fd < 0)
		return fd;
	log_adopt_file(fd);
	return 0;
}

int log_file_fd(void)
{
	return state.sink.kind == LOG_SINK_FILE ? state.sink.fd : -1;
}

void log_adopt_file(int fd)
{
	if (state.sink.kind == LOG_SINK_FILE)
		log_sink_adopt(&state.sink, fd);
	else
		close(fd);
}

struct log_sink *log_target(void)
{
	return &state.sink;
}

enum log_format log_format(void)
{
	return state.format;
}

void log_hand_over(log_take_fn *take, void *arg)
{
	state.take = take;
	state.take_arg = arg;
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

/* line[0] is a '\n' that is written only after a torn line; line[1..length) is the line. */
static void put(struct log_sink *sink, const char *line, size_t length)
{
	size_t skip = sink->torn ? 0 : 1;
	ssize_t n = log_sink_write(sink, line + skip, length - skip);

	if (n != (ssize_t)(length - skip))
		state.dropped++;
	if (n > 0)
		sink->torn = n != (ssize_t)(length - skip);
}

static void put_message(enum log_level level, const char *message)
{
	const struct log_entry entry = {
		.level = level, .unix_ns = log_now_unix_ns(), .process = state.process, .pid = getpid(), .message = message
	};
	char line[LINE_SIZE];
	struct text text = text_of(line + 1, sizeof line - 1);

	line[0] = '\n';
	log_add_entry(&text, &state.sink, state.format, &entry);
	put(&state.sink, line, 1 + text.length);
}

void log_line(enum log_level level, const char *format, ...)
{
	char message[MESSAGE_SIZE];
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
	if (!state.take)
		put_message(level, message);
	else if (!state.take(state.take_arg, level, message, strlen(message)))
		state.dropped++;
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
