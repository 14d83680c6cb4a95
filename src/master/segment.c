#include "master/segment.h"

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/process.h"
#include "os/region.h"
#include "shm/line.h"
#include "shm/sums.h"
#include "worker/lines.h"

static bool seat_taken(const struct shm_seat *seat)
{
	return atomic_load(&seat->state) != SEAT_FREE;
}

static bool process_lives(const struct shm_seat *seat)
{
	pid_t pid = atomic_load(&seat->pid);
	if (pid <= 0 || process_has_ended(pid))
		return false;
	/* The number may have come back as another process. Where that cannot be seen the seat stays taken. */
	uint64_t ticks = process_start_ticks(pid), then = atomic_load(&seat->pid_start_ticks);
	return ticks == 0 || then == 0 || ticks == then;
}

/* Its times and pids mean nothing after the machine was started anew. */
static bool outlived_its_boot(const struct shm *shm, const char *path)
{
	char boot_id[SHM_BOOT_ID_SIZE];
	if (shm_is_of_this_boot(shm->header, process_boot_id(boot_id, sizeof boot_id), clock_now_ns()))
		return false;
	log_info("%s is from before the machine was started: all counters begin at zero", path);
	return true;
}

static int look_at(struct shm *shm, const char *path, const struct shm_dims *dims, bool join)
{
	void *base;
	uint64_t size;
	char why[256];
	int error = region_open(path, 1, &base, &size);
	if (error)
		return error;
	error = shm_attach(shm, base, size, why, sizeof why);
	if (!error && outlived_its_boot(shm, path))
		error = -ESTALE;
	if (!error && !join && process_is_aegis(atomic_load(&shm->header->master_pid)))
		error = -EBUSY;
	const struct shm_dims *have = error ? NULL : &shm->dims;
	if (!error && (have->seats < dims->seats || have->listeners < dims->listeners || have->servers < dims->servers))
		error = -ENOSPC;
	if (error) {
		region_close(base, size);
		*shm = (struct shm){ 0 };
	}
	return error;
}

static int take_over(struct shm *shm, const char *path, const struct shm_dims *dims)
{
	int error = look_at(shm, path, dims, false);
	if (error)
		return error;
	log_info("going on with the counters that a former master left in %s", path);
	(void)segment_clear_gone(shm);
	return 0;
}

int segment_join(struct shm *shm, const char *path, const struct shm_dims *dims)
{
	return look_at(shm, path, dims, true);
}

static int make(struct shm *shm, const char *fresh, const struct shm_dims *dims, gid_t gid)
{
	void *base;
	int error = region_create(fresh, shm_size_bytes(dims), gid, &base);
	if (error)
		return error;
	error = region_populate(base, sizeof(struct shm_header));
	if (error) {
		region_close(base, shm_size_bytes(dims));
		(void)unlink(fresh);
		return error;
	}
	shm_init(shm, base, dims);
	(void)process_boot_id(shm->header->boot_id, sizeof shm->header->boot_id);
	error = region_populate(shm->seats, dims->seats * sizeof(struct shm_seat));
	if (error) {
		*shm = (struct shm){ 0 };
		region_close(base, shm_size_bytes(dims));
		(void)unlink(fresh);
	}
	return error;
}

static char *path_with(char out[512], const char *path, const char *end)
{
	(void)snprintf(out, 512, "%s.%s", path, end);
	return out;
}

/* Whoever looks at path sees a finished segment, or none. */
static int make_new(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid)
{
	char fresh[512];
	int error = make(shm, path_with(fresh, path, "new"), dims, gid);
	if (error || rename(fresh, path) == 0)
		return error;
	error = -errno;
	region_close(shm->header, shm_size_bytes(dims));
	(void)unlink(fresh);
	*shm = (struct shm){ 0 };
	return error;
}

int segment_make_next(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid)
{
	char next[512];
	return make(shm, path_with(next, path, "next"), dims, gid);
}

int segment_put_next(const char *path)
{
	char next[512], last[512];
	(void)unlink(path_with(last, path, "last"));
	if (link(path, last) < 0 && errno != ENOENT)
		return -errno;
	return rename(path_with(next, path, "next"), path) < 0 ? -errno : 0;
}

