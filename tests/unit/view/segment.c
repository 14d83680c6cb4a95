#include "segment.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"

const struct shm_dims segment_dims = { .seats = 5, .listeners = 6, .servers = 7 };

static void fill_header(struct shm_header *header)
{
	header->state = INSTANCE_RUNNING;
	header->master_pid = 100;
	header->started_ns = SEGMENT_NOW_NS - UINT64_C(3723500) * NS_PER_MS;
	header->generation = 3;
	header->workers = 2;
	header->n_listeners = 3;
	header->n_servers = 4;
	header->n_upstreams = 2;
	header->last_reload_unix_s = 1700000000;
	header->last_reload_ok = 1;
	header->reloads_ok = 2;
	header->reloads_failed = 1;
	header->worker_restarts = 4;
	text_copy(header->version, sizeof header->version, "1.2.3");
	text_copy(header->engine, sizeof header->engine, "epoll");
	text_copy(header->config_file, sizeof header->config_file, "/etc/aegis/aegis.conf");
	text_copy(header->last_reload_note, sizeof header->last_reload_note, "1 server added");
}

static void fill_listener(struct shm *shm, uint32_t row, const char *name, const char *address, uint32_t used, uint32_t max)
{
	struct shm_listener *listener = &shm->listeners[row];
	text_copy(listener->name, sizeof listener->name, name);
	text_copy(listener->address, sizeof listener->address, address);
	text_copy(listener->upstream, sizeof listener->upstream, row == 1 ? "db" : "app");
	listener->in_use = row != 2;
	shm_limit(shm, limit_listener(row))->used = used;
	shm_limit(shm, limit_listener(row))->max = max;
}

static void fill_upstream(struct shm *shm, uint32_t row, const char *name, uint32_t waiting, uint32_t queue_max)
{
	struct shm_upstream *upstream = &shm->upstreams[row];
	text_copy(upstream->name, sizeof upstream->name, name);
	upstream->in_use = 1;
	upstream->epoch = 7 * row;
	shm_limit(shm, limit_upstream(shm, row))->used = waiting;
	shm_limit(shm, limit_upstream(shm, row))->max = queue_max;
}

/* Checks, a breaker, outlier ejection and slow start for the upstream; what they have come to for its first two servers. */
static void fill_conditions(struct shm *shm, uint32_t row, uint32_t up, uint32_t down)
{
	const struct health_limits limits = { .rise = 2, .fall = 3 };
	const struct health_check good = { .result = HEALTH_RESULT_OK, .latency_ns = 1200 * NS_PER_US };
	const struct health_check bad = { .result = HEALTH_RESULT_STATUS, .detail = 503, .latency_ns = 40 * NS_PER_MS };
	struct shm_upstream *upstream = &shm->upstreams[row];
	struct condition *first = &shm->servers[up].condition, *second = &shm->servers[down].condition;
	upstream->is_checked = 1;
	upstream->breaker_threshold = 5;
	upstream->breaker_probes = 3;
	upstream->breaker_timeout_ns = 30 * NS_PER_S;
	upstream->outlier_failures = 4;
	upstream->slow_start_ns = 10 * NS_PER_S;
	for (int i = 0; i < 5; i++)
		health_note(&first->health, &limits, &good, SEGMENT_NOW_NS - 3 * NS_PER_S);
	first->breaker.trips = 2;
	first->ejection.count = 1;
	for (int i = 0; i < 4; i++)
		health_note(&second->health, &limits, &bad, SEGMENT_NOW_NS - 500 * NS_PER_MS);
	shm_limit(shm, limit_server(shm, up))->max = 10;
	shm->servers[up].soft_limit = 8;
}

static void fill_server(struct shm *shm, uint32_t row, const char *upstream, const char *name, const char *address, uint32_t flags)
{
	struct shm_server *server = &shm->servers[row];
	text_copy(server->upstream, sizeof server->upstream, upstream);
	text_copy(server->name, sizeof server->name, name);
	text_copy(server->address, sizeof server->address, address);
	server->in_use = row != 3;
	server->weight = 100 + row;
	server->flags = flags;
	shm_limit(shm, limit_server(shm, row))->used = 5 + row + 3; /* of which one in each seat is hot */
}

static void fill_seat(struct shm *shm, uint32_t row, uint32_t slot, enum seat_state state)
{
	struct shm_seat *seat = &shm->seats[row];
	seat->state = state;
	seat->pid = state == SEAT_FREE ? 0 : (int32_t)(200 + row);
	seat->slot = slot;
	seat->generation = state == SEAT_RUNNING ? 3 : 2;
	seat->cpu = row == 1 ? -1 : (int32_t)slot;
	seat->sessions = state == SEAT_FREE ? 0 : 10 + row;
	seat->started_ns = 1;
	seat->base_accepts = row;
	seat->loop_lag_ns = state == SEAT_FREE ? 0 : (row + 1) * NS_PER_MS;
	seat->beat_ns = SEGMENT_NOW_NS;
	seat->accepts = 1000 + row;
	seat->accept_pauses = 1;
	seat->turns = 7;
	seat->buffer_exhausted = 2;
	seat->log_drops = 3;
	seat->access_drops = 4;
}

