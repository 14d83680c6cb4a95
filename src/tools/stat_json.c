#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "tools/stat.h"

/* A document under construction. Lists and objects are opened and closed by the caller; commas come by themselves. */
struct json {
	FILE *out;
	bool comma; /* something stands before, on this level */
};

static void json_key(struct json *json, const char *key)
{
	if (json->comma)
		fputc(',', json->out);
	json->comma = true;
	if (key != NULL)
		fprintf(json->out, "\"%s\":", key);
}

static void json_open(struct json *json, const char *key, char bracket)
{
	json_key(json, key);
	fputc(bracket, json->out);
	json->comma = false;
}

static void json_close(struct json *json, char bracket)
{
	fputc(bracket, json->out);
	json->comma = true;
}

static void json_u64(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

static void json_i32(struct json *json, const char *key, int32_t value)
{
	json_key(json, key);
	fprintf(json->out, "%" PRId32, value);
}

static void json_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	fputs(value ? "true" : "false", json->out);
}

static void json_string(struct json *json, const char *key, const char *value)
{
	char bytes[1024];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_escaped(&text, value);
	json_key(json, key);
	fprintf(json->out, "\"%s\"", bytes);
}

static void json_ms(struct json *json, const char *key, uint64_t ns)
{
	json_key(json, key);
	fprintf(json->out, "%" PRIu64 ".%06" PRIu64, ns / NS_PER_MS, ns % NS_PER_MS);
}

static void json_histogram(struct json *json, const char *key, const struct histogram_sum *sum)
{
	json_open(json, key, '{');
	json_u64(json, "count", sum->count);
	json_ms(json, "p50_ms", histogram_quantile_ns(sum, 0.50));
	json_ms(json, "p95_ms", histogram_quantile_ns(sum, 0.95));
	json_ms(json, "p99_ms", histogram_quantile_ns(sum, 0.99));
	json_close(json, '}');
}

static void json_latency(struct json *json, const struct listener_sum *totals)
{
	json_open(json, "latency", '{');
	json_histogram(json, "connect", &totals->connect);
	json_histogram(json, "first_byte", &totals->first_byte);
	json_histogram(json, "connection", &totals->duration);
	json_close(json, '}');
}

static void json_instance(struct json *json, const struct snapshot *snapshot)
{
	json_string(json, "version", snapshot->version);
	json_i32(json, "pid", snapshot->master_pid);
	json_string(json, "state", instance_state_name(snapshot->state));
	json_u64(json, "generation", snapshot->generation);
	json_key(json, "uptime_seconds");
	fprintf(json->out, "%" PRIu64 ".%03" PRIu64, snapshot->uptime_ns / NS_PER_S, snapshot->uptime_ns % NS_PER_S / NS_PER_MS);
	json_string(json, "engine", snapshot->engine);
	json_string(json, "config_file", snapshot->config_file);
	json_open(json, "connections", '{');
	json_u64(json, "active", snapshot->active);
	json_u64(json, "max", snapshot->max);
	json_u64(json, "total", snapshot->totals.connections);
	json_u64(json, "rejected", sums_closes(&snapshot->totals, REASON_REJECTED));
	json_u64(json, "errors", sums_closes(&snapshot->totals, REASON_ERROR));
	json_close(json, '}');
	json_open(json, "bytes", '{');
	json_u64(json, "received", snapshot->totals.received_bytes);
	json_u64(json, "sent", snapshot->totals.sent_bytes);
	json_close(json, '}');
	json_latency(json, &snapshot->totals);
}

static void json_reloads(struct json *json, const struct snapshot *snapshot)
{
	json_open(json, "reloads", '{');
	json_u64(json, "ok", snapshot->master.reloads_ok);
	json_u64(json, "failed", snapshot->master.reloads_failed);
	json_u64(json, "last_unix", snapshot->last_reload_unix_s);
	json_bool(json, "last_ok", snapshot->last_reload_ok);
	json_string(json, "last_note", snapshot->last_reload_note);
	json_close(json, '}');
	json_u64(json, "worker_restarts", snapshot->master.worker_restarts);
	json_u64(json, "control_restarts", snapshot->master.control_restarts);
	json_u64(json, "rate_evictions", snapshot->rate_evictions);
	json_u64(json, "rate_unbooked", snapshot->rate_unbooked);
	json_u64(json, "affinity_evictions", snapshot->affinity_evictions);
}

static void json_worker(struct json *json, const struct snapshot_worker *worker)
{
	json_open(json, NULL, '{');
	json_u64(json, "slot", worker->slot);
	json_i32(json, "pid", worker->pid);
	json_u64(json, "generation", worker->generation);
	json_string(json, "state", seat_state_name(worker->state));
	json_i32(json, "cpu", worker->cpu);
	json_u64(json, "connections", worker->connections);
	json_u64(json, "accepts", worker->accepts);
	json_u64(json, "accept_pauses", worker->totals.accept_pauses);
	json_u64(json, "buffer_exhausted", worker->totals.buffer_exhausted);
	json_u64(json, "log_dropped", worker->totals.log_drops);
	json_ms(json, "loop_lag_ms", worker->loop_lag_ns);
	json_close(json, '}');
}

static void json_listener(struct json *json, const struct snapshot_listener *listener)
{
	const struct listener_sum *totals = &listener->totals;
	json_open(json, NULL, '{');
	json_string(json, "name", listener->name);
	json_string(json, "address", listener->address);
	json_string(json, "upstream", listener->upstream);
	json_u64(json, "active", listener->active);
	json_u64(json, "max", listener->max);
	json_u64(json, "total", totals->connections);
	json_u64(json, "rejected", sums_closes(totals, REASON_REJECTED));
	json_u64(json, "errors", sums_closes(totals, REASON_ERROR));
	json_u64(json, "received", totals->received_bytes);
	json_u64(json, "sent", totals->sent_bytes);
	json_u64(json, "retries", totals->retries);
	json_u64(json, "queued", totals->queued);
	json_open(json, "closes", '{');
	for (unsigned i = 0; i < N_REASONS; i++)
		json_u64(json, reason_name(i), totals->closes[i]);
	json_close(json, '}');
	json_latency(json, totals);
	json_close(json, '}');
}

