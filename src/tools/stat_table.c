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
	fprintf(out, "settings: %s; reloads: %" PRIu64 " ok, %" PRIu64 " failed; workers replaced: %" PRIu64 "\n",
	        snapshot->config_file[0] != '\0' ? snapshot->config_file : "command line", snapshot->master.reloads_ok,
	        snapshot->master.reloads_failed, snapshot->master.worker_restarts);
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
		grid_add(&grid, "%s", listener->upstream);
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

static void add_server(struct grid *grid, const struct snapshot_server *server, bool first)
{
	grid_add(grid, "%s", first ? server->upstream : "");
	grid_add(grid, "%s", server->name);
	grid_add(grid, "%s", strcmp(server->name, server->address) == 0 ? "" : server->address);
	if (server->disabled)
		grid_add(grid, "disabled");
	else
		grid_add(grid, "%s%" PRIu32, server->backup ? "backup " : "", server->weight);
	grid_add(grid, "%" PRIu32, server->active);
	add_u64(grid, server->totals.hot);
	add_u64(grid, server->totals.connections);
	add_u64(grid, server->totals.failures);
	add_bytes(grid, server->totals.sent_bytes);
	add_bytes(grid, server->totals.received_bytes);
}

static void print_servers(const struct snapshot *snapshot, FILE *out)
{
	struct grid grid;
	const char *upstream = NULL;
	grid_init(&grid, "lllrrrrrrr");
	TITLES(&grid, "UPSTREAM", "SERVER", "ADDRESS", "WEIGHT", "ACTIVE", "HOT", "TOTAL", "FAILED", "SENT", "RECEIVED");
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
	print_servers(snapshot, out);
	print_closes(snapshot, out);
}
