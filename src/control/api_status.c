/* What there is to see: GET /health, /status, /metrics. */
#include <string.h>

#include "control/api.h"
#include "os/ring.h"
#include "view/document.h"
#include "view/prometheus.h"

static bool has_usable_server(const struct snapshot *snapshot, const char *upstream)
{
	for (size_t i = 0; i < snapshot->n_servers; i++)
		if (snapshot->servers[i].in_use && snapshot->servers[i].standing.is_usable &&
		        strcmp(snapshot->servers[i].upstream, upstream) == 0)
			return true;
	return false;
}

struct verdict {
	size_t served, unserved;
};

static void count(const struct snapshot *snapshot, const char *upstream, struct verdict *verdict)
{
	bool usable = has_usable_server(snapshot, upstream);
	verdict->served += usable;
	verdict->unserved += !usable;
}

/* Where one has routes alone, they lead to the upstreams that no listener has for itself. */
static void count_routed(const struct snapshot *snapshot, struct verdict *verdict)
{
	for (size_t i = 0; i < snapshot->n_upstreams; i++) {
		const struct snapshot_upstream *upstream = &snapshot->upstreams[i];
		bool own = false;
		for (size_t j = 0; j < snapshot->n_listeners; j++)
			own = own || (snapshot->listeners[j].in_use && strcmp(snapshot->listeners[j].upstream, upstream->name) == 0);
		if (upstream->in_use && !own)
			count(snapshot, upstream->name, verdict);
	}
}

/* "ok": new clients are accepted, and for all listeners there is a server; "degraded": not for all; "down": for none; or the state in which
 * nobody is accepted. */
static const char *judge(const struct snapshot *snapshot)
{
	struct verdict verdict = { .served = 0 };
	bool routed = false;
	if (snapshot->state != INSTANCE_RUNNING && snapshot->state != INSTANCE_RELOADING)
		return instance_state_name(snapshot->state);
	for (size_t i = 0; i < snapshot->n_listeners; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		if (!listener->in_use)
			continue;
		if (listener->upstream[0] != '\0')
			count(snapshot, listener->upstream, &verdict);
		else
			routed = true;
	}
	if (routed)
		count_routed(snapshot, &verdict);
	return verdict.unserved == 0 ? "ok" : verdict.served > 0 ? "degraded" : "down";
}

void api_health(struct api_call *call)
{
	struct api_text text;
	struct snapshot *snapshot = api_look(call);
	if (!snapshot)
		return;
	if (api_text_begin(call, &text)) {
		const char *verdict = judge(snapshot);
		char name[SHM_NAME_SIZE + SHM_ADDRESS_SIZE + 2];
		emit_open(&text.emit, NULL, '{');
		emit_string(&text.emit, "status", verdict);
		emit_open(&text.emit, "backends", '{');
		for (size_t i = 0; i < snapshot->n_servers; i++) {
			const struct snapshot_server *server = &snapshot->servers[i];
			if (!server->in_use)
				continue;
			(void)snprintf(name, sizeof name, "%s/%s", server->upstream, server->name);
			emit_name(&text.emit, name);
			emit_bool(&text.emit, NULL, server->standing.is_usable);
		}
		emit_close(&text.emit, '}');
		emit_close(&text.emit, '}');
		api_text_end_json(call, &text, strcmp(verdict, "ok") == 0 || strcmp(verdict, "degraded") == 0 ? 200 : 503);
	}
	snapshot_free(snapshot);
}

/* Why workers wait as they do. */
static const char *explain_engine(const struct config *config, const char *engine, char *why, size_t why_size)
{
	if (config->engine == ENGINE_EPOLL)
		return "the settings say so";
	if (strcmp(engine, "io_uring") == 0)
		return config->engine == ENGINE_AUTO ? "it works here" : "the settings say so";
	return ring_probe(why, why_size) ? "io_uring did not work when the workers were started" : why;
}

static void emit_settings(struct emit *emit, const struct config *config, const struct snapshot *snapshot)
{
	emit_open(emit, "settings", '{');
	emit_string(emit, "file", snapshot->config_file);
	emit_u64(emit, "workers", snapshot->workers_wanted);
	emit_u64(emit, "max_connections", snapshot->max);
	emit_seconds(emit, "drain_timeout_seconds", config->drain.timeout_ns);
	emit_string(emit, "admin_address", config->admin.address);
	emit_string(emit, "metrics_address", config->admin.metrics_address);
	emit_close(emit, '}');
}

void api_status(struct api_call *call)
{
	struct api_text text;
	char why[160];
	const struct config *config = call->args->config;
	struct snapshot *snapshot = api_look(call);
	if (!snapshot)
		return;
	if (api_text_begin(call, &text)) {
		struct emit *emit = &text.emit;
		emit_open(emit, NULL, '{');
		document_instance(emit, snapshot);
		emit_string(emit, "engine_why", explain_engine(config, snapshot->engine, why, sizeof why));
		emit_settings(emit, config, snapshot);
		document_reloads(emit, snapshot);
		document_workers(emit, snapshot);
		document_listeners(emit, snapshot);
		document_certificates(emit, snapshot);
		document_upstreams(emit, snapshot);
		emit_close(emit, '}');
		api_text_end_json(call, &text, 200);
	}
	snapshot_free(snapshot);
}

void api_metrics(struct api_call *call)
{
	struct api_text text;
	struct snapshot *snapshot = api_look(call);
	if (!snapshot)
		return;
	if (api_text_begin(call, &text)) {
		prometheus_print(snapshot, text.out);
		api_text_end(call, &text, 200, PROMETHEUS_CONTENT_TYPE);
	}
	snapshot_free(snapshot);
}
