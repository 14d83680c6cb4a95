/* The pane of the servers. */
#include <inttypes.h>

#include "base/units.h"
#include "tools/live_cells.h"
#include "tools/live_parts.h"

#define SERVER(source, row) (&((const struct live *)(source))->now->servers[row])
#define SERVER_RATES(source, row) (&((const struct live *)(source))->rates.servers[row])
#define SERVER_KNOWN(source, row) (SERVER_RATES(source, row)->before != RATES_NO_ROW)

static void server_upstream(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, SERVER(source, row)->upstream);
}

static void server_name(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, SERVER(source, row)->name);
	out->style = STYLE_STRONG;
}

static void server_state(const void *source, size_t row, struct table_cell *out)
{
	const struct standing *standing = &SERVER(source, row)->standing;
	char text[32];
	out->number = (double)standing->state;
	out->style = standing->is_usable ? STYLE_GOOD : STYLE_BAD;
	switch (standing->state) {
	case STANDING_UNKNOWN:
		fill_word(out, "-");
		out->style = STYLE_FAINT;
		break;
	case STANDING_SLOW_START:
		snprintf(out->text, sizeof out->text, "slow %" PRIu32 "%%", standing->slow_start_percent);
		out->style = STYLE_WARN;
		break;
	case STANDING_EJECTED:
		snprintf(out->text, sizeof out->text, "out %s", units_human_ns(standing->ejected_for_ns, text, sizeof text));
		break;
	case STANDING_BREAKER_HALF_OPEN:
		fill_word(out, "half-open");
		out->style = STYLE_WARN;
		break;
	case STANDING_DRAINING:
	case STANDING_DISABLED:
		fill_word(out, standing_name(standing->state));
		out->style = STYLE_WARN;
		break;
	default:
		fill_word(out, standing_name(standing->state));
		break;
	}
}

static void server_active(const void *source, size_t row, struct table_cell *out)
{
	fill_active(out, SERVER(source, row)->active, SERVER(source, row)->max);
}

static void server_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_rate(out, SERVER_KNOWN(source, row), SERVER_RATES(source, row)->connections);
}

static void server_trend(const void *source, size_t row, struct table_cell *out)
{
	out->trend = &((const struct live *)source)->server_trends[row];
	out->number = SERVER_RATES(source, row)->connections;
}

static void server_failure_rate(const void *source, size_t row, struct table_cell *out)
{
	fill_bad_rate(out, SERVER_KNOWN(source, row), SERVER_RATES(source, row)->failures, STYLE_BAD);
}

static void server_sent(const void *source, size_t row, struct table_cell *out)
{
	fill_byte_rate(out, SERVER_KNOWN(source, row), SERVER_RATES(source, row)->sent_bytes);
}

static void server_received(const void *source, size_t row, struct table_cell *out)
{
	fill_byte_rate(out, SERVER_KNOWN(source, row), SERVER_RATES(source, row)->received_bytes);
}

static void server_hot(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, SERVER(source, row)->totals.hot);
}

static void server_weight(const void *source, size_t row, struct table_cell *out)
{
	const struct snapshot_server *server = SERVER(source, row);
	uint32_t now = server->standing.weight_now;
	out->number = now;
	if (now == server->weight)
		snprintf(out->text, sizeof out->text, "%s%" PRIu32, server->backup ? "b " : "", now);
	else
		snprintf(out->text, sizeof out->text, "%s%" PRIu32 "/%" PRIu32, server->backup ? "b " : "", now, server->weight);
}

static void server_check(const void *source, size_t row, struct table_cell *out)
{
	const struct standing *standing = &SERVER(source, row)->standing;
	fill_duration(out, standing->last.result != HEALTH_RESULT_NONE, standing->last.latency_ns);
	if (standing->last.result != HEALTH_RESULT_NONE && health_result_effect(standing->last.result) == HEALTH_FAILED)
		out->style = STYLE_BAD;
}

static void server_check_text(const void *source, size_t row, struct table_cell *out)
{
	const struct health_check *last = &SERVER(source, row)->standing.last;
	char why[HEALTH_WHY_SIZE];
	fill_word(out, last->result == HEALTH_RESULT_NONE ? "-" : health_result_text(last->result));
	if (health_check_why(last, why, sizeof why)[0])
		(void)snprintf(out->text, sizeof out->text, "%s (%s)", health_result_text(last->result), why);
	out->style = STYLE_FAINT;
}

static void server_total(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, SERVER(source, row)->totals.connections);
}

static void server_failures(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, SERVER(source, row)->totals.failures);
}

static void server_trips(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, SERVER(source, row)->standing.trips);
}

static void server_ejections(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, SERVER(source, row)->standing.ejections);
}

static void server_address(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, SERVER(source, row)->address);
	out->style = STYLE_FAINT;
}

static const struct column server_columns[] = {
	{ "UPSTREAM", server_upstream, .most = 14, .rank = 1, .to_left = true, .by_text = true },
	{ "SERVER", server_name, .most = 21, .to_left = true, .by_text = true },
	{ "STATE", server_state, .width = 12, .to_left = true },
	{ "ACTIVE", server_active, .most = 11, .rank = 1 },
	{ "CONN/S", server_rate, .width = 6, .rank = 1 },
	{ "TREND", server_trend, .width = 10, .rank = 4, .to_left = true },
	{ "FAIL/S", server_failure_rate, .width = 6, .rank = 2 },
	{ "SENT/S", server_sent, .width = 7, .rank = 5 },
	{ "RECV/S", server_received, .width = 7, .rank = 5 },
	{ "CHECK", server_check, .width = 7, .rank = 3 },
	{ "WEIGHT", server_weight, .most = 9, .rank = 6 },
	{ "HOT", server_hot, .width = 5, .rank = 7 },
	{ "TOTAL", server_total, .width = 7, .rank = 6 },
	{ "FAILED", server_failures, .width = 7, .rank = 7 },
	{ "TRIPS", server_trips, .width = 5, .rank = 8 },
	{ "EJECTED", server_ejections, .width = 7, .rank = 8 },
	{ "LAST CHECK", server_check_text, .most = 30, .rank = 9, .to_left = true },
	{ "ADDRESS", server_address, .most = 28, .rank = 10, .to_left = true, .by_text = true },
};

static size_t count_servers(const struct live *live)
{
	return live->now->n_servers;
}

static bool shows_server(const struct live *live, size_t row)
{
	return live->now->servers[row].in_use;
}

const struct live_table live_servers = { .columns = server_columns,
	.n_columns = ARRAY_LEN(server_columns),
	.count = count_servers,
	.shows = shows_server,
	.first = 2,
	.none = "no server" };