void segment_drop_next(const char *path)
{
	char next[512];
	(void)unlink(path_with(next, path, "next"));
}

void segment_take_back_last(const char *path)
{
	char last[512];
	segment_drop_next(path);
	(void)rename(path_with(last, path, "last"), path);
}

void segment_forget_last(const char *path)
{
	char last[512];
	(void)unlink(path_with(last, path, "last"));
}

int segment_open(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid)
{
	int error = take_over(shm, path, dims);
	if (error == 0 || error == -EBUSY)
		return error;
	return make_new(shm, path, dims, gid);
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Of an index of so many names the buckets, and the links of those that are used. */
static uint64_t index_bytes(uint32_t names, uint64_t used)
{
	return (shm_index_buckets(names) + used) * sizeof(uint32_t);
}

int segment_make_room(const struct shm *shm, uint32_t listeners, uint32_t servers, uint32_t upstreams)
{
	uint32_t n_upstreams = at_most(sums_n_upstreams(shm) + upstreams, SHM_UPSTREAMS);
	uint32_t n_listeners = at_most(sums_n_listeners(shm) + listeners, shm->dims.listeners);
	uint32_t n_servers = at_most(sums_n_servers(shm) + servers, shm->dims.servers);
	int error = region_populate(shm->limits, (1 + n_listeners) * sizeof(struct limit));
	if (!error)
		error = region_populate(shm_limit(shm, limit_server(shm, 0)), n_servers * sizeof(struct limit));
	if (!error)
		error = region_populate(shm->listeners, n_listeners * sizeof(struct shm_listener));
	if (!error)
		error = region_populate(shm->servers, n_servers * sizeof(struct shm_server));
	if (!error)
		error = region_populate(shm->listener_index, index_bytes(shm->dims.listeners, n_listeners));
	if (!error)
		error = region_populate(shm->server_index, index_bytes(shm->dims.servers, n_servers));
	if (!error)
		error = region_populate(shm->upstream_index, index_bytes(SHM_UPSTREAMS, n_upstreams));
	if (!error)
		error = region_populate(shm->upstreams, n_upstreams * sizeof(struct shm_upstream));
	if (!error)
		error = region_populate(shm_limit(shm, limit_upstream(shm, 0)), n_upstreams * sizeof(struct limit));
	if (!error)
		error = region_populate(shm->line_heads, (uint64_t)n_upstreams * shm->dims.seats * sizeof(struct line_head));
	return error;
}

static void make_seed(uint64_t seed[2])
{
	if (getrandom(seed, 2 * sizeof *seed, GRND_NONBLOCK) != 2 * sizeof *seed)
		seed[0] = clock_now_ns(), seed[1] = (uint64_t)getpid();
	seed[0] |= 1; /* never zero, which is a table that was not made */
}

int segment_make_room_for_tables(struct shm *shm, bool rates, bool affinities)
{
	uint64_t seed[2];
	int error = rates ? region_populate(shm->rates.shared, rate_table_bytes(SHM_RATE_CELLS)) : 0;
	if (!error && affinities)
		error = region_populate(shm->affinities.shared, affinity_bytes(SHM_AFFINITY_ENTRIES));
	if (error)
		return error;
	make_seed(seed);
	if (rates && !shm->rates.shared->seed[0])
		rate_table_init(shm->rates.shared, seed);
	if (affinities && !shm->affinities.shared->seed[0])
		affinity_init(shm->affinities.shared, seed);
	return 0;
}

int segment_make_room_for_seat(const struct shm *shm, uint32_t seat)
{
	uint32_t n_listeners = sums_n_listeners(shm), n_servers = sums_n_servers(shm), n_upstreams = sums_n_upstreams(shm);
	int error = region_populate(&shm->seats[seat], sizeof(struct shm_seat));
	if (!error)
		error = region_populate(shm_ledger(shm, seat, 0), (1 + n_listeners) * sizeof(uint32_t));
	if (!error)
		error = region_populate(shm_ledger(shm, seat, limit_server(shm, 0)), n_servers * sizeof(uint32_t));
	if (!error)
		error = region_populate(shm_ledger(shm, seat, limit_upstream(shm, 0)), n_upstreams * sizeof(uint32_t));
	if (!error)
		error = region_populate(shm_listener_row(shm, seat, 0), n_listeners * sizeof(struct listener_row));
	if (!error)
		error = region_populate(shm_server_row(shm, seat, 0), n_servers * sizeof(struct server_row));
	return error;
}

static uint64_t access_ring_bytes(const struct config *config)
{
	return config->access_log.path[0] ? sizeof(struct log_ring) + log_ring_capacity(config->access_log.buffer_bytes) : 0;
}

static uint64_t error_ring_bytes(const struct config *config)
{
	return sizeof(struct log_ring) + lines_ring_capacity(config->log.level);
}

static int make_room_for_logs(const struct shm *shm, uint32_t seat, const struct config *config)
{
	int error = region_populate(shm_log_ring(shm, seat, LOG_KIND_ERROR), error_ring_bytes(config));
	return error ? error : region_populate(shm_log_ring(shm, seat, LOG_KIND_ACCESS), access_ring_bytes(config));
}

int segment_make_room_for_worker(const struct shm *shm, uint32_t seat, const struct config *config)
{
	uint64_t recorder_bytes = config->flight_recorder_bytes;
	int error = segment_make_room_for_seat(shm, seat);
	if (!error)
		error = region_populate(&shm->recorder_heads[seat], sizeof(struct recorder_head));
	if (!error)
		error = region_populate(&shm->roll_boxes[seat], sizeof(struct roll_box));
	if (!error)
		error = make_room_for_logs(shm, seat, config);
	if (!error && recorder_bytes > 0)
		error = region_populate(shm_recorder_ring(shm, seat), recorder_bytes_used(recorder_bytes));
	return error;
}

uint64_t segment_worker_bytes(const struct config *config)
{
	uint64_t recorder_bytes = config->flight_recorder_bytes;
	return sizeof(struct recorder_head) + sizeof(struct roll_box) + (recorder_bytes > 0 ? recorder_bytes_used(recorder_bytes) : 0) +
	       error_ring_bytes(config) + access_ring_bytes(config);
}

uint64_t segment_bytes(
        const struct shm_dims *dims, uint64_t listeners, uint64_t servers, uint64_t upstreams, uint64_t seats, bool rates, bool affinities)
{
	uint64_t names = 1 + listeners + servers + upstreams;
	uint64_t rows = names * sizeof(struct limit) + listeners * sizeof(struct shm_listener) + servers * sizeof(struct shm_server) +
	                upstreams * (sizeof(struct shm_upstream) + dims->seats * sizeof(struct line_head));
	uint64_t indices =
	        index_bytes(dims->listeners, listeners) + index_bytes(dims->servers, servers) + index_bytes(SHM_UPSTREAMS, upstreams);
	uint64_t a_seat = names * sizeof(uint32_t) + listeners * sizeof(struct listener_row) + servers * sizeof(struct server_row);
	return sizeof(struct shm_header) + dims->seats * sizeof(struct shm_seat) + rows + indices + seats * a_seat +
	       (rates ? rate_table_bytes(SHM_RATE_CELLS) : 0) + (affinities ? affinity_bytes(SHM_AFFINITY_ENTRIES) : 0);
}

/* How well a free seat suits: best one whose counters were this slot's before, then one that nobody had. */
static int suitability(const struct shm *shm, uint32_t seat, uint32_t slot)
{
	if (!shm_seat_ever_used(shm, seat))
		return 2;
	return atomic_load(&shm->seats[seat].slot) == slot ? 3 : 1;
}

/* Another master may take seats at the same time. */
int segment_take_seat(struct shm *shm, uint32_t slot, uint32_t *out)
{
	for (;;) {
		int best = 0;
		uint32_t seat = 0, is_free = SEAT_FREE;
		for (uint32_t i = 0; i < shm->dims.seats && best < 3; i++)
			if (!seat_taken(&shm->seats[i]) && suitability(shm, i, slot) > best) {
				best = suitability(shm, i, slot);
				seat = i;
			}
		if (!best)
			return -ENOSPC;
		if (atomic_compare_exchange_strong(&shm->seats[seat].state, &is_free, SEAT_STARTING)) {
			*out = seat;
			return 0;
		}
	}
}

bool segment_seat_is_gone(const struct shm *shm, uint32_t seat)
{
	return seat_taken(&shm->seats[seat]) && !process_lives(&shm->seats[seat]);
}

/* Connections of which it did not record the end ended with it. */
static void record_end(struct shm *shm, uint32_t seat)
{
	struct recorder recorder;
	recorder_go_on(&recorder, &shm->recorder_heads[seat], shm_recorder_ring(shm, seat));
	if (recorder.size == 0)
		return;
	struct record record = { .time_ns = clock_now_ns(),
		.kind = RECORD_WORKER_ENDED,
		.worker = { .pid = atomic_load(&shm->seats[seat].pid), .generation = atomic_load(&shm->seats[seat].generation) } };
	recorder_write(&recorder, &record);
}

/* Datagrams that it had received and not passed on yet: every other one is counted. And those whose answers went to its sockets. */
static void count_lost_datagrams(struct listener_row *row)
{
	counter_add(&row->udp_unanswered, counter_get(&row->udp_awaited));
	atomic_store_explicit(&row->udp_awaited, 0, memory_order_relaxed);
	uint64_t in = counter_get(&row->udp_from_client) + counter_get(&row->udp_from_server) + counter_get(&row->udp_taken_over);
	uint64_t out = counter_get(&row->udp_to_server) + counter_get(&row->udp_to_client) + counter_get(&row->udp_handed_over);
#define DROP(X, field, name, text) out += counter_get(&row->udp_drop_##field);
	UDP_DROPS(DROP, )
#undef DROP
	/* Of these the first two were not received, and the third were passed on. */
	out -= counter_get(&row->udp_drop_client_queue) + counter_get(&row->udp_drop_server_queue) + counter_get(&row->udp_returned);
	if (in > out)
		counter_add(&row->udp_drop_worker_died, in - out);
}

int segment_clear_seat(struct shm *shm, uint32_t seat)
{
	/* Its connections broke with it. What the ledger held is counted once: reclaiming clears it. */
	for (uint32_t i = 0; i < sums_n_listeners(shm); i++) {
		uint32_t broken = atomic_load(shm_ledger(shm, seat, limit_listener(i)));
		if (broken)
			counter_add(&shm_listener_row(shm, seat, i)->closes[REASON_WORKER_DIED], broken);
		if (atomic_load(&shm->listeners[i].is_udp) && !atomic_load(&shm->seats[seat].is_elder))
			count_lost_datagrams(shm_listener_row(shm, seat, i));
	}
	line_clear(shm, seat);
	int error = limit_reclaim(shm, seat);
	if (error)
		return error;
	for (uint32_t i = 0; i < sums_n_servers(shm); i++) {
#define X(field, metric, help) atomic_store(&shm_server_row(shm, seat, i)->field, 0);
		SERVER_GAUGES(X)
#undef X
	}
	/* It may have changed the condition of a server and not have told. */
	for (uint32_t i = 0; i < sums_n_upstreams(shm); i++)
		atomic_fetch_add_explicit(&shm->upstreams[i].epoch, 1, memory_order_release);
	record_end(shm, seat);
	atomic_store(&shm->seats[seat].sessions, 0);
	atomic_store(&shm->seats[seat].udp_sessions, 0);
	atomic_store(&shm->seats[seat].pid, 0);
	atomic_store(&shm->seats[seat].is_elder, 0);
	atomic_store(&shm->seats[seat].state, SEAT_FREE);
	return 0;
}

uint32_t segment_clear_gone(struct shm *shm)
{
	uint32_t taken = 0;
	for (uint32_t i = 0; i < shm->dims.seats; i++)
		if (seat_taken(&shm->seats[i]) && (process_lives(&shm->seats[i]) || segment_clear_seat(shm, i)))
			taken++;
	return taken;
}
