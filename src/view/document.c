#include "view/document.h"

#include <string.h>

/* [milliseconds, how many] of each bucket that is not empty: what lies between two looks is a histogram again. */
static void emit_buckets(struct emit *emit, const struct histogram_sum *sum)
{
	emit_open(emit, "buckets", '[');
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (sum->buckets[i] == 0)
			continue;
		emit_open(emit, NULL, '[');
		emit_ms(emit, NULL, histogram_middle_ns(i));
		emit_u64(emit, NULL, sum->buckets[i]);
		emit_close(emit, ']');
	}
	emit_close(emit, ']');
}

enum emit_detail { QUANTILES, BUCKETS_TOO };

static void emit_histogram(struct emit *emit, const char *key, const struct histogram_sum *sum, enum emit_detail detail)
{
	emit_open(emit, key, '{');
	emit_u64(emit, "count", sum->count);
	emit_ms(emit, "p50_ms", histogram_quantile_ns(sum, 0.50));
	emit_ms(emit, "p95_ms", histogram_quantile_ns(sum, 0.95));
	emit_ms(emit, "p99_ms", histogram_quantile_ns(sum, 0.99));
	if (detail == BUCKETS_TOO)
		emit_buckets(emit, sum);
	emit_close(emit, '}');
}

static void emit_latency(struct emit *emit, const struct listener_sum *totals, enum emit_detail detail)
{
	emit_open(emit, "latency", '{');
	emit_histogram(emit, "connect", &totals->connect, detail);
	emit_histogram(emit, "first_byte", &totals->first_byte, detail);
	emit_histogram(emit, "connection", &totals->duration, detail);
	emit_close(emit, '}');
}

static void emit_datagrams(struct emit *emit, const struct listener_sum *totals)
{
	emit_open(emit, "datagrams", '{');
#define DIRECTION(X, name, text) emit_u64(emit, #name, totals->udp_##name);
	UDP_DIRECTIONS(DIRECTION, )
#undef DIRECTION
	emit_close(emit, '}');
	emit_open(emit, "moves", '{');
#define MOVE(X, field, name, text) emit_u64(emit, #field, totals->udp_##field);
	UDP_MOVES(MOVE, )
#undef MOVE
	emit_close(emit, '}');
	emit_open(emit, "drops", '{');
#define DROP(X, field, name, text) emit_u64(emit, name, totals->udp_drop_##field);
	UDP_DROPS(DROP, )
#undef DROP
	emit_close(emit, '}');
}

void document_instance(struct emit *emit, const struct snapshot *snapshot)
{
	emit_string(emit, "version", snapshot->version);
	emit_i32(emit, "pid", snapshot->master_pid);
	emit_string(emit, "state", instance_state_name(snapshot->state));
	emit_u64(emit, "generation", snapshot->generation);
	emit_seconds(emit, "uptime_seconds", snapshot->uptime_ns);
	emit_string(emit, "engine", snapshot->engine);
	emit_string(emit, "config_file", snapshot->config_file);
	emit_open(emit, "connections", '{');
	emit_u64(emit, "active", snapshot->active);
	emit_u64(emit, "max", snapshot->max);
	emit_u64(emit, "total", snapshot->totals.connections);
	emit_u64(emit, "rejected", sums_closes(&snapshot->totals, REASON_REJECTED));
	emit_u64(emit, "errors", sums_closes(&snapshot->totals, REASON_ERROR));
	emit_close(emit, '}');
	emit_open(emit, "bytes", '{');
	emit_u64(emit, "received", snapshot->totals.received_bytes);
	emit_u64(emit, "sent", snapshot->totals.sent_bytes);
	emit_close(emit, '}');
	emit_open(emit, "udp", '{');
	emit_u64(emit, "sessions", snapshot->udp_sessions);
	emit_datagrams(emit, &snapshot->totals);
	emit_close(emit, '}');
	emit_latency(emit, &snapshot->totals, BUCKETS_TOO);
}

void document_reloads(struct emit *emit, const struct snapshot *snapshot)
{
	emit_open(emit, "reloads", '{');
	emit_u64(emit, "ok", snapshot->master.reloads_ok);
	emit_u64(emit, "failed", snapshot->master.reloads_failed);
	emit_u64(emit, "last_unix", snapshot->last_reload_unix_s);
	emit_bool(emit, "last_ok", snapshot->last_reload_ok);
	emit_string(emit, "last_note", snapshot->last_reload_note);
	emit_close(emit, '}');
	emit_open(emit, "upgrades", '{');
	emit_u64(emit, "ok", snapshot->master.upgrades_ok);
	emit_u64(emit, "failed", snapshot->master.upgrades_failed);
	emit_close(emit, '}');
	emit_u64(emit, "worker_restarts", snapshot->master.worker_restarts);
	emit_u64(emit, "control_restarts", snapshot->master.control_restarts);
	emit_u64(emit, "rate_evictions", snapshot->rate_evictions);
	emit_u64(emit, "rate_unbooked", snapshot->rate_unbooked);
	emit_u64(emit, "affinity_evictions", snapshot->affinity_evictions);
}

