/* Play a running instance: stat_fixture DIR [hostile]. Makes DIR/aegis.pid, locked, and DIR/stats with known numbers, says "ready",
 * and ends with its input. Each line of input does something, and is answered with "moved":
 *   (nothing)  1 GB moves in both directions
 *   clients    100 clients come and go; the servers answer after 1.5 ms
 *   down, up   checks of app/a
 *   reject     5 clients of the listener app are turned away
 *   replace    the worker in seat 1 dies, and another process has it
 *   reload     a reload that took effect; reload-failed: one that did not
 *   layout     the segment becomes one of another layout
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../view/segment.h"
#include "base/clock.h"
#include "base/text.h"
#include "os/process.h"
#include "os/region.h"

static void move_bytes(struct shm *shm)
{
	struct listener_row *row = shm_listener_row(shm, 0, 0);
	counter_add(&row->received_bytes, 1000000000);
	counter_add(&row->sent_bytes, 1000000000);
}

static void serve_clients(struct shm *shm)
{
	struct listener_row *row = shm_listener_row(shm, 1, 0);
	counter_add(&row->connections, 100);
	counter_add(&row->closes[REASON_FINISHED], 100);
	counter_add(&shm_server_row(shm, 1, 0)->connections, 100);
	counter_add(&shm->seats[1].accepts, 100);
	for (int i = 0; i < 100; i++) {
		histogram_record(&row->connect, 300 * NS_PER_US);
		histogram_record(&row->first_byte, 1500 * NS_PER_US);
		histogram_record(&row->duration, 20 * NS_PER_MS);
	}
}

static void check_server(struct shm *shm, bool good)
{
	const struct health_limits limits = { .rise = 1, .fall = 1 };
	const struct health_check check = { .result = good ? HEALTH_RESULT_OK : HEALTH_RESULT_REFUSED, .latency_ns = NS_PER_MS };
	health_note(&shm->servers[0].condition.health, &limits, &check, clock_now_ns());
}

static void end_reload(struct shm *shm, bool ok)
{
	struct shm_header *header = shm->header;
	header->last_reload_ok = ok;
	text_copy(header->last_reload_note, sizeof header->last_reload_note, ok ? "2 servers added" : "line 7: what is \"lisstener\"?");
	counter_add(ok ? &header->reloads_ok : &header->reloads_failed, 1);
	header->generation += ok;
}

static void obey(struct shm *shm, const char *order)
{
	if (strcmp(order, "clients") == 0)
		serve_clients(shm);
	else if (strcmp(order, "down") == 0 || strcmp(order, "up") == 0)
		check_server(shm, order[0] == 'u');
	else if (strcmp(order, "reject") == 0)
		counter_add(&shm_listener_row(shm, 1, 0)->closes[REASON_LISTENER_FULL], 5);
	else if (strcmp(order, "reload") == 0 || strcmp(order, "reload-failed") == 0)
		end_reload(shm, order[6] == '\0');
	else if (strcmp(order, "layout") == 0)
		shm->header->layout_hash++;
	else if (strcmp(order, "replace") == 0) {
		shm->seats[1].pid += 1000;
		counter_add(&shm->header->worker_restarts, 1);
	} else {
		move_bytes(shm);
	}
}

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
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		obey(&shm, line);
		puts("moved");
		fflush(stdout);
	}
	return 0;
}
