/* Play a running instance: stat_fixture DIR [hostile]. Makes DIR/aegis.pid, locked, and DIR/stats with known numbers, says "ready",
 * and ends with its input. Each line of input moves 1 GB in both directions and is answered with "moved". */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/process.h"
#include "os/region.h"
#include "segment.h"

int main(int argc, char **argv)
{
	char path[512], line[64];
	struct shm shm;
	void *base;
	pid_t running;
	if (argc < 2)
		return 1;
	snprintf(path, sizeof path, "%s/aegis.pid", argv[1]);
	if (process_lock_pid_file(path, &running) < 0)
		return 1;
	snprintf(path, sizeof path, "%s/stats", argv[1]);
	if (region_create(path, shm_size_bytes(&segment_dims), (gid_t)-1, &base) < 0)
		return 1;
	shm_init(&shm, base, &segment_dims);
	segment_fill(&shm);
	shm.header->master_pid = getpid();
	shm.header->started_ns = clock_now_ns();
	for (uint32_t i = 0; i < segment_dims.seats; i++)
		shm.seats[i].beat_ns = 0;
	if (argc > 2)
		segment_make_hostile(&shm);
	puts("ready");
	fflush(stdout);
	struct listener_row *row = shm_listener_row(&shm, 0, 0);
	while (fgets(line, sizeof line, stdin) != NULL) {
		counter_add(&row->received_bytes, 1000000000);
		counter_add(&row->sent_bytes, 1000000000);
		puts("moved");
		fflush(stdout);
	}
	return 0;
}
