/* What the live view holds, and what keys do. */
#include "tools/live.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "tools/live_parts.h"

static const uint64_t least_period_ns = 100 * NS_PER_MS, most_period_ns = 60 * NS_PER_S;

int live_init(struct live *live, uint64_t period_ns)
{
	*live = (struct live){ .period_ns = period_ns };
	for (unsigned i = 0; i < N_PANES; i++)
		live->looks[i].sorted = -1;
	live->line_trends = calloc(SHM_UPSTREAMS, sizeof *live->line_trends);
	return live->line_trends != NULL ? 0 : -ENOMEM;
}

static void forget(struct live *live)
{
	snapshot_free(live->now);
	rates_free(&live->rates);
	free(live->upstreams);
	live->now = NULL;
	live->upstreams = NULL;
}

void live_fini(struct live *live)
{
	forget(live);
	free(live->server_trends);
	free(live->line_trends);
}

/* Those of one upstream stand side by side. */
static struct live_upstream *sum_upstreams(const struct snapshot *snapshot)
{
	struct live_upstream *sums = calloc(snapshot->n_upstreams + 1, sizeof *sums), *sum = NULL;
	const char *name = NULL;
	for (size_t i = 0; sums != NULL && i < snapshot->n_servers; i++) {
		const struct snapshot_server *server = &snapshot->servers[i];
		if (name == NULL || strcmp(name, server->upstream) != 0) {
			const struct snapshot_upstream *upstream = snapshot_upstream(snapshot, server->upstream);
			sum = upstream != NULL ? &sums[upstream - snapshot->upstreams] : NULL;
			name = server->upstream;
		}
		if (sum == NULL || !server->in_use)
			continue;
		sum->servers++;
		sum->usable += server->standing.is_usable;
		sum->active += server->active;
		sum->hot += server->totals.hot;
	}
	return sums;
}

/* Trends go with their servers, wherever these stand now. */
static struct trend *carry_trends(const struct live *live, const struct snapshot *now, const struct rates *rates)
{
	struct trend *trends = calloc(now->n_servers + 1, sizeof *trends);
	for (size_t i = 0; trends != NULL && i < now->n_servers; i++) {
		size_t at = rates->servers[i].before;
		if (at != RATES_NO_ROW && at < live->n_server_trends)
			trends[i] = live->server_trends[at];
		trend_add(&trends[i], at != RATES_NO_ROW ? rates->servers[i].connections : TREND_GAP);
	}
	return trends;
}

static void add_to_charts(struct live *live, const struct snapshot *now, const struct rates *rates)
{
	const double values[N_CHARTS] = { [CHART_CONNECTIONS] = rates->connections,
		[CHART_THROUGHPUT] = (rates->received_bytes + rates->sent_bytes) * 8,
		[CHART_ACTIVE] = now->active,
		[CHART_ERRORS] = rates->errors,
		[CHART_REJECTED] = rates->rejected };
	for (unsigned i = 0; i < N_CHARTS; i++)
		trend_add(&live->charts[i], rates->is_known || i == CHART_ACTIVE ? values[i] : TREND_GAP);
	for (size_t i = 0; i < now->n_upstreams; i++)
		trend_add(&live->line_trends[now->upstreams[i].row % SHM_UPSTREAMS], now->upstreams[i].waiting);
}

int live_feed(struct live *live, struct snapshot *snapshot, uint64_t now_ns, uint64_t unix_s)
{
	struct rates rates;
	if (rates_make(&rates, live->now, snapshot, now_ns - live->looked_ns) < 0) {
		snapshot_free(snapshot);
		return -ENOMEM;
	}
	struct live_upstream *upstreams = sum_upstreams(snapshot);
	struct trend *trends = carry_trends(live, snapshot, &rates);
	if (upstreams == NULL || trends == NULL) {
		free(upstreams);
		free(trends);
		rates_free(&rates);
		snapshot_free(snapshot);
		return -ENOMEM;
	}
	events_compare(&live->events, live->now, snapshot, &rates, unix_s);
	add_to_charts(live, snapshot, &rates);
	forget(live);
	free(live->server_trends);
	live->now = snapshot;
	live->rates = rates;
	live->upstreams = upstreams;
	live->server_trends = trends;
	live->n_server_trends = snapshot->n_servers;
	live->looked_ns = now_ns;
	live->unix_s = unix_s;
	live->why[0] = '\0';
	return 0;
}

void live_lost(struct live *live, const char *why, uint64_t unix_s)
{
	events_lost(&live->events, live->now != NULL ? live->now->master_pid : 0, why, unix_s);
	text_copy(live->why, sizeof live->why, why);
	for (unsigned i = 0; i < N_CHARTS; i++)
		trend_add(&live->charts[i], TREND_GAP);
	forget(live);
	live->n_server_trends = 0;
	live->unix_s = unix_s;
}

static bool contains(const char *text, const char *wanted)
{
	return strcasestr(text, wanted) != NULL;
}

/* A row passes where a cell of words has the filter in it. */
static bool passes(const struct live *live, const struct live_table *table, size_t row)
{
	if (table->shows != NULL && !table->shows(live, row))
		return false;
	if (live->filter[0] == '\0')
		return true;
	for (unsigned i = 0; i < table->n_columns; i++) {
		struct table_cell cell = { 0 };
		if (!table->columns[i].to_left)
			continue;
		table->columns[i].cell(live, row, &cell);
		if (contains(cell.text, live->filter))
			return true;
	}
	return false;
}

