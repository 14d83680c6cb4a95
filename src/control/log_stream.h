/* One log: out of the rings of all seats, line by line, into its target. What the target does not take now stays in the rings, where
 * workers drop what does not fit; so a disk that is full, or a reader that stands still, costs nobody anything but log lines.
 *
 * Process: control. Records leave their ring when their lines are written: a control process that is killed loses none; what it had
 *          written and not yet said so is written once more by the next one.
 */
#ifndef AEGIS_CONTROL_LOG_STREAM_H
#define AEGIS_CONTROL_LOG_STREAM_H

#include "base/log.h"
#include "base/log_sink.h"
#include "base/text.h"
#include "shm/layout.h"

enum { LOG_STREAM_BYTES = 64 * 1024 };

struct log_stream;
/* Append a record as a line. False: it cannot be right, and is left out. */
typedef bool log_stream_add_fn(const struct log_stream *stream, uint32_t seat, const void *record, size_t length, struct text *out);

struct log_stream {
	const struct shm *shm;
	enum log_kind kind;
	struct log_sink *sink; /* NULL: records are thrown away */
	enum log_format format;
	log_stream_add_fn *add;
	int64_t unix_offset_ns; /* from CLOCK_MONOTONIC to the clock on the wall */
	uint32_t next_seat;     /* whose turn it is */
	/* lines that are not all written: of one seat, up to a position in its ring */
	uint32_t seat;
	uint64_t position;
	size_t length, written;
	int error;        /* of the last attempt: 0, or the errno why it waits */
	uint64_t unsound; /* records that were left out, and rings that could not be right */
	char lines[LOG_STREAM_BYTES];
};

void log_stream_init(struct log_stream *stream, const struct shm *shm, enum log_kind kind, struct log_sink *sink, enum log_format format);

/* Write what there is, some hundred kB at most. True when it may go on at once: something was written, and nothing refused. *any is set
 * when there was anything. */
must_check bool log_stream_work(struct log_stream *stream, bool *any);
/* No more of it: what is written of the lines at hand leaves the ring, the rest stays there for the next control process. */
void log_stream_stop(struct log_stream *stream);
/* All drops of all seats so far. */
uint64_t log_stream_drops(const struct log_stream *stream);

#endif
