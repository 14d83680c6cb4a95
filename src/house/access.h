/* The access log as a worker writes it: one record for each connection when it ends, whatever its end, and one every access_log.interval
 * while it relays. Of UDP sessions that were refused only so many a second: a datagram costs nothing, not even an address, and a flood of
 * them shall not fill a disk. They go into the ring of the worker's seat (shm/log_port.h); the control process gives them their form.
 *
 * Process: a worker.
 */
#ifndef AEGIS_HOUSE_ACCESS_H
#define AEGIS_HOUSE_ACCESS_H

#include "config/config.h"
#include "shm/log_port.h"

struct visit;

struct access_log {
	bool on;
	uint64_t interval_ns; /* 0 = none */
	struct log_port port;
	uint64_t refusals_ns; /* since when they are counted */
	uint32_t refusals;
};

/* bell: of the control process. */
void access_init(struct access_log *access, const struct config *config, struct shm *shm, uint32_t seat, const struct bells *bell);

/* The session ends; its server and its connections are still there. */
void access_ended(struct visit *visit, enum reason reason);
/* Of a session that relays: when the next record is due, and to write one if it is. */
must_check uint64_t access_due_ns(const struct visit *visit);
void access_lasts(struct visit *visit);

#endif
