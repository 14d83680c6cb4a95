/* A ring in which at least n records have room; a record is filled in as for a connection that ends, and the consumer keeps up. */
#include <string.h>

#include "micro.h"
#include "shm/log_port.h"
#include "shm/log_records.h"

struct log_bench {
	struct log_port port;
	_Atomic uint32_t asleep;
	counter_t drops;
	uint64_t now_ns;
	uint32_t often; /* the consumer takes all that is there after so many */
};

void *log_begin(uint32_t n, uint32_t kind)
{
	struct log_bench *bench = micro_memory(1, sizeof *bench);
	uint32_t capacity = log_ring_capacity(2 * (uint64_t)n * sizeof(struct access_record));
	void *ring;

	(void)kind;
	ensure(posix_memalign(&ring, CACHE_LINE_BYTES, sizeof(struct log_ring) + capacity) == 0);
	memset(ring, 0, sizeof(struct log_ring) + capacity);
	bench->port.asleep = &bench->asleep;
	bench->port.drops = &bench->drops;
	bench->often = capacity / 256;
	log_inlet_open(&bench->port.inlet, ring, capacity, capacity);
	return bench;
}

uint64_t log_run(void *state, uint64_t times)
{
	struct log_bench *bench = state;
	struct log_ring *ring = bench->port.inlet.ring;

	for (uint64_t i = 0; i < times; i++) {
		struct access_record *record = log_port_reserve(&bench->port, sizeof *record);
		ensure(record);
		*record = (struct access_record){ .at_ns = bench->now_ns++, .duration_ns = 5, .serial = (uint32_t)i, .server = 3 };
		log_port_commit(&bench->port);
		if (i % bench->often == 0)
			log_ring_release(ring, log_ring_end(ring));
	}
	log_ring_release(ring, log_ring_end(ring));
	return times;
}

void log_end(void *state)
{
	struct log_bench *bench = state;

	free(bench->port.inlet.ring);
	free(bench);
}