static void fill_rows(struct shm *shm, uint32_t seat, uint32_t n)
{
	struct listener_row *app = shm_listener_row(shm, seat, 0), *retired = shm_listener_row(shm, seat, 2);
	app->connections = 100 * n;
	app->received_bytes = UINT64_C(1000000000) * n;
	app->sent_bytes = UINT64_C(4000000000) * n;
	app->retries = n;
	app->queued = n + 1;
	app->closes[REASON_FINISHED] = 80 * n;
	app->closes[REASON_CONNECT_REFUSED] = 2 * n;
	app->closes[REASON_LISTENER_FULL] = 3 * n;
	retired->connections = 7;
	retired->received_bytes = 70;
	retired->closes[REASON_FULL] = 1;
	retired->closes[REASON_INTERNAL] = 1;
	for (uint32_t i = 0; i < n; i++)
		histogram_record(&app->connect, 1500000); /* between 1.048576 and 2.097152 ms */
	for (uint32_t row = 0; row < 4; row++) {
		struct server_row *server = shm_server_row(shm, seat, row);
		server->connections = 50 * n;
		server->failures = row;
		server->sent_bytes = 1000 * n;
		server->received_bytes = 2000 * n;
		server->pool_hits = 3 * n;
		server->hot = 1;
	}
}

void segment_fill(struct shm *shm)
{
	fill_header(shm->header);
	shm_limit(shm, limit_global())->used = 34;
	shm_limit(shm, limit_global())->max = 100000;
	fill_listener(shm, 0, "app", "127.0.0.1:8080", 30, 40);
	fill_listener(shm, 1, "db", "[::1]:5432", 4, 0);
	fill_listener(shm, 2, "old", "127.0.0.1:1", 0, 0);
	fill_server(shm, 0, "app", "a", "10.0.0.1:80", 0);
	fill_server(shm, 1, "db", "10.0.0.9:5432", "10.0.0.9:5432", SHM_SERVER_BACKUP);
	fill_server(shm, 2, "app", "b", "10.0.0.2:80", SHM_SERVER_BACKUP | SHM_SERVER_DISABLED);
	fill_server(shm, 3, "app", "gone", "10.0.0.3:80", 0);
	fill_upstream(shm, 0, "db", 0, 0);
	fill_upstream(shm, 1, "app", 3, 100);
	fill_conditions(shm, 1, 0, 2);
	shm->header->n_certificates = 2; /* the second one is of no listener that there is */
	shm->certificates[0] =
	        (struct shm_certificate){ .not_before = 1700000000, .not_after = 1800000000, .listener = 1, .name = "db.example.org" };
	shm->certificates[1] = (struct shm_certificate){ .listener = 77, .name = "nobody" };
	/* The tables of client addresses. */
	shm->rates.shared->evictions = 11;
	shm->rates.shared->unbooked = 12;
	shm->affinities.shared->evictions = 13;
	/* An old worker of slot 0 drains beside the new one; a seat of slot 1 is free and keeps its counters. */
	fill_seat(shm, 0, 0, SEAT_DRAINING);
	fill_seat(shm, 1, 0, SEAT_RUNNING);
	fill_seat(shm, 2, 1, SEAT_FREE);
	fill_rows(shm, 0, 1);
	fill_rows(shm, 1, 2);
	fill_rows(shm, 2, 3);
}

void segment_add_datagrams(struct shm *shm)
{
	shm->listeners[1].is_udp = 1;
	shm->seats[0].udp_sessions = 1;
	shm->seats[1].udp_sessions = 3;
	for (uint32_t seat = 0; seat < 3; seat++) {
		struct listener_row *row = shm_listener_row(shm, seat, 1);
		row->udp_from_client = 1000 + seat;
		row->udp_to_server = 990;
		row->udp_from_server = 500;
		row->udp_to_client = 499;
		row->udp_drop_refused = 7;
		row->udp_drop_server_queue = seat;
	}
}

void segment_make_hostile(struct shm *shm)
{
	static const char name[] = "a\"b\\c\nd{}\033[2J\xff";
	memcpy(shm->listeners[0].name, name, sizeof name);
	memcpy(shm->servers[0].upstream, name, sizeof name);
	memcpy(shm->header->config_file, name, sizeof name);
	/* No end: what follows in the segment must not be read. */
	memset(shm->listeners[1].name, 'x', sizeof shm->listeners[1].name);
	memset(shm->servers[1].name, 'y', sizeof shm->servers[1].name);
	memset(shm->header->engine, 'z', sizeof shm->header->engine);
	memset(shm->header->last_reload_note, '\n', sizeof shm->header->last_reload_note);
	shm->header->state = 77;
	shm->seats[0].state = 99;
	memset(shm->upstreams[0].name, 'y', sizeof shm->upstreams[0].name);
	memset((void *)&shm->servers[0].condition, 0xff, sizeof shm->servers[0].condition);
	memset((void *)&shm->upstreams[1].is_checked, 0xff, sizeof shm->upstreams[1].is_checked);
	/* A unix socket where only IP can be, and of an IPv6 address nothing but ones. */
	memset((void *)&shm->servers[1].addresses, 0xff, sizeof shm->servers[1].addresses);
	shm->servers[1].addresses.sequence = 2;
	shm->servers[1].addresses.n = 2;
	memcpy((void *)shm->servers[1].addresses.words[0], "\1\0\033[2J\n", 7);
	memcpy((void *)shm->servers[1].addresses.words[1], "\12\0", 2);
	memset(shm->certificates[0].name, '\n', sizeof shm->certificates[0].name);
	shm->header->n_certificates = UINT32_MAX;
	shm->header->n_upstreams = UINT32_MAX;
	shm->header->n_listeners = UINT32_MAX;
	shm->header->n_servers = UINT32_MAX;
}