static void emit_worker(struct emit *emit, const struct snapshot_worker *worker)
{
	emit_open(emit, NULL, '{');
	emit_u64(emit, "slot", worker->slot);
	emit_i32(emit, "pid", worker->pid);
	emit_u64(emit, "generation", worker->generation);
	emit_string(emit, "state", seat_state_name(worker->state));
	emit_i32(emit, "cpu", worker->cpu);
	emit_u64(emit, "connections", worker->connections);
	emit_u64(emit, "udp_sessions", worker->udp_sessions);
	emit_u64(emit, "accepts", worker->accepts);
	emit_u64(emit, "accept_pauses", worker->totals.accept_pauses);
	emit_u64(emit, "buffer_exhausted", worker->totals.buffer_exhausted);
	emit_u64(emit, "log_dropped", worker->totals.log_drops);
	emit_u64(emit, "access_log_dropped", worker->totals.access_drops);
	emit_ms(emit, "loop_lag_ms", worker->loop_lag_ns);
	emit_close(emit, '}');
}

static void emit_listener(struct emit *emit, const struct snapshot_listener *listener)
{
	const struct listener_sum *totals = &listener->totals;
	emit_open(emit, NULL, '{');
	emit_string(emit, "name", listener->name);
	emit_string(emit, "address", listener->address);
	emit_string(emit, "protocol", listener->is_udp ? "udp" : "tcp");
	emit_string(emit, "upstream", listener->upstream);
	emit_u64(emit, "active", listener->active);
	emit_u64(emit, "max", listener->max);
	emit_u64(emit, "total", totals->connections);
	emit_u64(emit, "rejected", sums_closes(totals, REASON_REJECTED));
	emit_u64(emit, "errors", sums_closes(totals, REASON_ERROR));
	emit_u64(emit, "received", totals->received_bytes);
	emit_u64(emit, "sent", totals->sent_bytes);
	emit_u64(emit, "retries", totals->retries);
	emit_u64(emit, "queued", totals->queued);
	if (listener->is_udp)
		emit_datagrams(emit, totals);
	emit_open(emit, "closes", '{');
	for (unsigned i = 0; i < N_REASONS; i++)
		emit_u64(emit, reason_name(i), totals->closes[i]);
	emit_close(emit, '}');
	emit_latency(emit, totals, QUANTILES);
	emit_close(emit, '}');
}

/* With seconds, or null. */
static void emit_ago(struct emit *emit, const char *key, uint64_t ns)
{
	if (ns == STANDING_NEVER)
		emit_null(emit, key);
	else
		emit_seconds(emit, key, ns);
}

static void emit_health(struct emit *emit, const struct standing *standing)
{
	char why[HEALTH_WHY_SIZE];
	emit_open(emit, "health", '{');
	emit_bool(emit, "checked", standing->is_checked);
	emit_string(emit, "state", health_state_name(standing->health));
	emit_string(emit, "result", health_result_text(standing->last.result));
	emit_u64(emit, "detail", standing->last.detail);
	emit_string(emit, "why", health_check_why(&standing->last, why, sizeof why));
	emit_ms(emit, "latency_ms", standing->last.latency_ns);
	emit_ago(emit, "checked_seconds_ago", standing->checked_ago_ns);
	emit_ago(emit, "changed_seconds_ago", standing->health_changed_ago_ns);
	emit_u64(emit, "passed", standing->checks_passed);
	emit_u64(emit, "failed", standing->checks_failed);
	emit_close(emit, '}');
}

static void emit_standing(struct emit *emit, const struct standing *standing)
{
	emit_string(emit, "state", standing_name(standing->state));
	emit_bool(emit, "usable", standing->is_usable);
	emit_u64(emit, "weight_now", standing->weight_now);
	emit_string(emit, "override", override_mode_name(standing->override));
	emit_health(emit, standing);
	emit_open(emit, "breaker", '{');
	emit_string(emit, "state", breaker_state_name(standing->breaker));
	emit_u64(emit, "trips", standing->trips);
	emit_close(emit, '}');
	emit_bool(emit, "ejected", standing->ejected_for_ns > 0);
	emit_ago(emit, "ejected_for_seconds", standing->ejected_for_ns);
	emit_u64(emit, "ejections", standing->ejections);
	emit_ago(emit, "recovered_seconds_ago", standing->recovered_ago_ns);
}

