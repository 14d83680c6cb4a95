/* The top of the live view: charts of the whole instance, and percentiles of the last period. */
#include <inttypes.h>

#include "base/units.h"
#include "tools/live_parts.h"

enum { LABEL = 11, VALUE = 11, LATENCY = 36, LEAST_CHART = 8 };

static const char *const chart_names[N_CHARTS] = {
#define X(id, name) [CHART_##id] = name,
	LIVE_CHARTS(X)
#undef X
};

/* Lines of each chart. */
static unsigned chart_height(const struct canvas *canvas)
{
	return canvas->rows >= 50 ? 3 : canvas->rows >= 36 ? 2 : 1;
}

/* On a low screen the charts give way to what the panes show. */
static unsigned n_charts(const struct canvas *canvas)
{
	return canvas->rows >= 16 ? N_CHARTS : canvas->rows >= 10 ? 3 : canvas->rows >= 7 ? 1 : 0;
}

static bool has_latency(const struct canvas *canvas)
{
	return canvas->columns >= LABEL + VALUE + 1 + LEAST_CHART + 2 + LATENCY;
}

unsigned live_top_height(const struct canvas *canvas)
{
	return n_charts(canvas) * chart_height(canvas);
}

static void chart_value(const struct live *live, unsigned chart, char *out, size_t size)
{
	const struct rates *rates = &live->rates;
	const double values[N_CHARTS] = {
		[CHART_CONNECTIONS] = rates->connections, [CHART_ERRORS] = rates->errors, [CHART_REJECTED] = rates->rejected
	};
	if (live->now != NULL && chart == CHART_ACTIVE)
		snprintf(out, size, "%" PRIu32, live->now->active);
	else if (live->now == NULL || !rates->is_known)
		snprintf(out, size, "-");
	else if (chart == CHART_THROUGHPUT)
		live_bits((rates->received_bytes + rates->sent_bytes) * 8, out, size);
	else
		live_number(values[chart], out, size);
}

static enum canvas_style chart_style(const struct live *live, unsigned chart)
{
	if (chart == CHART_ERRORS && live->rates.errors > 0)
		return STYLE_BAD;
	return chart == CHART_REJECTED && live->rates.rejected > 0 ? STYLE_WARN : STYLE_STRONG;
}

/* What a full column stands for. */
static void draw_most(double most, unsigned chart, struct canvas *canvas, unsigned row)
{
	char number[32], text[40];
	if (chart == CHART_THROUGHPUT)
		live_bits(most, number, sizeof number);
	else
		live_number(most, number, sizeof number);
	snprintf(text, sizeof text, "max %s", number);
	canvas_put_right(canvas, row, 0, LABEL + VALUE, STYLE_FAINT, text);
}

static void draw_chart(const struct live *live, unsigned chart, struct canvas *canvas, unsigned row, unsigned width)
{
	unsigned height = chart_height(canvas), at = LABEL + VALUE + 1;
	char value[32];
	chart_value(live, chart, value, sizeof value);
	canvas_put(canvas, row, 0, LABEL, STYLE_FAINT, chart_names[chart]);
	canvas_put_right(canvas, row, LABEL, VALUE, chart_style(live, chart), value);
	if (width <= at)
		return;
	if (height > 1)
		draw_most(trend_most(&live->charts[chart], width - at), chart, canvas, row + 1);
	trend_draw(&live->charts[chart], canvas, row, at, width - at, height);
}

static void draw_percentiles(const char *name, const struct percentiles *percentiles, struct canvas *canvas, unsigned row, unsigned column)
{
	const uint64_t values[] = { percentiles->p50_ns, percentiles->p95_ns, percentiles->p99_ns };
	char text[32];
	canvas_put(canvas, row, column, LABEL, STYLE_FAINT, name);
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		if (percentiles->count > 0)
			units_human_ns(values[i], text, sizeof text);
		else
			snprintf(text, sizeof text, "-");
		canvas_put_right(canvas, row, column + 12 + i * 8, 8, percentiles->count > 0 ? STYLE_STRONG : STYLE_FAINT, text);
	}
}

/* Who waits, in all lines together. */
static void draw_waiting(const struct live *live, struct canvas *canvas, unsigned row, unsigned column)
{
	uint64_t waiting = 0;
	char text[64];
	for (size_t i = 0; live->now != NULL && i < live->now->n_upstreams; i++)
		waiting += live->now->upstreams[i].waiting;
	canvas_put(canvas, row, column, LABEL, STYLE_FAINT, "waiting");
	snprintf(text, sizeof text, "%" PRIu64, waiting);
	canvas_put_right(canvas, row, column + 12, 8, waiting > 0 ? STYLE_WARN : STYLE_FAINT, text);
	if (live->now == NULL || live->now->max == 0)
		return;
	snprintf(text, sizeof text, "limit %" PRIu32, live->now->max);
	canvas_put_right(canvas, row, column + 20, 16, STYLE_FAINT, text);
}

static void draw_latency(const struct live *live, struct canvas *canvas, unsigned row, unsigned column)
{
	static const char *const titles[] = { "p50", "p95", "p99" };
	char text[32];
	units_human_ns((uint64_t)(live->rates.seconds * 1e9), text, sizeof text);
	canvas_put(canvas, row, column, 5, STYLE_FAINT, "last ");
	canvas_put(canvas, row, column + 5, 9, STYLE_FAINT, live->now != NULL && live->rates.is_known ? text : "-");
	for (unsigned i = 0; i < ARRAY_LEN(titles); i++)
		canvas_put_right(canvas, row, column + 12 + i * 8, 8, STYLE_FAINT, titles[i]);
	draw_percentiles("connect", &live->rates.connect, canvas, row + 1, column);
	draw_percentiles("first byte", &live->rates.first_byte, canvas, row + 2, column);
	if (n_charts(canvas) < N_CHARTS)
		return;
	draw_percentiles("duration", &live->rates.duration, canvas, row + 3, column);
	draw_waiting(live, canvas, row + 4, column);
}

void live_draw_top(const struct live *live, struct canvas *canvas, unsigned row)
{
	bool latency = has_latency(canvas);
	unsigned width = latency ? canvas->columns - LATENCY - 2 : canvas->columns;
	for (unsigned i = 0; i < n_charts(canvas); i++)
		draw_chart(live, i, canvas, row + i * chart_height(canvas), width);
	if (latency && n_charts(canvas) >= 3)
		draw_latency(live, canvas, row, canvas->columns - LATENCY);
}
