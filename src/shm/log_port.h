/* A worker's end of one log: its ring, and the bell of the control process, which is rung when that process said that it sleeps, or when
 * the ring becomes half full. What there is no room for is counted and forgotten.
 *
 * Process: a worker; one for each log that it writes.
 */
#ifndef AEGIS_SHM_LOG_PORT_H
#define AEGIS_SHM_LOG_PORT_H

#include "os/bell.h"
#include "shm/layout.h"

struct log_port {
	struct log_inlet inlet;
	_Atomic uint32_t *asleep;
	counter_t *drops;
	const struct bells *bell; /* one; NULL: nobody is woken */
};

/* capacity: as log_ring_capacity() says. */
void log_port_open(struct log_port *port, struct shm *shm, uint32_t seat, enum log_kind kind, uint32_t capacity, const struct bells *bell);

/* As log_inlet_reserve(); NULL has been counted. */
must_check void *log_port_reserve(struct log_port *port, size_t length);
void log_port_commit(struct log_port *port);
/* Count one that is not written. */
void log_port_drop(struct log_port *port);

/* For the control process: say that the bell must ring for the next record. What came before that is there to be read, and is to be looked
 * for after this. */
void log_port_sleep(struct shm *shm);
void log_port_awake(struct shm *shm);

#endif