void document_server(struct emit *emit, const struct snapshot_server *server)
{
	emit_open(emit, NULL, '{');
	emit_string(emit, "name", server->name);
	emit_string(emit, "address", server->address);
	emit_open(emit, "addresses", '[');
	for (size_t i = 0; i < server->n_addresses; i++)
		emit_string(emit, NULL, server->addresses[i]);
	emit_close(emit, ']');
	emit_u64(emit, "active", server->active);
	emit_u64(emit, "hot", server->totals.hot);
	emit_u64(emit, "max", server->max);
	emit_u64(emit, "soft_limit", server->soft_limit);
	emit_u64(emit, "weight", server->weight);
	emit_bool(emit, "backup", server->backup);
	emit_bool(emit, "disabled", server->disabled);
	emit_standing(emit, &server->standing);
	emit_u64(emit, "total", server->totals.connections);
	emit_u64(emit, "failures", server->totals.failures);
	emit_u64(emit, "sent", server->totals.sent_bytes);
	emit_u64(emit, "received", server->totals.received_bytes);
	emit_open(emit, "pool", '{');
	emit_u64(emit, "hits", server->totals.pool_hits);
	emit_u64(emit, "misses", server->totals.pool_misses);
	emit_u64(emit, "kept", server->totals.pool_kept);
	emit_u64(emit, "pinned", server->totals.pool_pinned);
	emit_u64(emit, "stale", server->totals.pool_stale);
	emit_u64(emit, "stale_retries", server->totals.pool_stale_retries);
	emit_close(emit, '}');
	emit_close(emit, '}');
}

static void emit_upstream(struct emit *emit, const struct snapshot *snapshot, const char *name)
{
	const struct snapshot_upstream *upstream = snapshot_upstream(snapshot, name);
	emit_string(emit, "name", name);
	emit_u64(emit, "waiting", upstream ? upstream->waiting : 0);
	emit_u64(emit, "queue_max", upstream ? upstream->queue_max : 0);
	emit_u64(emit, "epoch", upstream ? upstream->epoch : 0);
}

void document_upstreams(struct emit *emit, const struct snapshot *snapshot)
{
	const char *upstream = NULL;
	emit_open(emit, "upstreams", '[');
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		if (!server->in_use)
			continue;
		if (upstream == NULL || strcmp(upstream, server->upstream) != 0) {
			if (upstream != NULL) {
				emit_close(emit, ']');
				emit_close(emit, '}');
			}
			upstream = server->upstream;
			emit_open(emit, NULL, '{');
			emit_upstream(emit, snapshot, upstream);
			emit_open(emit, "servers", '[');
		}
		document_server(emit, server);
	}
	if (upstream != NULL) {
		emit_close(emit, ']');
		emit_close(emit, '}');
	}
	emit_close(emit, ']');
}

void document_workers(struct emit *emit, const struct snapshot *snapshot)
{
	emit_open(emit, "workers", '[');
	for (size_t i = 0; i < snapshot->n_workers; i++)
		emit_worker(emit, &snapshot->workers[i]);
	emit_close(emit, ']');
}

void document_listeners(struct emit *emit, const struct snapshot *snapshot)
{
	emit_open(emit, "listeners", '[');
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		if (snapshot->listeners[i].in_use)
			emit_listener(emit, &snapshot->listeners[i]);
	emit_close(emit, ']');
}

static void emit_certificate(struct emit *emit, const struct snapshot_certificate *certificate)
{
	emit_open(emit, NULL, '{');
	emit_string(emit, "listener", certificate->listener);
	emit_string(emit, "name", certificate->name);
	emit_u64(emit, "not_before_unix", certificate->not_before > 0 ? (uint64_t)certificate->not_before : 0);
	emit_u64(emit, "not_after_unix", certificate->not_after > 0 ? (uint64_t)certificate->not_after : 0);
	emit_close(emit, '}');
}

void document_certificates(struct emit *emit, const struct snapshot *snapshot)
{
	emit_open(emit, "certificates", '[');
	for (size_t i = 0; i < snapshot->n_certificates; i++)
		emit_certificate(emit, &snapshot->certificates[i]);
	emit_close(emit, ']');
}

void document_print(const struct snapshot *snapshot, FILE *out)
{
	struct emit emit = { .out = out };
	emit_open(&emit, NULL, '{');
	document_instance(&emit, snapshot);
	document_reloads(&emit, snapshot);
	document_workers(&emit, snapshot);
	document_listeners(&emit, snapshot);
	document_upstreams(&emit, snapshot);
	document_certificates(&emit, snapshot);
	emit_close(&emit, '}');
	fputc('\n', out);
}
