#include "view/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

/* --- samples ------------------------------------------------------------------------------------------------------------ */

static uint64_t value_at(const void *totals, const struct metric *metric)
{
	uint64_t value;
	memcpy(&value, (const char *)totals + metric->offset, sizeof value);
	return value;
}

/* "aegis_NAME" with labels, one pair of arguments each, up to a NULL. The escapes of JSON that can occur here are the ones of
 * Prometheus too: strings in a snapshot are printable. */
static void print_name(const struct metric *metric, const char *suffix, const char *const *labels, FILE *out)
{
	int length = (int)metrics_name_length(metric), fixed = (int)strcspn(metric->name + length, "}");
	fprintf(out, "aegis_%.*s%s%.*s", length, metric->name, suffix, fixed, metric->name + length);
	for (size_t i = 0; labels[i] != NULL; i += 2) {
		char bytes[1024];
		struct text text = text_of(bytes, sizeof bytes);
		text_add_escaped(&text, labels[i + 1]);
		fprintf(out, "%s%s=\"%s\"", i == 0 && fixed == 0 ? "{" : ",", labels[i], bytes);
	}
	fputs(labels[0] != NULL || fixed > 0 ? "} " : " ", out);
}
#define LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define NO_LABELS ((const char *const[]){ NULL })

static void print_u64(const struct metric *metric, const char *const *labels, uint64_t value, FILE *out)
{
	print_name(metric, "", labels, out);
	fprintf(out, "%" PRIu64 "\n", value);
}

static void print_seconds(uint64_t ns, FILE *out)
{
	fprintf(out, "%" PRIu64 ".%09" PRIu64 "\n", ns / NS_PER_S, ns % NS_PER_S);
}

static const char *slot_text(uint32_t slot, char *out, size_t size)
{
	snprintf(out, size, "%" PRIu32, slot);
	return out;
}

/* --- counters ----------------------------------------------------------------------------------------------------------- */

static void print_master(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, value_at(&snapshot->master, metric), out);
}

/* Retired rows too: a sum over the label must not fall when a listener goes. What is about datagrams is none of TCP's. */
static void print_listener(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	bool of_udp = strncmp(metric->name, "udp_", 4) == 0;
	for (size_t i = 0; i < snapshot->n_listeners; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		if (of_udp && !listener->is_udp)
			continue;
		print_u64(metric, LABELS("listener", listener->name), value_at(&listener->totals, metric), out);
	}
}

static void print_server(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		print_u64(metric, LABELS("upstream", server->upstream, "server", server->name), value_at(&server->totals, metric), out);
	}
}

static void print_slot(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	char slot[16];
	for (size_t i = 0; i < snapshot->n_slots; i++)
		print_u64(metric, LABELS("worker", slot_text(snapshot->slots[i].slot, slot, sizeof slot)),
		        value_at(&snapshot->slots[i].totals, metric), out);
}

static void print_closes(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		for (unsigned reason = 0; reason < N_REASONS; reason++)
			print_u64(metric, LABELS("listener", snapshot->listeners[i].name, "reason", reason_name(reason)),
			        snapshot->listeners[i].totals.closes[reason], out);
}

static void print_rejected(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		for (unsigned reason = 0; reason < N_REASONS; reason++)
			if (reason_class(reason) == REASON_REJECTED)
				print_u64(metric, LABELS("listener", snapshot->listeners[i].name, "reason", reason_name(reason)),
				        snapshot->listeners[i].totals.closes[reason], out);
}

static void print_errors(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (unsigned reason = 0; reason < N_REASONS; reason++)
		if (reason_class(reason) == REASON_ERROR)
			print_u64(metric, LABELS("reason", reason_name(reason)), snapshot->totals.closes[reason], out);
}

/* --- histograms --------------------------------------------------------------------------------------------------------- */

/* One bucket for each power of two of the four that a segment keeps; their edges are 1024 ns times a power of two. */
static void print_histogram(const struct metric *metric, const char *listener, const struct histogram_sum *sum, FILE *out)
{
	uint64_t below = 0, edge_ns = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		below += sum->buckets[i];
		if (i % 4 != 0)
			continue;
		char edge[32];
		edge_ns = histogram_lower_ns(i + 1);
		snprintf(edge, sizeof edge, "%" PRIu64 ".%09" PRIu64, edge_ns / NS_PER_S, edge_ns % NS_PER_S);
		print_name(metric, "_bucket", LABELS("listener", listener, "le", edge), out);
		fprintf(out, "%" PRIu64 "\n", below);
	}
	print_name(metric, "_bucket", LABELS("listener", listener, "le", "+Inf"), out);
	fprintf(out, "%" PRIu64 "\n", sum->count);
	print_name(metric, "_sum", LABELS("listener", listener), out);
	print_seconds(sum->sum_ns, out);
	print_name(metric, "_count", LABELS("listener", listener), out);
	fprintf(out, "%" PRIu64 "\n", sum->count);
}

