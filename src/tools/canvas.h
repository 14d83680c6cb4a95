/* A screen in memory: one character and one style for each place. The live view draws on one; a painter brings it to a terminal.
 *
 * Process: aegis-stat. Owner: the caller, from canvas_resize() to canvas_free(); all zero is a canvas without a place.
 * Nothing that is put on it goes beyond its edges or its width, whatever the text holds: control bytes, broken UTF-8 and characters that
 * do not take exactly one place of a terminal become '?'. An ascii one has such characters only, near ones where there are some.
 */
#ifndef AEGIS_TOOLS_CANVAS_H
#define AEGIS_TOOLS_CANVAS_H

#include <stdbool.h>

#include "base/attr.h"

/* What a place means; how that looks is the painter's business. */
enum canvas_style {
	STYLE_PLAIN,
	STYLE_BAR,    /* the line at the top, and the pane that is shown */
	STYLE_HEAD,   /* titles of columns */
	STYLE_SORTED, /* the title of the column that says the order */
	STYLE_FAINT,  /* labels, and what is of no interest */
	STYLE_STRONG,
	STYLE_GOOD,
	STYLE_WARN,
	STYLE_BAD,
	STYLE_CHART,
	N_CANVAS_STYLES
};

enum { CANVAS_MAX_ROWS = 1000, CANVAS_MAX_COLUMNS = 2000 };

struct canvas_cell {
	uint32_t character; /* Unicode */
	enum canvas_style style;
};

struct canvas {
	unsigned rows, columns;
	bool ascii;
	struct canvas_cell *cells; /* [row][column] */
};

/* Make it that large, at most CANVAS_MAX_*, and empty. 0 or -ENOMEM; then it is as it was. */
must_check int canvas_resize(struct canvas *canvas, unsigned rows, unsigned columns);
void canvas_free(struct canvas *canvas);
void canvas_clear(struct canvas *canvas);

const struct canvas_cell *canvas_at(const struct canvas *canvas, unsigned row, unsigned column);

/* Put a text at a place, at most so many columns of it. Returns how many it took. */
unsigned canvas_put(struct canvas *canvas, unsigned row, unsigned column, unsigned width, enum canvas_style style, const char *text);
/* The same, at the right end of the width. */
void canvas_put_right(struct canvas *canvas, unsigned row, unsigned column, unsigned width, enum canvas_style style, const char *text);
void canvas_put_character(struct canvas *canvas, unsigned row, unsigned column, enum canvas_style style, uint32_t character);
/* Give a whole row the style, whatever stands there. */
void canvas_dye(struct canvas *canvas, unsigned row, enum canvas_style style);

/* A row as UTF-8, without the blanks at its end. Returns out. */
char *canvas_row_text(const struct canvas *canvas, unsigned row, char *out, size_t size);
/* One character as UTF-8, with a NUL behind it: its length. */
size_t canvas_utf8(uint32_t character, char out[5]);

/* How many places a text takes. */
unsigned canvas_width(const char *text);

#endif
