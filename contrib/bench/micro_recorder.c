/* A ring of at least n records; a record is filled in as for a server that was chosen. */
#include <string.h>

#include "micro.h"
#include "shm/recorder.h"

struct recorder_bench {
	struct recorder recorder;
	struct recorder_head *head;
	void *ring;
	uint64_t now_ns;
};

void *recorder_bench_begin(uint32_t n, uint32_t kind)
{
	struct recorder_bench *bench = micro_memory(1, sizeof *bench);
	void *head;

	(void)kind;
	ensure(posix_memalign(&head, CACHE_LINE_BYTES, sizeof *bench->head) == 0);
	memset(head, 0, sizeof *bench->head);
	bench->head = head;
	ensure(posix_memalign(&bench->ring, CACHE_LINE_BYTES, RECORDER_BYTES_MOST) == 0);
	memset(bench->ring, 0, RECORDER_BYTES_MOST);
	recorder_begin(&bench->recorder, bench->head, bench->ring, n * sizeof(struct record));
	return bench;
}

uint64_t recorder_bench_run(void *state, uint64_t times)
{
	struct recorder_bench *bench = state;

	for (uint64_t i = 0; i < times; i++) {
		struct record *record = recorder_next(&bench->recorder);
		*record = (struct record){ .time_ns = bench->now_ns++, .serial = (uint32_t)i, .kind = RECORD_CHOSEN, .row = 3 };
		record->choice = (struct record_choice){ .n_servers = 3, .n_usable = 2, .weight = 100, .load = (uint32_t)i };
		recorder_publish(&bench->recorder);
	}
	return times;
}

void recorder_bench_end(void *state)
{
	struct recorder_bench *bench = state;

	free(bench->head);
	free(bench->ring);
	free(bench);
}