static void print_histograms(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_listeners; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		const void *totals = &listener->totals;
		print_histogram(metric, listener->name, (const void *)((const char *)totals + metric->offset), out);
	}
}

/* --- gauges ------------------------------------------------------------------------------------------------------------- */

static void print_build(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, LABELS("version", snapshot->version, "engine", snapshot->engine), 1, out);
}

static void print_state(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	static const enum instance_state states[] = {
#define X(id, name) INSTANCE_##id,
		INSTANCE_STATES(X)
#undef X
	};
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		print_u64(metric, LABELS("state", instance_state_name(states[i])), snapshot->state == states[i], out);
}

static void print_uptime(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_name(metric, "", NO_LABELS, out);
	print_seconds(snapshot->uptime_ns, out);
}

static void print_generation(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, snapshot->generation, out);
}

static void print_workers(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	static const enum seat_state states[] = {
#define X(id, name) SEAT_##id,
		SEAT_STATES(X)
#undef X
	};
	for (size_t state = 0; state < ARRAY_LEN(states); state++) {
		uint64_t n = 0;
		for (size_t i = 0; i < snapshot->n_workers; i++)
			n += snapshot->workers[i].state == states[state];
		if (states[state] != SEAT_FREE)
			print_u64(metric, LABELS("state", seat_state_name(states[state])), n, out);
	}
}

static void print_reload_time(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	if (snapshot->last_reload_unix_s != 0)
		print_u64(metric, NO_LABELS, snapshot->last_reload_unix_s, out);
}

static void print_reload_ok(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	if (snapshot->last_reload_unix_s != 0)
		print_u64(metric, NO_LABELS, snapshot->last_reload_ok, out);
}

static void print_active(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, snapshot->active, out);
}

static void print_udp_sessions(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, snapshot->udp_sessions, out);
}

static void print_max(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, snapshot->max, out);
}

static void print_listener_active(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		print_u64(metric, LABELS("listener", snapshot->listeners[i].name), snapshot->listeners[i].active, out);
}

static void print_listener_max(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		if (snapshot->listeners[i].in_use)
			print_u64(metric, LABELS("listener", snapshot->listeners[i].name), snapshot->listeners[i].max, out);
}

/* One for each server for which the condition holds. */
#define SERVER_GAUGE(fn, condition, value)                                                                                   \
	static void fn(const struct metric *metric, const struct snapshot *snapshot, FILE *out)                              \
	{                                                                                                                    \
		for (size_t i = 0; i < snapshot->n_servers; i++) {                                                           \
			const struct snapshot_server *server = &snapshot->servers[i];                                        \
			const struct standing *standing = &server->standing;                                                 \
			(void)standing;                                                                                      \
			if (condition)                                                                                       \
				print_u64(metric, LABELS("upstream", server->upstream, "server", server->name), value, out); \
		}                                                                                                            \
	}
SERVER_GAUGE(print_server_active, true, server->active)
SERVER_GAUGE(print_server_max, server->in_use, server->max)
SERVER_GAUGE(print_server_soft_limit, server->in_use, server->soft_limit)
SERVER_GAUGE(print_server_weight, server->in_use, server->weight)
SERVER_GAUGE(print_server_weight_now, server->in_use, standing->weight_now)
SERVER_GAUGE(print_server_disabled, server->in_use, server->disabled)
SERVER_GAUGE(print_server_usable, server->in_use, standing->is_usable)
SERVER_GAUGE(print_server_up, server->in_use && standing->health != HEALTH_UNKNOWN, standing->health == HEALTH_UP)
SERVER_GAUGE(print_server_breaker, server->in_use, standing->breaker)
SERVER_GAUGE(print_server_ejected, server->in_use, standing->ejected_for_ns > 0)
/* Counters, of retired rows too. */
SERVER_GAUGE(print_server_trips, true, standing->trips)
SERVER_GAUGE(print_server_ejections, true, standing->ejections)

static void print_server_checks(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		print_u64(metric, LABELS("upstream", server->upstream, "server", server->name, "result", "passed"),
		        server->standing.checks_passed, out);
		print_u64(metric, LABELS("upstream", server->upstream, "server", server->name, "result", "failed"),
		        server->standing.checks_failed, out);
	}
}

