/* The panes of the lines in which clients wait, of why connections ended, and of events. */
#include <inttypes.h>
#include <time.h>

#include "tools/live_cells.h"
#include "tools/live_parts.h"

#define UPSTREAM(source, row) (&((const struct live *)(source))->now->upstreams[row])
#define UPSTREAM_SUM(source, row) (&((const struct live *)(source))->upstreams[row])

static void line_name(const void *source, size_t row, struct table_cell *out)
{
	fill_word(out, UPSTREAM(source, row)->name);
	out->style = STYLE_STRONG;
}

static void line_waiting(const void *source, size_t row, struct table_cell *out)
{
	const struct snapshot_upstream *upstream = UPSTREAM(source, row);
	fill_active(out, upstream->waiting, upstream->queue_max);
	if (upstream->waiting > 0 && out->style == STYLE_PLAIN)
		out->style = STYLE_WARN;
}

static void line_trend(const void *source, size_t row, struct table_cell *out)
{
	out->number = UPSTREAM(source, row)->waiting;
	out->trend = &((const struct live *)source)->line_trends[UPSTREAM(source, row)->row % SHM_UPSTREAMS];
}

static void line_usable(const void *source, size_t row, struct table_cell *out)
{
	const struct live_upstream *sum = UPSTREAM_SUM(source, row);
	out->number = sum->usable;
	out->style = sum->usable == 0 ? STYLE_BAD : sum->usable < sum->servers ? STYLE_WARN : STYLE_GOOD;
	snprintf(out->text, sizeof out->text, "%" PRIu32 " of %" PRIu32, sum->usable, sum->servers);
}

static void line_active(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, UPSTREAM_SUM(source, row)->active);
}

static void line_hot(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, UPSTREAM_SUM(source, row)->hot);
}

static const struct column line_columns[] = {
	{ "UPSTREAM", line_name, .most = 30, .to_left = true, .by_text = true },
	{ "WAITING", line_waiting, .most = 13 },
	{ "TREND", line_trend, .width = 20, .rank = 2, .to_left = true },
	{ "USABLE", line_usable, .most = 14, .rank = 1 },
	{ "ACTIVE", line_active, .width = 7, .rank = 3 },
	{ "HOT", line_hot, .width = 6, .rank = 4 },
};

static size_t count_upstreams(const struct live *live)
{
	return live->now->n_upstreams;
}

static bool shows_upstream(const struct live *live, size_t row)
{
	return live->now->upstreams[row].in_use;
}

const struct live_table live_lines = { .columns = line_columns,
	.n_columns = ARRAY_LEN(line_columns),
	.count = count_upstreams,
	.shows = shows_upstream,
	.first = 1,
	.none = "no upstream" };

static enum canvas_style end_style(enum reason reason)
{
	enum reason_class class = reason_class(reason);
	return class == REASON_ERROR ? STYLE_BAD : class == REASON_REJECTED ? STYLE_WARN : STYLE_PLAIN;
}

static void end_name(const void *source, size_t row, struct table_cell *out)
{
	(void)source;
	fill_word(out, reason_name((enum reason)row));
	out->style = end_style((enum reason)row);
}

static void end_rate(const void *source, size_t row, struct table_cell *out)
{
	const struct live *live = source;
	fill_bad_rate(out, live->rates.is_known, live->rates.closes[row], end_style((enum reason)row));
}

static void end_count(const void *source, size_t row, struct table_cell *out)
{
	fill_count(out, ((const struct live *)source)->now->totals.closes[row]);
}

static void end_text(const void *source, size_t row, struct table_cell *out)
{
	(void)source;
	fill_word(out, reason_text((enum reason)row));
	out->style = STYLE_FAINT;
}

static const struct column end_columns[] = {
	{ "ENDED BECAUSE", end_name, .width = 18, .to_left = true, .by_text = true },
	{ "NOW/S", end_rate, .width = 6 },
	{ "COUNT", end_count, .width = 8 },
	{ "MEANING", end_text, .most = 100, .rank = 1, .to_left = true, .by_text = true },
};

static size_t count_ends(const struct live *live)
{
	(void)live;
	return N_REASONS;
}

static bool shows_end(const struct live *live, size_t row)
{
	return live->now->totals.closes[row] != 0;
}

const struct live_table live_ends = { .columns = end_columns,
	.n_columns = ARRAY_LEN(end_columns),
	.count = count_ends,
	.shows = shows_end,
	.first = 1,
	.none = "no connection has ended yet" };

static void event_time(const void *source, size_t row, struct table_cell *out)
{
	const struct event *event = events_at(&((const struct live *)source)->events, (unsigned)row);
	time_t when = (time_t)event->unix_s;
	struct tm local;
	out->number = (double)event->unix_s;
	out->style = STYLE_FAINT;
	if (localtime_r(&when, &local) == NULL || strftime(out->text, sizeof out->text, "%H:%M:%S", &local) == 0)
		fill_word(out, "-");
}

static void event_text(const void *source, size_t row, struct table_cell *out)
{
	const struct event *event = events_at(&((const struct live *)source)->events, (unsigned)row);
	fill_word(out, event->text);
	out->style = event->style;
}

static const struct column event_columns[] = {
	{ "TIME", event_time, .width = 8, .to_left = true },
	{ "WHAT HAPPENED, AS SEEN FROM HERE", event_text, .most = 159, .to_left = true, .by_text = true },
};

static size_t count_events(const struct live *live)
{
	return live->events.n;
}

const struct live_table live_events = { .columns = event_columns,
	.n_columns = ARRAY_LEN(event_columns),
	.count = count_events,
	.shows = NULL,
	.first = -1,
	.none = "nothing since this view was opened" };
