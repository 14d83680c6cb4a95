/* The log lines of a worker: they go into the ring of its seat instead of to the log, so that a worker never waits for whoever reads it. */
#ifndef AEGIS_WORKER_LINES_H
#define AEGIS_WORKER_LINES_H

#include "shm/log_port.h"

struct lines_out {
	struct log_port port;
	uint32_t slot;
};

/* From here on. The memory is in use until the process ends. bell: of the control process. */
void lines_out_begin(struct lines_out *lines, struct shm *shm, uint32_t seat, uint32_t slot, const struct bells *bell);

#endif
