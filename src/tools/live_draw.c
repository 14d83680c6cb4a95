/* How the live view is laid out. */
#include <inttypes.h>
#include <time.h>

#include "base/units.h"
#include "tools/live_parts.h"

static const struct live_table *const tables[N_PANES] = {
	[PANE_SERVERS] = &live_servers,
	[PANE_LISTENERS] = &live_listeners,
	[PANE_WORKERS] = &live_workers,
	[PANE_LINES] = &live_lines,
	[PANE_ENDS] = &live_ends,
	[PANE_EVENTS] = &live_events,
};

const struct live_table *live_table(enum live_pane pane)
{
	return tables[pane];
}

const char *live_pane_name(enum live_pane pane)
{
	static const char *const names[] = {
#define X(id, name) name,
		LIVE_PANES(X)
#undef X
	};
	return names[pane];
}

static void draw_bar(const struct live *live, struct canvas *canvas)
{
	char text[256], up[32], clock[16] = "";
	time_t when = (time_t)live->unix_s;
	struct tm local;
	if (live->now == NULL)
		snprintf(text, sizeof text, " Aegis: nothing to see");
	else
		snprintf(text, sizeof text,
		        " Aegis %s %s \xc2\xb7 generation %" PRIu32 " \xc2\xb7 up %s \xc2\xb7 pid %" PRId32 " \xc2\xb7 %s",
		        live->now->version, instance_state_name(live->now->state), live->now->generation,
		        units_human_ns(live->now->uptime_ns, up, sizeof up), live->now->master_pid, live->now->engine);
	unsigned used = canvas_put(canvas, 0, 0, canvas->columns, STYLE_BAR, text);
	canvas_dye(canvas, 0, STYLE_BAR);
	if (live->is_paused)
		snprintf(clock, sizeof clock, "paused ");
	else if (localtime_r(&when, &local) == NULL || strftime(clock, sizeof clock, "%H:%M:%S ", &local) == 0 ||
	         used + 11 > canvas->columns)
		clock[0] = '\0';
	unsigned width = canvas_width(clock);
	if (width > 0 && width < canvas->columns)
		canvas_put(canvas, 0, canvas->columns - width, width, live->is_paused ? STYLE_WARN : STYLE_BAR, clock);
}

/* The names of the panes, the one that is shown marked; only their numbers where they do not fit. */
static void draw_tabs(const struct live *live, struct canvas *canvas, unsigned row)
{
	unsigned column = 0, all = 0;
	for (unsigned i = 0; i < N_PANES; i++)
		all += canvas_width(live_pane_name(i)) + 4;
	for (unsigned i = 0; i < N_PANES; i++) {
		bool shown = live->pane == i && !live->in_help, named = shown || all <= canvas->columns;
		char text[32];
		snprintf(text, sizeof text, " %u %s%s", i + 1, named ? live_pane_name(i) : "", named ? " " : "");
		column += canvas_put(canvas, row, column, canvas->columns, shown ? STYLE_BAR : STYLE_HEAD, text);
	}
	for (; column < canvas->columns; column++)
		canvas_put_character(canvas, row, column, STYLE_HEAD, ' ');
}

static void draw_foot(const struct live *live, struct canvas *canvas, size_t first, size_t shown, size_t n)
{
	static const char keys[] = "q quits  ? help  1-7 pane  / filter  <> order  p pause";
	unsigned row = canvas->rows - 1, column = 0, end = canvas->columns;
	char text[96], period[32];
	if (n > shown)
		snprintf(text, sizeof text, "%zu-%zu of %zu", first + 1, first + shown, n);
	else
		snprintf(text, sizeof text, "every %s", units_human_ns(live->period_ns, period, sizeof period));
	if (canvas_width(text) * 3 < canvas->columns) {
		end -= canvas_width(text);
		canvas_put(canvas, row, end--, canvas->columns, STYLE_FAINT, text);
	}
	if (live->is_typing || live->filter[0] != '\0') {
		snprintf(text, sizeof text, "filter: %s%s", live->filter,
		        live->is_typing ? "_  (Enter keeps, Esc drops it)" : "  (Esc drops it)");
		column = canvas_put(canvas, row, 0, end, live->is_typing ? STYLE_STRONG : STYLE_WARN, text) + 2;
	}
	if (!live->is_typing && column < end)
		canvas_put(canvas, row, column, end - column, STYLE_FAINT, keys);
}

/* One pane over all lines. Returns how many rows are shown. */
static size_t draw_table(struct live *live, enum live_pane pane, struct canvas *canvas, unsigned row, unsigned lines, size_t *n)
{
	struct table table;
	if (live_rows(live, pane, &table) < 0)
		return 0;
	table_draw(&table, &live->looks[pane], canvas, row, lines);
	if (table.n_rows == 0 && lines > 1)
		canvas_put(canvas, row + 1, 0, canvas->columns, STYLE_FAINT,
		        live->filter[0] != '\0' ? "nothing passes the filter" : live_table(pane)->none);
	*n = table.n_rows;
	free(table.rows);
	return *n < lines - 1 ? *n : lines - 1;
}

