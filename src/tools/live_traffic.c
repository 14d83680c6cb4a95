/* The panes of the listeners and of the workers. */
#include <inttypes.h>

#include "base/clock.h"
#include "tools/live_cells.h"
#include "tools/live_parts.h"

#define LISTENER(source, row) (&((const struct live *)(source))->now->listeners[row])
#define LISTENER_RATES(source, row) (&((const struct live *)(source))->rates.listeners[row])

static void listener_name(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, LISTENER(source, row)->name);
	out->style = STYLE_STRONG;
}

static void listener_address(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, LISTENER(source, row)->address);
}

static void listener_upstream(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, LISTENER(source, row)->upstream);
}

static void listener_active(const void *source, size_t row, struct table_cell *out)
{
	fill_active(out, LISTENER(source, row)->active, LISTENER(source, row)->max);
}

static void listener_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_rate(out, LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->connections);
}

static void listener_rejected_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->rejected, STYLE_WARN);
}

static void listener_error_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->errors, STYLE_BAD);
}

static void listener_received(const void *source, size_t row, struct table_cell *out)
{
	fill_byte_rate(out, LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->received_bytes);
}

static void listener_sent(const void *source, size_t row, struct table_cell *out)
{
	fill_byte_rate(out, LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->sent_bytes);
}

static void listener_p50(const void *source, size_t row, struct table_cell *out)
{
	const struct percentiles *first_byte = &LISTENER_RATES(source, row)->first_byte;
	fill_duration(out, first_byte->count > 0, first_byte->p50_ns);
}

static void listener_p99(const void *source, size_t row, struct table_cell *out)
{
	const struct percentiles *first_byte = &LISTENER_RATES(source, row)->first_byte;
	fill_duration(out, first_byte->count > 0, first_byte->p99_ns);
}

static void listener_total(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, LISTENER(source, row)->totals.connections);
}

static void listener_rejected(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, sums_closes(&LISTENER(source, row)->totals, REASON_REJECTED));
}

static void listener_errors(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, sums_closes(&LISTENER(source, row)->totals, REASON_ERROR));
}

static void listener_datagrams(const void *source, size_t row, struct table_cell *out)
{
	fill_rate(out, LISTENER(source, row)->is_udp && LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->datagrams);
}

static void listener_drop_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, LISTENER(source, row)->is_udp && LISTENER_RATES(source, row)->is_known, LISTENER_RATES(source, row)->drops,
	        STYLE_WARN);
}

static void listener_drops(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, snapshot_drops(&LISTENER(source, row)->totals));
}

static bool has_datagrams(const void *source)
{
	return ((const struct live *)source)->now->has_udp;
}

static const struct column listener_columns[] = {
	{ "LISTENER", listener_name, .most = 20, .to_left = true, .by_text = true },
	{ "ADDRESS", listener_address, .most = 22, .rank = 5, .to_left = true, .by_text = true },
	{ "ACTIVE", listener_active, .most = 13, .rank = 1 },
	{ "CONN/S", listener_rate, .width = 6, .rank = 1 },
	{ "REJ/S", listener_rejected_rate, .width = 6, .rank = 2 },
	{ "ERR/S", listener_error_rate, .width = 6, .rank = 2 },
	{ "RECV/S", listener_received, .width = 7, .rank = 4 },
	{ "SENT/S", listener_sent, .width = 7, .rank = 4 },
	{ "DGRAM/S", listener_datagrams, .width = 7, .rank = 3, .is_wanted = has_datagrams },
	{ "DROP/S", listener_drop_rate, .width = 6, .rank = 3, .is_wanted = has_datagrams },
	{ "BYTE P50", listener_p50, .width = 8, .rank = 6 },
	{ "BYTE P99", listener_p99, .width = 8, .rank = 6 },
	{ "TOTAL", listener_total, .width = 7, .rank = 7 },
	{ "REJ", listener_rejected, .width = 7, .rank = 8 },
	{ "ERR", listener_errors, .width = 7, .rank = 8 },
	{ "DROPS", listener_drops, .width = 7, .rank = 8, .is_wanted = has_datagrams },
	{ "UPSTREAM", listener_upstream, .most = 20, .rank = 9, .to_left = true, .by_text = true },
};

static size_t count_listeners(const struct live *live)
{
	return live->now->n_listeners;
}

