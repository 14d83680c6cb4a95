#include "shm/log_port.h"

void log_port_open(struct log_port *port, struct shm *shm, uint32_t seat, enum log_kind kind, uint32_t capacity, const struct bells *bell)
{
	struct shm_seat *row = &shm->seats[seat];
	*port = (struct log_port){
		.asleep = &shm->header->log_asleep, .drops = kind == LOG_KIND_ERROR ? &row->log_drops : &row->access_drops, .bell = bell
	};
	log_inlet_open(&port->inlet, shm_log_ring(shm, seat, kind), shm_log_most(kind), capacity);
}

void *log_port_reserve(struct log_port *port, size_t length)
{
	void *record = log_inlet_reserve(&port->inlet, length);
	if (unlikely(!record))
		log_port_drop(port);
	return record;
}

void log_port_drop(struct log_port *port)
{
	counter_add(port->drops, 1);
}

void log_port_commit(struct log_port *port)
{
	bool hurry = log_inlet_commit(&port->inlet);
	/* Either who goes to sleep sees the record, or we see that he sleeps. */
	atomic_thread_fence(memory_order_seq_cst);
	bool asleep = unlikely(atomic_load_explicit(port->asleep, memory_order_relaxed)) && atomic_exchange(port->asleep, 0);
	if (unlikely(hurry || asleep) && port->bell)
		bell_ring(port->bell, 0);
}

void log_port_sleep(struct shm *shm)
{
	atomic_store(&shm->header->log_asleep, 1);
	atomic_thread_fence(memory_order_seq_cst);
}

void log_port_awake(struct shm *shm)
{
	atomic_store(&shm->header->log_asleep, 0);
}