/* The parts of the overview, from top to bottom. */
static const enum live_pane parts[] = { PANE_SERVERS, PANE_LISTENERS, PANE_WORKERS, PANE_LINES, PANE_EVENTS };

/* Give each part its titles and some lines: first one for each from top to bottom, then evenly to those that have more. */
static void share_lines(const size_t *wanted, unsigned lines, unsigned *given)
{
	bool more = true;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		given[i] = wanted[i] > 0 && lines >= 2 ? 2 : 0;
		lines -= given[i];
	}
	while (more && lines > 0) {
		more = false;
		for (size_t i = 0; i < ARRAY_LEN(parts) && lines > 0; i++) {
			if (given[i] == 0 || given[i] - 1 >= wanted[i])
				continue;
			given[i]++;
			lines--;
			more = true;
		}
	}
}

/* Lines are of interest where there is one. */
static bool has_lines(const struct live *live)
{
	for (size_t i = 0; i < live->now->n_upstreams; i++)
		if (live->now->upstreams[i].in_use && (live->now->upstreams[i].queue_max > 0 || live->now->upstreams[i].waiting > 0))
			return true;
	return false;
}

static void draw_part(const struct table *table, struct canvas *canvas, unsigned row, unsigned lines)
{
	struct table_look look = { .sorted = -1 };
	char text[48];
	table_draw(table, &look, canvas, row, lines);
	if (lines - 1 >= table->n_rows)
		return;
	snprintf(text, sizeof text, " %zu more ", table->n_rows - (lines - 1));
	canvas_put_right(canvas, row, 0, canvas->columns, STYLE_HEAD, text);
}

/* Where not all can be shown, those in trouble, or that do the most, come first. */
static void sort_part(struct table *table, enum live_pane pane, unsigned lines)
{
	const struct table_look look = { .sorted = live_table(pane)->first };
	if (lines > 0 && table->n_rows > lines - 1)
		table_sort(table, &look);
}

static void draw_overview(struct live *live, struct canvas *canvas, unsigned row, unsigned lines)
{
	struct table tables_of[ARRAY_LEN(parts)] = { 0 };
	size_t wanted[ARRAY_LEN(parts)] = { 0 };
	unsigned given[ARRAY_LEN(parts)], gaps = 0, n = 0;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if ((parts[i] == PANE_LINES && !has_lines(live)) || live_rows(live, parts[i], &tables_of[i]) < 0)
			continue;
		wanted[i] = tables_of[i].n_rows;
		n += wanted[i] > 0;
	}
	share_lines(wanted, lines, given);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		gaps += given[i];
	/* What is left over goes between them. */
	gaps = lines - gaps >= n ? 1 : 0;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (given[i] > 0) {
			sort_part(&tables_of[i], parts[i], given[i]);
			draw_part(&tables_of[i], canvas, row, given[i]);
			row += given[i] + gaps;
		}
		free(tables_of[i].rows);
	}
}

/* There is nothing to see: why, over several lines, and what happened before. */
static void draw_lost(struct live *live, struct canvas *canvas, unsigned row, unsigned lines)
{
	const char *why = live->why[0] != '\0' ? live->why : "looking ...";
	unsigned used = 0, width = canvas->columns > 2 ? canvas->columns - 2 : canvas->columns;
	size_t n;
	while (*why != '\0' && used < lines) {
		char line[256];
		size_t length = 0, blank = 0;
		while (why[length] != '\0' && length < width && length < sizeof line - 1) {
			if (why[length] == ' ')
				blank = length;
			length++;
		}
		if (why[length] != '\0' && blank > 0)
			length = blank;
		snprintf(line, sizeof line, "%.*s", (int)length, why);
		canvas_put(canvas, row + used++, 1, width, STYLE_BAD, line);
		why += length;
		while (*why == ' ')
			why++;
	}
	if (used + 1 < lines)
		canvas_put(canvas, row + used++, 1, width, STYLE_FAINT, "Looking again and again; q quits.");
	if (used + 3 < lines)
		(void)draw_table(live, PANE_EVENTS, canvas, row + used + 1, lines - used - 1, &n);
}

void live_draw(struct live *live, struct canvas *canvas)
{
	size_t n = 0, shown = 0, first = 0;
	canvas_clear(canvas);
	if (canvas->rows == 0 || canvas->columns == 0)
		return;
	unsigned top = live_top_height(canvas), row = 1 + top + 1, lines = canvas->rows > row + 1 ? canvas->rows - row - 1 : 0;
	live->page = lines > 1 ? lines - 1 : 1;
	draw_bar(live, canvas);
	live_draw_top(live, canvas, 1);
	if (canvas->rows > 2 + top)
		draw_tabs(live, canvas, 1 + top);
	if (lines > 0 && live->in_help) {
		live_draw_help(live, canvas, row, lines);
	} else if (lines > 0 && live->now == NULL) {
		draw_lost(live, canvas, row, lines);
	} else if (lines > 0 && live->pane == PANE_OVERVIEW) {
		draw_overview(live, canvas, row, lines);
	} else if (lines > 0) {
		shown = draw_table(live, live->pane, canvas, row, lines, &n);
		first = live->looks[live->pane].first;
	}
	if (canvas->rows > 1)
		draw_foot(live, canvas, first, shown, n);
}
