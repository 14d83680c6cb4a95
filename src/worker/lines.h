/* The log lines of a worker: they go into the ring of its seat instead of to the log, so that a worker never waits for whoever reads it. */
#ifndef AEGIS_WORKER_LINES_H
#define AEGIS_WORKER_LINES_H

#include "base/log.h"
#include "shm/log_port.h"

struct lines_out {
	struct log_port port;
	uint32_t slot;
};

/* Bytes in the ring of a worker whose log has this level. */
uint32_t lines_ring_capacity(enum log_level level);

/* From here on. The memory is in use until the process ends. capacity: see above. bell: of the control process. */
void lines_out_begin(struct lines_out *lines, struct shm *shm, uint32_t seat, uint32_t slot, uint32_t capacity, const struct bells *bell);

#endif
