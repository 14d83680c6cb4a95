#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/units.h"
#include "tools/grid.h"
#include "tools/stat.h"

enum { UNIT_TEXT_SIZE = 32 };

static void add_titles(struct grid *grid, const char *const *titles, size_t n)
{
	for (size_t i = 0; i < n; i++)
		grid_add(grid, "%s", titles[i]);
}
#define TITLES(grid, ...) add_titles((grid), (const char *const[]){ __VA_ARGS__ }, ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static void add_u64(struct grid *grid, uint64_t value)
{
	grid_add(grid, "%" PRIu64, value);
}

static void add_bytes(struct grid *grid, uint64_t bytes)
{
	char text[UNIT_TEXT_SIZE];
	grid_add(grid, "%s", units_human_bytes(bytes, text, sizeof text));
}

static void add_duration(struct grid *grid, uint64_t ns)
{
	char text[UNIT_TEXT_SIZE];
	grid_add(grid, "%s", units_human_ns(ns, text, sizeof text));
}

static void add_active(struct grid *grid, uint32_t active, uint32_t max)
{
	if (max == 0)
		grid_add(grid, "%" PRIu32, active);
	else
		grid_add(grid, "%" PRIu32 "/%" PRIu32, active, max);
}

static void print_instance(const struct snapshot *snapshot, FILE *out)
{
	char up[UNIT_TEXT_SIZE];
	fprintf(out, "Aegis %s, %s, generation %" PRIu32 ", up %s, pid %" PRId32 ", engine %s\n", snapshot->version,
	        instance_state_name(snapshot->state), snapshot->generation, units_human_ns(snapshot->uptime_ns, up, sizeof up),
	        snapshot->master_pid, snapshot->engine);
	fprintf(out, "settings: %s; reloads: %" PRIu64 " ok, %" PRIu64 " failed; workers replaced: %" PRIu64,
	        snapshot->config_file[0] != '\0' ? snapshot->config_file : "command line", snapshot->master.reloads_ok,
	        snapshot->master.reloads_failed, snapshot->master.worker_restarts);
	if (snapshot->master.control_restarts != 0)
		fprintf(out, "; control processes replaced: %" PRIu64, snapshot->master.control_restarts);
	fputc('\n', out);
	if (snapshot->last_reload_unix_s == 0)
		return;
	time_t when = (time_t)snapshot->last_reload_unix_s;
	struct tm utc;
	char text[64] = "at an unknown time";
	if (gmtime_r(&when, &utc) != NULL)
		(void)strftime(text, sizeof text, "at %Y-%m-%dT%H:%M:%SZ", &utc);
	fprintf(out, "last reload %s: %s%s%s\n", text, snapshot->last_reload_ok ? "ok" : "failed, the settings before stay",
	        snapshot->last_reload_note[0] != '\0' ? "; " : "", snapshot->last_reload_note);
}

static void print_totals(const struct snapshot *snapshot, FILE *out)
{
	char received[UNIT_TEXT_SIZE], sent[UNIT_TEXT_SIZE];
	fprintf(out, "\nconnections  %" PRIu32 " active", snapshot->active);
	if (snapshot->max != 0)
		fprintf(out, " of at most %" PRIu32, snapshot->max);
	fprintf(out, ", %" PRIu64 " in total, %" PRIu64 " rejected, %" PRIu64 " errors\n", snapshot->totals.connections,
	        sums_closes(&snapshot->totals, REASON_REJECTED), sums_closes(&snapshot->totals, REASON_ERROR));
	if (snapshot->has_udp || snapshot->udp_sessions > 0)
		fprintf(out, "datagrams    %" PRIu32 " sessions, %" PRIu64 " from clients, %" PRIu64 " to clients, %" PRIu64 " dropped\n",
		        snapshot->udp_sessions, snapshot->totals.udp_from_client, snapshot->totals.udp_to_client,
		        snapshot_drops(&snapshot->totals));
	if (snapshot->totals.udp_handed_over > 0)
		fprintf(out, "between workers  %" PRIu64 " datagrams handed over, %" PRIu64 " sessions recovered\n",
		        snapshot->totals.udp_handed_over, snapshot->totals.udp_recovered);
	fprintf(out, "bytes        %s from clients, %s to clients\n",
	        units_human_bytes(snapshot->totals.received_bytes, received, sizeof received),
	        units_human_bytes(snapshot->totals.sent_bytes, sent, sizeof sent));
}

static void add_latency(struct grid *grid, const char *name, const struct histogram_sum *sum)
{
	grid_add(grid, "%s", name);
	add_u64(grid, sum->count);
	if (sum->count == 0) {
		TITLES(grid, "-", "-", "-");
		return;
	}
	add_duration(grid, histogram_quantile_ns(sum, 0.50));
	add_duration(grid, histogram_quantile_ns(sum, 0.95));
	add_duration(grid, histogram_quantile_ns(sum, 0.99));
}