static void print_server_check_time(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		if (!server->in_use || server->standing.last.result == HEALTH_RESULT_NONE)
			continue;
		print_name(metric, "", LABELS("upstream", server->upstream, "server", server->name), out);
		print_seconds(server->standing.last.latency_ns, out);
	}
}

static void print_queue_waiting(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_upstreams; i++)
		print_u64(metric, LABELS("upstream", snapshot->upstreams[i].name), snapshot->upstreams[i].waiting, out);
}

static void print_queue_max(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_upstreams; i++)
		if (snapshot->upstreams[i].in_use)
			print_u64(metric, LABELS("upstream", snapshot->upstreams[i].name), snapshot->upstreams[i].queue_max, out);
}

/* A number of the snapshot itself. */
static void print_instance(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	print_u64(metric, NO_LABELS, value_at(snapshot, metric), out);
}

static void print_expiry(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	for (size_t i = 0; i < snapshot->n_certificates; i++) {
		const struct snapshot_certificate *certificate = &snapshot->certificates[i];
		print_name(metric, "", LABELS("listener", certificate->listener, "name", certificate->name), out);
		fprintf(out, "%" PRId64 "\n", certificate->not_after);
	}
}

static void print_slot_active(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	char slot[16];
	for (size_t i = 0; i < snapshot->n_slots; i++)
		print_u64(metric, LABELS("worker", slot_text(snapshot->slots[i].slot, slot, sizeof slot)), snapshot->slots[i].connections,
		        out);
}

static void print_slot_lag(const struct metric *metric, const struct snapshot *snapshot, FILE *out)
{
	char slot[16];
	for (size_t i = 0; i < snapshot->n_slots; i++) {
		print_name(metric, "", LABELS("worker", slot_text(snapshot->slots[i].slot, slot, sizeof slot)), out);
		print_seconds(snapshot->slots[i].loop_lag_ns, out);
	}
}

/* --- the rows ----------------------------------------------------------------------------------------------------------- */

#define GAUGE(name, labels, help, print)                   \
	{                                                  \
		name, labels, help, METRIC_GAUGE, 0, print \
	}
#define COUNTER(name, labels, help, print)                   \
	{                                                    \
		name, labels, help, METRIC_COUNTER, 0, print \
	}
#define INSTANCE_COUNTER(name, help, field)                                                      \
	{                                                                                        \
		name, "", help, METRIC_COUNTER, offsetof(struct snapshot, field), print_instance \
	}

