#include "worker/lines.h"

#include <string.h>
#include <unistd.h>

#include "base/log_format.h"
#include "base/log_sink.h"
#include "shm/log_records.h"

static bool take(void *arg, enum log_level level, const char *message, size_t length)
{
	struct lines_out *lines = arg;
	struct line_record *record = log_port_reserve(&lines->port, sizeof *record + length);
	if (!record)
		return false;
	*record = (struct line_record){
		.unix_ns = log_now_unix_ns(), .pid = (int32_t)getpid(), .slot = lines->slot, .level = (uint32_t)level
	};
	memcpy(record + 1, message, length);
	log_port_commit(&lines->port);
	return true;
}

/* What is not for debugging is said once a second at most of each server and listener. */
uint32_t lines_ring_capacity(enum log_level level)
{
	return log_ring_capacity(level < LOG_LEVEL_DEBUG ? LOG_RING_LEAST : LOG_RING_ERROR_MOST);
}

void lines_out_begin(struct lines_out *lines, struct shm *shm, uint32_t seat, uint32_t slot, uint32_t capacity, const struct bells *bell)
{
	lines->slot = slot;
	log_port_open(&lines->port, shm, seat, LOG_KIND_ERROR, capacity, bell);
	log_hand_over(take, lines);
	log_sink_close(log_target()); /* a file that was rotated away is not to be kept by a worker */
}
