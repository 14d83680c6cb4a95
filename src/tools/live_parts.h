/* What the files of the live view share; see live.h. */
#ifndef AEGIS_TOOLS_LIVE_PARTS_H
#define AEGIS_TOOLS_LIVE_PARTS_H

#include "tools/live.h"

/* A pane that is a table. */
struct live_table {
	const struct column *columns;
	unsigned n_columns;
	size_t (*count)(const struct live *live);
	bool (*shows)(const struct live *live, size_t row); /* NULL = all rows */
	int first;        /* the column by which rows come first where not all find room in the overview */
	const char *none; /* what to say when there is no row */
};

extern const struct live_table live_servers, live_listeners, live_workers, live_lines, live_ends, live_events;

/* NULL for one that is no table: the overview. */
const struct live_table *live_table(enum live_pane pane);
const char *live_pane_name(enum live_pane pane);

/* The rows of a pane that are in use and pass the filter, in the order of its look. 0, or -ENOMEM; free rows. */
must_check int live_rows(const struct live *live, enum live_pane pane, struct table *out);

/* The charts and percentiles at the top: how many lines they take on such a canvas. */
unsigned live_top_height(const struct canvas *canvas);
void live_draw_top(const struct live *live, struct canvas *canvas, unsigned row);

void live_draw_help(struct live *live, struct canvas *canvas, unsigned row, unsigned lines);

/* Numbers for people, short: "0", "0.5", "123", "12.3k", "4.5M". Return out. */
char *live_number(double number, char *out, size_t size);
char *live_bits(double bits_per_second, char *out, size_t size); /* "2.5 Gbps" */
char *live_bytes(double bytes, char *out, size_t size);

#endif
