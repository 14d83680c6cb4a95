/* The log writer: what workers put into their log rings becomes lines of the log and of the access log.
 *
 * Process: control; exactly one writes at a time, the one that was told to go.
 * States:  waiting (made) -> writing (log_writer_go()) -> stopped (log_writer_stop()). While there is something to write it looks every
 *          50 ms, and at once when a ring is half full; when there was nothing for a second it sleeps until the bell of the logs rings.
 */
#ifndef AEGIS_CONTROL_LOG_WRITER_H
#define AEGIS_CONTROL_LOG_WRITER_H

#include "base/log.h"
#include "os/bell.h"
#include "os/loop.h"
#include "shm/layout.h"

struct log_sink;
struct log_writer;

struct log_writer_args {
	struct shm *shm;
	const struct bells *bell; /* that workers ring; one */
	struct log_sink *access;  /* of the access log; NULL or of no kind: it is off */
	enum log_format access_format;
};

/* 0 and *out, or a negative errno. */
must_check int log_writer_new(struct loop *loop, const struct log_writer_args *args, struct log_writer **out);
void log_writer_free(struct log_writer *writer);

/* Nobody else writes any more. */
void log_writer_go(struct log_writer *writer);
/* Another one will write. What is in the rings is for that one. */
void log_writer_stop(struct log_writer *writer);
/* Before the end: write all that is there, and wait for those who do not take it now for at most so long. NULL is fine. */
void log_writer_flush(struct log_writer *writer, uint64_t within_ns);

/* The master is gone: write as long as no other one takes the segment over, and there is a worker that may have something to log. */
void log_writer_orphaned(struct log_writer *writer);
must_check bool log_writer_is_needed(const struct log_writer *writer);

/* Go on with another file (takes ownership). */
void log_writer_adopt_access(struct log_writer *writer, int fd);

#endif
