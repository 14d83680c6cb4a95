#include "tools/rates.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

static uint64_t grown(uint64_t before, uint64_t now)
{
	return now > before ? now - before : 0;
}

static double per_second(uint64_t before, uint64_t now, double seconds)
{
	return (double)grown(before, now) / seconds;
}

bool rates_continue(const struct snapshot *before, const struct snapshot *now)
{
	return before != NULL && now->totals.connections >= before->totals.connections &&
	       now->totals.received_bytes >= before->totals.received_bytes && now->master.reloads_ok >= before->master.reloads_ok;
}

static void make_percentiles(const struct histogram_sum *before, const struct histogram_sum *now, struct percentiles *out)
{
	struct histogram_sum between = { 0 };
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		between.buckets[i] = grown(before->buckets[i], now->buckets[i]);
		between.count += between.buckets[i];
	}
	out->count = between.count;
	out->p50_ns = histogram_quantile_ns(&between, 0.50);
	out->p95_ns = histogram_quantile_ns(&between, 0.95);
	out->p99_ns = histogram_quantile_ns(&between, 0.99);
}

static double closes_per_second(const struct listener_sum *before, const struct listener_sum *now, enum reason_class class, double seconds)
{
	return per_second(sums_closes(before, class), sums_closes(now, class), seconds);
}

static void make_totals(struct rates *out, const struct listener_sum *before, const struct listener_sum *now)
{
	out->connections = per_second(before->connections, now->connections, out->seconds);
	out->errors = closes_per_second(before, now, REASON_ERROR, out->seconds);
	out->rejected = closes_per_second(before, now, REASON_REJECTED, out->seconds);
	out->received_bytes = per_second(before->received_bytes, now->received_bytes, out->seconds);
	out->sent_bytes = per_second(before->sent_bytes, now->sent_bytes, out->seconds);
	for (unsigned i = 0; i < N_REASONS; i++)
		out->closes[i] = per_second(before->closes[i], now->closes[i], out->seconds);
	make_percentiles(&before->connect, &now->connect, &out->connect);
	make_percentiles(&before->first_byte, &now->first_byte, &out->first_byte);
	make_percentiles(&before->duration, &now->duration, &out->duration);
}

static bool same_listener(const struct snapshot *before, size_t at, const void *wanted)
{
	return strcmp(before->listeners[at].name, ((const struct snapshot_listener *)wanted)->name) == 0;
}

static bool same_server(const struct snapshot *before, size_t at, const void *wanted)
{
	const struct snapshot_server *server = wanted;
	return strcmp(before->servers[at].name, server->name) == 0 && strcmp(before->servers[at].upstream, server->upstream) == 0;
}

static bool same_worker(const struct snapshot *before, size_t at, const void *wanted)
{
	const struct snapshot_worker *worker = wanted;
	return before->workers[at].pid == worker->pid && before->workers[at].slot == worker->slot;
}

/* Rows mostly stand where they stood, or all a little further on: the search for one begins behind the one found last. */
static size_t find(const struct snapshot *before, size_t n, size_t *hint,
        bool (*same)(const struct snapshot *before, size_t at, const void *wanted), const void *wanted)
{
	for (size_t tried = 0; tried < n; tried++) {
		size_t at = (*hint + tried) % n;
		if (same(before, at, wanted)) {
			*hint = at + 1;
			return at;
		}
	}
	return RATES_NO_ROW;
}

static void make_listener(
        const struct snapshot_listener *before, const struct snapshot_listener *now, double seconds, struct listener_rates *out)
{
	const struct listener_sum *from = &before->totals, *to = &now->totals;
	out->is_known = true;
	out->connections = per_second(from->connections, to->connections, seconds);
	out->rejected = closes_per_second(from, to, REASON_REJECTED, seconds);
	out->errors = closes_per_second(from, to, REASON_ERROR, seconds);
	out->received_bytes = per_second(from->received_bytes, to->received_bytes, seconds);
	out->sent_bytes = per_second(from->sent_bytes, to->sent_bytes, seconds);
	out->datagrams = per_second(from->udp_from_client, to->udp_from_client, seconds) +
	                 per_second(from->udp_from_server, to->udp_from_server, seconds);
	out->drops = per_second(snapshot_drops(from), snapshot_drops(to), seconds);
	make_percentiles(&from->first_byte, &to->first_byte, &out->first_byte);
	make_percentiles(&from->duration, &to->duration, &out->duration);
}

static void make_server(const struct snapshot_server *before, const struct snapshot_server *now, double seconds, struct server_rates *out)
{
	out->connections = per_second(before->totals.connections, now->totals.connections, seconds);
	out->failures = per_second(before->totals.failures, now->totals.failures, seconds);
	out->sent_bytes = per_second(before->totals.sent_bytes, now->totals.sent_bytes, seconds);
	out->received_bytes = per_second(before->totals.received_bytes, now->totals.received_bytes, seconds);
}

static void make_worker(const struct snapshot_worker *before, const struct snapshot_worker *now, double seconds, struct worker_rates *out)
{
	out->is_known = true;
	out->accepts = per_second(before->accepts, now->accepts, seconds);
	out->turns = per_second(before->totals.turns, now->totals.turns, seconds);
	out->pauses = per_second(before->totals.accept_pauses, now->totals.accept_pauses, seconds);
	out->no_buffer = per_second(before->totals.buffer_exhausted, now->totals.buffer_exhausted, seconds);
}

static void make_rows(struct rates *out, const struct snapshot *before, const struct snapshot *now)
{
	size_t at, hint = 0;
	for (size_t i = 0; i < now->n_listeners; i++) {
		at = find(before, before->n_listeners, &hint, same_listener, &now->listeners[i]);
		if (at != RATES_NO_ROW)
			make_listener(&before->listeners[at], &now->listeners[i], out->seconds, &out->listeners[i]);
	}
	hint = 0;
	for (size_t i = 0; i < now->n_servers; i++) {
		at = out->servers[i].before = find(before, before->n_servers, &hint, same_server, &now->servers[i]);
		if (at != RATES_NO_ROW)
			make_server(&before->servers[at], &now->servers[i], out->seconds, &out->servers[i]);
	}
	hint = 0;
	for (size_t i = 0; i < now->n_workers; i++) {
		at = find(before, before->n_workers, &hint, same_worker, &now->workers[i]);
		if (at != RATES_NO_ROW)
			make_worker(&before->workers[at], &now->workers[i], out->seconds, &out->workers[i]);
	}
}

int rates_make(struct rates *out, const struct snapshot *before, const struct snapshot *now, uint64_t elapsed_ns)
{
	struct rates rates = { .seconds = (double)elapsed_ns / (double)NS_PER_S };
	rates.listeners = calloc(now->n_listeners + 1, sizeof *rates.listeners);
	rates.servers = calloc(now->n_servers + 1, sizeof *rates.servers);
	rates.workers = calloc(now->n_workers + 1, sizeof *rates.workers);
	if (rates.listeners == NULL || rates.servers == NULL || rates.workers == NULL) {
		rates_free(&rates);
		return -ENOMEM;
	}
	for (size_t i = 0; i < now->n_servers; i++)
		rates.servers[i].before = RATES_NO_ROW;
	rates.is_known = elapsed_ns > 0 && rates_continue(before, now);
	if (rates.is_known) {
		make_totals(&rates, &before->totals, &now->totals);
		make_rows(&rates, before, now);
	}
	*out = rates;
	return 0;
}

void rates_free(struct rates *rates)
{
	free(rates->listeners);
	free(rates->servers);
	free(rates->workers);
	*rates = (struct rates){ 0 };
}