static bool shows_listener(const struct live *live, size_t row)
{
	return live->now->listeners[row].in_use;
}

const struct live_table live_listeners = { .columns = listener_columns,
	.n_columns = ARRAY_LEN(listener_columns),
	.count = count_listeners,
	.shows = shows_listener,
	.first = 3,
	.none = "no listener" };

#define WORKER(source, row) (&((const struct live *)(source))->now->workers[row])
#define WORKER_RATES(source, row) (&((const struct live *)(source))->rates.workers[row])

/* A loop that takes longer lets clients wait. */
static const uint64_t slow_turn_ns = 100 * NS_PER_MS, stuck_turn_ns = NS_PER_S;

static void worker_slot(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, WORKER(source, row)->slot);
	out->style = STYLE_STRONG;
}

static void worker_pid(const void *source, size_t row, struct table_cell *out)
{
	out->number = WORKER(source, row)->pid;
	snprintf(out->text, sizeof out->text, "%" PRId32, WORKER(source, row)->pid);
}

static void worker_generation(const void *source, size_t row, struct table_cell *out)
{
	out->number = WORKER(source, row)->generation;
	snprintf(out->text, sizeof out->text, "%" PRIu32, WORKER(source, row)->generation);
}

static void worker_state(const void *source, size_t row, struct table_cell *out)
{
	enum seat_state state = WORKER(source, row)->state;
	fill_word(out, seat_state_name(state));
	out->number = (double)state;
	out->style = state == SEAT_RUNNING ? STYLE_GOOD : STYLE_WARN;
}

static void worker_cpu(const void *source, size_t row, struct table_cell *out)
{
	int32_t cpu = WORKER(source, row)->cpu;
	out->number = cpu;
	if (cpu < 0)
		fill_word(out, "any");
	else
		snprintf(out->text, sizeof out->text, "%" PRId32, cpu);
}

static void worker_active(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, WORKER(source, row)->connections);
}

static void worker_accept_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_rate(out, WORKER_RATES(source, row)->is_known, WORKER_RATES(source, row)->accepts);
}

static void worker_lag(const void *source, size_t row, struct table_cell *out)
{
	uint64_t lag_ns = WORKER(source, row)->loop_lag_ns;
	fill_duration(out, true, lag_ns);
	if (lag_ns >= slow_turn_ns)
		out->style = lag_ns >= stuck_turn_ns ? STYLE_BAD : STYLE_WARN;
}

static void worker_turn_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_rate(out, WORKER_RATES(source, row)->is_known, WORKER_RATES(source, row)->turns);
}

static void worker_pause_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, WORKER_RATES(source, row)->is_known, WORKER_RATES(source, row)->pauses, STYLE_BAD);
}

static void worker_no_buffer_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, WORKER_RATES(source, row)->is_known, WORKER_RATES(source, row)->no_buffer, STYLE_WARN);
}

static void worker_accepts(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, WORKER(source, row)->accepts);
}

static const struct column worker_columns[] = {
	{ "WORKER", worker_slot, .width = 6 },
	{ "PID", worker_pid, .width = 7, .rank = 4 },
	{ "GEN", worker_generation, .width = 3, .rank = 3 },
	{ "STATE", worker_state, .width = 8, .to_left = true },
	{ "CPU", worker_cpu, .width = 3, .rank = 5 },
	{ "ACTIVE", worker_active, .width = 6, .rank = 1 },
	{ "ACC/S", worker_accept_rate, .width = 6, .rank = 1 },
	{ "LOOP LAG", worker_lag, .width = 8, .rank = 1 },
	{ "TURNS/S", worker_turn_rate, .width = 7, .rank = 6 },
	{ "PAUSE/S", worker_pause_rate, .width = 7, .rank = 6 },
	{ "NO BUF/S", worker_no_buffer_rate, .width = 8, .rank = 7 },
	{ "ACCEPTS", worker_accepts, .width = 7, .rank = 8 },
};

static size_t count_workers(const struct live *live)
{
	return live->now->n_workers;
}

const struct live_table live_workers = { .columns = worker_columns,
	.n_columns = ARRAY_LEN(worker_columns),
	.count = count_workers,
	.shows = NULL,
	.first = 7,
	.none = "no worker" };