/* With milliseconds, or null. */
static void json_ago(struct json *json, const char *key, uint64_t ns)
{
	json_key(json, key);
	if (ns == STANDING_NEVER)
		fputs("null", json->out);
	else
		fprintf(json->out, "%" PRIu64 ".%03" PRIu64, ns / NS_PER_S, ns % NS_PER_S / NS_PER_MS);
}

static void json_health(struct json *json, const struct standing *standing)
{
	json_open(json, "health", '{');
	json_bool(json, "checked", standing->is_checked);
	json_string(json, "state", health_state_name(standing->health));
	json_string(json, "result", health_result_text(standing->last.result));
	json_u64(json, "detail", standing->last.detail);
	json_ms(json, "latency_ms", standing->last.latency_ns);
	json_ago(json, "checked_seconds_ago", standing->checked_ago_ns);
	json_ago(json, "changed_seconds_ago", standing->health_changed_ago_ns);
	json_u64(json, "passed", standing->checks_passed);
	json_u64(json, "failed", standing->checks_failed);
	json_close(json, '}');
}

static void json_standing(struct json *json, const struct standing *standing)
{
	json_string(json, "state", standing_name(standing->state));
	json_bool(json, "usable", standing->is_usable);
	json_u64(json, "weight_now", standing->weight_now);
	json_string(json, "override", override_mode_name(standing->override));
	json_health(json, standing);
	json_open(json, "breaker", '{');
	json_string(json, "state", breaker_state_name(standing->breaker));
	json_u64(json, "trips", standing->trips);
	json_close(json, '}');
	json_bool(json, "ejected", standing->ejected_for_ns > 0);
	json_ago(json, "ejected_for_seconds", standing->ejected_for_ns);
	json_u64(json, "ejections", standing->ejections);
	json_ago(json, "recovered_seconds_ago", standing->recovered_ago_ns);
}

static void json_server(struct json *json, const struct snapshot_server *server)
{
	json_open(json, NULL, '{');
	json_string(json, "name", server->name);
	json_string(json, "address", server->address);
	json_open(json, "addresses", '[');
	for (size_t i = 0; i < server->n_addresses; i++)
		json_string(json, NULL, server->addresses[i]);
	json_close(json, ']');
	json_u64(json, "active", server->active);
	json_u64(json, "hot", server->totals.hot);
	json_u64(json, "max", server->max);
	json_u64(json, "soft_limit", server->soft_limit);
	json_u64(json, "weight", server->weight);
	json_bool(json, "backup", server->backup);
	json_bool(json, "disabled", server->disabled);
	json_standing(json, &server->standing);
	json_u64(json, "total", server->totals.connections);
	json_u64(json, "failures", server->totals.failures);
	json_u64(json, "sent", server->totals.sent_bytes);
	json_u64(json, "received", server->totals.received_bytes);
	json_open(json, "pool", '{');
	json_u64(json, "hits", server->totals.pool_hits);
	json_u64(json, "misses", server->totals.pool_misses);
	json_u64(json, "kept", server->totals.pool_kept);
	json_u64(json, "pinned", server->totals.pool_pinned);
	json_u64(json, "stale", server->totals.pool_stale);
	json_u64(json, "stale_retries", server->totals.pool_stale_retries);
	json_close(json, '}');
	json_close(json, '}');
}

static void json_upstream(struct json *json, const struct snapshot *snapshot, const char *name)
{
	const struct snapshot_upstream *upstream = snapshot_upstream(snapshot, name);
	json_string(json, "name", name);
	json_u64(json, "waiting", upstream ? upstream->waiting : 0);
	json_u64(json, "queue_max", upstream ? upstream->queue_max : 0);
	json_u64(json, "epoch", upstream ? upstream->epoch : 0);
}

static void json_upstreams(struct json *json, const struct snapshot *snapshot)
{
	const char *upstream = NULL;
	json_open(json, "upstreams", '[');
	for (size_t i = 0; i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		if (!server->in_use)
			continue;
		if (upstream == NULL || strcmp(upstream, server->upstream) != 0) {
			if (upstream != NULL) {
				json_close(json, ']');
				json_close(json, '}');
			}
			upstream = server->upstream;
			json_open(json, NULL, '{');
			json_upstream(json, snapshot, upstream);
			json_open(json, "servers", '[');
		}
		json_server(json, server);
	}
	if (upstream != NULL) {
		json_close(json, ']');
		json_close(json, '}');
	}
	json_close(json, ']');
}

void stat_print_json(const struct snapshot *snapshot, FILE *out)
{
	struct json json = { .out = out };
	json_open(&json, NULL, '{');
	json_instance(&json, snapshot);
	json_reloads(&json, snapshot);
	json_open(&json, "workers", '[');
	for (size_t i = 0; i < snapshot->n_workers; i++)
		json_worker(&json, &snapshot->workers[i]);
	json_close(&json, ']');
	json_open(&json, "listeners", '[');
	for (size_t i = 0; i < snapshot->n_listeners; i++)
		if (snapshot->listeners[i].in_use)
			json_listener(&json, &snapshot->listeners[i]);
	json_close(&json, ']');
	json_upstreams(&json, snapshot);
	json_close(&json, '}');
	fputc('\n', out);
}