static void print_latency(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	grid_init(&grid, "lrrrr");
	TITLES(&grid, "LATENCY", "COUNT", "P50", "P95", "P99");
	add_latency(&grid, "connect to server", &snapshot->totals.connect);
	add_latency(&grid, "first byte of server", &snapshot->totals.first_byte);
	add_latency(&grid, "whole connection", &snapshot->totals.duration);
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void print_workers(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	grid_init(&grid, "rrrlrrrrrr");
	TITLES(&grid, "WORKER", "PID", "GEN", "STATE", "CPU", "ACTIVE", "ACCEPTS", "PAUSES", "NO BUFFER", "LOOP LAG");
	for (size_t i = 0; i < snapshot->n_workers; i++) {
		const struct snapshot_worker *worker = &snapshot->workers[i];
		grid_add(&grid, "%" PRIu32, worker->slot);
		grid_add(&grid, "%" PRId32, worker->pid);
		grid_add(&grid, "%" PRIu32, worker->generation);
		grid_add(&grid, "%s", seat_state_name(worker->state));
		if (worker->cpu < 0)
			grid_add(&grid, "any");
		else
			grid_add(&grid, "%" PRId32, worker->cpu);
		grid_add(&grid, "%" PRIu32, worker->connections);
		add_u64(&grid, worker->accepts);
		add_u64(&grid, worker->totals.accept_pauses);
		add_u64(&grid, worker->totals.buffer_exhausted);
		add_duration(&grid, worker->loop_lag_ns);
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void print_listeners(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	grid_init(&grid, "lllrrrrrr");
	TITLES(&grid, "LISTENER", "ADDRESS", "UPSTREAM", "ACTIVE", "TOTAL", "REJ", "ERR", "RECEIVED", "SENT");
	for (size_t i = 0; i < snapshot->n_listeners; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		if (!listener->in_use)
			continue;
		grid_add(&grid, "%s", listener->name);
		grid_add(&grid, "%s", listener->address);
		grid_add(&grid, "%s", listener->upstream[0] ? listener->upstream : "-");
		add_active(&grid, listener->active, listener->max);
		add_u64(&grid, listener->totals.connections);
		add_u64(&grid, sums_closes(&listener->totals, REASON_REJECTED));
		add_u64(&grid, sums_closes(&listener->totals, REASON_ERROR));
		add_bytes(&grid, listener->totals.received_bytes);
		add_bytes(&grid, listener->totals.sent_bytes);
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

/* Of listeners that take them. */
static void print_datagrams(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	if (!snapshot->has_udp)
		return;
	grid_init(&grid, "lrrrrr");
	TITLES(&grid, "DATAGRAMS OF", "FROM CLIENTS", "TO SERVERS", "FROM SERVERS", "TO CLIENTS", "DROPPED");
	for (size_t i = 0; i < snapshot->n_listeners; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		if (!listener->in_use || !listener->is_udp)
			continue;
		grid_add(&grid, "%s", listener->name);
		add_u64(&grid, listener->totals.udp_from_client);
		add_u64(&grid, listener->totals.udp_to_server);
		add_u64(&grid, listener->totals.udp_from_server);
		add_u64(&grid, listener->totals.udp_to_client);
		add_u64(&grid, snapshot_drops(&listener->totals));
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void add_drop(struct grid *grid, const char *name, uint64_t count, const char *text)
{
	if (count == 0)
		return;
	grid_add(grid, "%s", name);
	add_u64(grid, count);
	grid_add(grid, "%s", text);
}

static void print_drops(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	if (snapshot_drops(&snapshot->totals) == 0)
		return;
	grid_init(&grid, "lrl");
	TITLES(&grid, "DROPPED BECAUSE", "COUNT", "MEANING");
#define DROP(X, field, name, text) add_drop(&grid, name, snapshot->totals.udp_drop_##field, text);
	UDP_DROPS(DROP, )
#undef DROP
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

/* In one cell, and early in the row: what a narrow screen cuts off is behind it. */
static void add_state(struct grid *grid, const struct standing *standing)
{
	char text[UNIT_TEXT_SIZE];
	if (standing->state == STANDING_EJECTED)
		grid_add(grid, "ejected, %s left", units_human_ns(standing->ejected_for_ns, text, sizeof text));
	else if (standing->state == STANDING_SLOW_START)
		grid_add(grid, "slow start %" PRIu32 " %%", standing->slow_start_percent);
	else
		grid_add(grid, "%s", standing->state == STANDING_UNKNOWN ? "-" : standing_name(standing->state));
}

static void add_weight(struct grid *grid, const struct snapshot_server *server)
{
	const char *backup = server->backup ? "backup " : "";
	if (server->standing.weight_now == server->weight)
		grid_add(grid, "%s%" PRIu32, backup, server->weight);
	else
		grid_add(grid, "%s%" PRIu32 "/%" PRIu32, backup, server->standing.weight_now, server->weight);
}

static void add_max(struct grid *grid, uint32_t max)
{
	if (max == 0)
		grid_add(grid, "-");
	else
		grid_add(grid, "%" PRIu32, max);
}

static void add_server(struct grid *grid, const struct snapshot_server *server, bool first)
{
	grid_add(grid, "%s", first ? server->upstream : "");
	grid_add(grid, "%s", server->name);
	add_state(grid, &server->standing);
	grid_add(grid, "%s", strcmp(server->name, server->address) == 0 ? "" : server->address);
	add_weight(grid, server);
	grid_add(grid, "%" PRIu32, server->active);
	add_u64(grid, server->totals.hot);
	add_max(grid, server->max);
	add_u64(grid, server->totals.connections);
	add_u64(grid, server->totals.failures);
	add_bytes(grid, server->totals.sent_bytes);
	add_bytes(grid, server->totals.received_bytes);
}

static void print_servers(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	const char *upstream = NULL;
	grid_init(&grid, "llllrrrrrrrr");
	TITLES(&grid, "UPSTREAM", "SERVER", "STATE", "ADDRESS", "WEIGHT", "ACTIVE", "HOT", "MAX", "TOTAL", "FAILED", "SENT", "RECEIVED");
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		if (!server->in_use)
			continue;
		add_server(&grid, server, upstream == NULL || strcmp(upstream, server->upstream) != 0);
		upstream = server->upstream;
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void add_last_check(struct grid *grid, const struct standing *standing)
{
	const struct health_check *last = &standing->last;
	char why[HEALTH_WHY_SIZE];
	if (last->result == HEALTH_RESULT_NONE)
		grid_add(grid, "-");
	else if (health_check_why(last, why, sizeof why)[0])
		grid_add(grid, "%s (%s)", health_result_text(last->result), why);
	else
		grid_add(grid, "%s", health_result_text(last->result));
}

static void add_ago(struct grid *grid, uint64_t ns)
{
	if (ns == STANDING_NEVER)
		grid_add(grid, "-");
	else
		add_duration(grid, ns);
}

static void add_watched(struct grid *grid, const struct snapshot_server *server)
{
	const struct standing *standing = &server->standing;
	grid_add(grid, "%s", server->upstream);
	grid_add(grid, "%s", server->name);
	add_last_check(grid, standing);
	add_ago(grid, standing->last.result == HEALTH_RESULT_NONE ? STANDING_NEVER : standing->last.latency_ns);
	add_ago(grid, standing->checked_ago_ns);
	add_u64(grid, standing->checks_passed);
	add_u64(grid, standing->checks_failed);
	add_u64(grid, standing->trips);
	grid_add(grid, "%" PRIu32, standing->ejections);
}

/* Servers of which something is known beyond their counters. */
static void print_watched(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	bool any = false;
	grid_init(&grid, "lllrrrrrr");
	TITLES(&grid, "UPSTREAM", "SERVER", "LAST CHECK", "TOOK", "AGO", "PASSED", "FAILED", "TRIPS", "EJECTIONS");
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		const struct standing *standing = &server->standing;
		if (!server->in_use || (!standing->is_checked && standing->trips == 0 && standing->ejections == 0))
			continue;
		add_watched(&grid, server);
		any = true;
	}
	if (!any) {
		grid_drop(&grid);
		return;
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void print_queues(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	bool any = false;
	grid_init(&grid, "lr");
	TITLES(&grid, "QUEUE OF", "WAITING");
	for (size_t i = 0; i < snapshot->n_upstreams; i++) {
		const struct snapshot_upstream *upstream = &snapshot->upstreams[i];
		if (!upstream->in_use || (upstream->queue_max == 0 && upstream->waiting == 0))
			continue;
		grid_add(&grid, "%s", upstream->name);
		add_active(&grid, upstream->waiting, upstream->queue_max);
		any = true;
	}
	if (!any) {
		grid_drop(&grid);
		return;
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void print_closes(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	bool any = false;
	grid_init(&grid, "lrl");
	TITLES(&grid, "ENDED BECAUSE", "COUNT", "MEANING");
	for (unsigned i = 0; i < N_REASONS; i++) {
		if (snapshot->totals.closes[i] == 0)
			continue;
		grid_add(&grid, "%s", reason_name(i));
		add_u64(&grid, snapshot->totals.closes[i]);
		grid_add(&grid, "%s", reason_text(i));
		any = true;
	}
	if (!any)
		TITLES(&grid, "-", "0", "no connection has ended yet");
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

void stat_print_tables(const struct snapshot *snapshot, FILE *out)
{
	print_instance(snapshot, out);
	print_totals(snapshot, out);
	print_latency(snapshot, out);
	print_workers(snapshot, out);
	print_listeners(snapshot, out);
	print_datagrams(snapshot, out);
	print_servers(snapshot, out);
	print_watched(snapshot, out);
	print_queues(snapshot, out);
	print_closes(snapshot, out);
	print_drops(snapshot, out);
}