int live_rows(const struct live *live, enum live_pane pane, struct table *out)
{
	const struct live_table *table = live_table(pane);
	size_t count = table->count(live);
	size_t *rows = calloc(count + 1, sizeof *rows);
	if (rows == NULL)
		return -ENOMEM;
	*out = (struct table){ .columns = table->columns, .n_columns = table->n_columns, .source = live, .rows = rows };
	for (size_t row = 0; row < count; row++)
		if (passes(live, table, row))
			rows[out->n_rows++] = row;
	table_sort(out, &live->looks[pane]);
	return 0;
}

/* --- keys -------------------------------------------------------------------------------------------------------------------- */

static void scroll(size_t *first, int key, unsigned page)
{
	size_t step = key == LIVE_KEY_PAGE_UP || key == LIVE_KEY_PAGE_DOWN || key == ' ' || key == 'b' ? (page > 1 ? page - 1 : 1) : 1;
	switch (key) {
	case LIVE_KEY_UP:
	case LIVE_KEY_PAGE_UP:
	case 'k':
	case 'b':
		*first -= *first < step ? *first : step;
		break;
	case LIVE_KEY_DOWN:
	case LIVE_KEY_PAGE_DOWN:
	case 'j':
	case ' ':
		*first += step;
		break;
	case LIVE_KEY_HOME:
	case 'g':
		*first = 0;
		break;
	case LIVE_KEY_END:
	case 'G':
		*first = SIZE_MAX / 2; /* drawing puts it right */
		break;
	default:
		break;
	}
}

static void type(struct live *live, int key)
{
	size_t length = strlen(live->filter);
	switch (key) {
	case LIVE_KEY_ENTER:
		live->is_typing = false;
		return;
	case LIVE_KEY_ESCAPE:
		live->is_typing = false;
		live->filter[0] = '\0';
		return;
	case LIVE_KEY_BACKSPACE:
		/* A whole character. */
		while (length > 0 && ((unsigned char)live->filter[--length] & 0xc0) == 0x80)
			continue;
		live->filter[length] = '\0';
		return;
	case 'U' - '@':
		live->filter[0] = '\0';
		return;
	default:
		break;
	}
	if (key < ' ' || key == 0x7f || key > 0xff || length + 1 >= sizeof live->filter)
		return;
	live->filter[length] = (char)key;
	live->filter[length + 1] = '\0';
}

static void show_pane(struct live *live, unsigned pane)
{
	live->pane = (enum live_pane)(pane % N_PANES);
	live->in_help = false;
}

/* Left of the first column is the order as it comes. */
static void choose_order(struct live *live, int step)
{
	const struct live_table *table = live_table(live->pane);
	if (table == NULL)
		return;
	struct table_look *look = &live->looks[live->pane];
	int n = (int)table->n_columns + 1;
	look->sorted = (look->sorted + 1 + step + n) % n - 1;
	look->backwards = false;
	look->first = 0;
}

static void shift_columns(struct live *live, int step)
{
	const struct live_table *table = live_table(live->pane);
	struct table_look *look = &live->looks[live->pane];
	if (table == NULL)
		return;
	unsigned most = 0;
	for (unsigned i = 0; i < table->n_columns; i++)
		most += table->columns[i].rank > 0;
	if (step > 0 && look->shift + 1 < most)
		look->shift++;
	else if (step < 0 && look->shift > 0)
		look->shift--;
}

static void change_period(struct live *live, bool longer)
{
	uint64_t period_ns = longer ? live->period_ns * 2 : live->period_ns / 2;
	live->period_ns = period_ns < least_period_ns ? least_period_ns : period_ns > most_period_ns ? most_period_ns : period_ns;
}

static void key_of_view(struct live *live, int key)
{
	switch (key) {
	case '?':
	case 'h':
		live->in_help = !live->in_help;
		break;
	case '/':
		live->is_typing = true;
		break;
	case '<':
	case '>':
	case 's':
		choose_order(live, key == '<' ? -1 : 1);
		break;
	case 'r':
		live->looks[live->pane].backwards = !live->looks[live->pane].backwards;
		break;
	case LIVE_KEY_LEFT:
	case LIVE_KEY_RIGHT:
		shift_columns(live, key == LIVE_KEY_RIGHT ? 1 : -1);
		break;
	case 'p':
		live->is_paused = !live->is_paused;
		break;
	case '+':
	case '-':
		change_period(live, key == '+');
		break;
	case LIVE_KEY_ESCAPE:
		if (!live->in_help)
			live->filter[0] = '\0';
		live->in_help = false;
		break;
	case '\t':
		show_pane(live, live->pane + 1U);
		break;
	case LIVE_KEY_BACK_TAB:
		show_pane(live, live->pane + N_PANES - 1U);
		break;
	default:
		scroll(live->in_help ? &live->help_first : &live->looks[live->pane].first, key, live->page);
		break;
	}
}

bool live_key(struct live *live, int key)
{
	if (live->is_typing)
		type(live, key);
	else if (key == 'q' || key == 'Q')
		return false;
	else if (key >= '1' && key < '1' + N_PANES)
		show_pane(live, (unsigned)(key - '1'));
	else
		key_of_view(live, key);
	return true;
}