static const struct metric rows[] = { GAUGE("build_info", "version, engine", "Always 1; the labels tell what runs", print_build),
	GAUGE("state", "state", "1 for the state that the instance is in, 0 for the others", print_state),
	GAUGE("uptime_seconds", "", "Time since the master started", print_uptime),
	GAUGE("generation", "", "The number of the running generation of workers; the first is 1", print_generation),
	GAUGE("workers", "state", "Worker processes", print_workers),
	GAUGE("last_reload_timestamp_seconds", "", "When the last reload was tried; absent before the first", print_reload_time),
	GAUGE("last_reload_success", "", "1 when the last reload took effect, 0 when it was refused; absent before the first",
	        print_reload_ok),
	GAUGE("connections_active", "", "Connections that are open", print_active),
	GAUGE("connections_max", "", "The limit on open connections (max_connections), 0 = none", print_max),
	GAUGE("udp_sessions_active", "", "UDP sessions that are open; connections_active has them, too", print_udp_sessions),
	GAUGE("listener_connections_active", "listener", "Connections that are open", print_listener_active),
	GAUGE("listener_connections_max", "listener", "The limit on open connections of the listener, 0 = none", print_listener_max),
	GAUGE("server_connections_active", "upstream, server", "Connections to the server that a client uses", print_server_active),
#define X(field, metric, help) { metric, "upstream, server", help, METRIC_GAUGE, offsetof(struct server_sum, field), print_server },
	SERVER_GAUGES(X)
#undef X
	        GAUGE("server_connections_max", "upstream, server",
	                "The limit on connections to the server (max_connections), ready ones included; 0 = none", print_server_max),
	GAUGE("server_soft_limit", "upstream, server", "From how many connections on others are preferred (soft_limit), 0 = none",
	        print_server_soft_limit),
	GAUGE("server_weight", "upstream, server", "The weight of the server in the settings", print_server_weight),
	GAUGE("server_weight_now", "upstream, server", "The weight that counts now: less in slow start, or what the operator set",
	        print_server_weight_now),
	GAUGE("server_disabled", "upstream, server", "1 when the server is disabled in the settings, else 0", print_server_disabled),
	GAUGE("server_usable", "upstream, server",
	        "1 when a new connection may go to the server; 0 when it is disabled, draining, down, ejected, of weight 0, or its breaker "
	        "refuses",
	        print_server_usable),
	GAUGE("server_up", "upstream, server",
	        "1 when checks find the server up, 0 when down; absent while unknown: without checks, or before the first is over",
	        print_server_up),
	GAUGE("server_check_seconds", "upstream, server", "How long the last check took; absent before the first is over",
	        print_server_check_time),
	GAUGE("server_breaker_state", "upstream, server", "The circuit breaker: 0 closed (or none), 1 open, 2 half-open",
	        print_server_breaker),
	GAUGE("server_ejected", "upstream, server", "1 while the server is left out as an outlier, else 0", print_server_ejected),
	GAUGE("queue_waiting", "upstream", "Clients that wait in line for a place at a server", print_queue_waiting),
	GAUGE("queue_max", "upstream", "How many may wait (queue.size), 0 = there is no line", print_queue_max),
	GAUGE("certificate_expiry_seconds", "listener, name",
	        "When a certificate of the listener expires, in seconds since 1970; name is the first one in it", print_expiry),
	GAUGE("worker_connections_active", "worker", "Connections that the worker holds", print_slot_active),
	GAUGE("worker_loop_lag_seconds", "worker", "The longest turn of the event loop in the last second", print_slot_lag),
#define X(field, metric, help) { metric, "", help, METRIC_COUNTER, offsetof(struct master_totals, field), print_master },
	MASTER_COUNTERS(X)
#undef X
#define X(field, metric, help) { metric, "listener", help, METRIC_COUNTER, offsetof(struct listener_sum, field), print_listener },
	        LISTENER_COUNTERS(X)
#undef X
	                COUNTER("connections_rejected_total", "listener, reason", "Connections turned away before any server was asked",
	                        print_rejected),
	COUNTER("errors_total", "reason", "Connections that ended because something failed", print_errors),
	COUNTER("closes_total", "listener, reason", "Connections ended, by reason", print_closes),
	INSTANCE_COUNTER("rate_evictions_total", "Clients whose rate was forgotten to make room for others (rate_limit)", rate_evictions),
	INSTANCE_COUNTER("rate_unbooked_total", "Connections let through uncounted while a rate was being written", rate_unbooked),
	INSTANCE_COUNTER(
	        "affinity_evictions_total", "Clients whose server was forgotten to make room for others (affinity)", affinity_evictions),
#define X(field, metric, help) { metric, "upstream, server", help, METRIC_COUNTER, offsetof(struct server_sum, field), print_server },
	SERVER_COUNTERS(X)
#undef X
	        COUNTER("server_checks_total", "upstream, server, result", "Checks of the server that passed and that failed",
	                print_server_checks),
	COUNTER("server_breaker_trips_total", "upstream, server", "Times the circuit breaker opened, or its probes were not answered",
	        print_server_trips),
	COUNTER("server_ejections_total", "upstream, server", "Times the server was ejected as an outlier", print_server_ejections),
#define X(field, metric, help) { metric, "worker", help, METRIC_COUNTER, offsetof(struct worker_totals, field), print_slot },
	WORKER_COUNTERS(X)
#undef X
#define X(field, metric, help) { metric, "listener", help, METRIC_HISTOGRAM, offsetof(struct listener_sum, field), print_histograms },
	        LISTENER_HISTOGRAMS(X)
#undef X
};

const struct metric *metrics_rows(size_t *n)
{
	*n = ARRAY_LEN(rows);
	return rows;
}

size_t metrics_name_length(const struct metric *metric)
{
	return strcspn(metric->name, "{");
}

void metrics_help(size_t i, FILE *out)
{
	size_t length = metrics_name_length(&rows[i]);
	const char *fixed = rows[i].name + length;
	if (*fixed == '\0') {
		fputs(rows[i].help, out);
		return;
	}
	for (size_t j = i; j < ARRAY_LEN(rows) && strncmp(rows[j].name, rows[i].name, length + 1) == 0; j++)
		fprintf(out, "%s%.*s: %s", j > i ? ". " : "", (int)strcspn(rows[j].name + length + 1, "}"), rows[j].name + length + 1,
		        rows[j].help);
}

const char *metrics_type_name(enum metric_type type)
{
	static const char *const names[] = { [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram" };
	return names[type];
}
