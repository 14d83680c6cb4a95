/* The help of the live view. */
#include "tools/live_parts.h"

static const char *const help[] = {
	"KEYS",
	"  q           quit",
	"  ?           this help, and back",
	"  1 to 7      the pane; Tab and Shift-Tab go through them",
	"  arrows      scroll; left and right move the columns",
	"  Space, b    a page on, a page back (also Page Down, Page Up)",
	"  g, G        to the first, to the last row (also Home, End)",
	"  < >         the column that says the order; before the first one: as it is",
	"  r           turn the order round",
	"  /           show only rows in which these letters stand; Esc: all again",
	"  p           pause, and go on",
	"  + -         look half as often, twice as often",
	"",
	"AT THE TOP",
	"  Charts of the last looks, the newest at the right; the highest column is",
	"  the largest value that is shown. Percentiles are those of the last period",
	"  alone: connect (to a server), first byte (of the server, since the",
	"  accept), duration (of connections that ended). waiting: clients in line.",
	"",
	"PANES",
	"  overview    what there is room for; servers in trouble come first",
	"  servers     STATE: see aegis-stat(1). CHECK: how long the last one took.",
	"              WEIGHT: b = backup; 50/100 = the weight now, and as set",
	"  listeners   BYTE P50, P99: the first byte of the server, last period",
	"  workers     LOOP LAG: the longest turn of the event loop lately;",
	"              PAUSE/S, NO BUF/S: should be 0",
	"  lines       clients that wait for a place at a server of the upstream",
	"  ends        why connections ended, now and since the counters began",
	"  events      what changed, by comparing one look with the one before",
};

void live_draw_help(struct live *live, struct canvas *canvas, unsigned row, unsigned lines)
{
	size_t most = ARRAY_LEN(help) > lines ? ARRAY_LEN(help) - lines : 0;
	if (live->help_first > most)
		live->help_first = most;
	for (unsigned i = 0; i < lines && live->help_first + i < ARRAY_LEN(help); i++) {
		const char *line = help[live->help_first + i];
		canvas_put(canvas, row + i, 0, canvas->columns, line[0] == ' ' ? STYLE_PLAIN : STYLE_STRONG, line);
	}
}
