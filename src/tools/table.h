/* A table of the live view: columns that are declared once, rows that are filtered, sorted and scrolled. Only what is seen is written out.
 *
 * Process: aegis-stat. A pane declares its columns; a cell function says for one row what stands there, by what it is sorted, and how it
 * looks. Where the width does not suffice, columns of low rank are left out, and those that are left can be moved sideways.
 */
#ifndef AEGIS_TOOLS_TABLE_H
#define AEGIS_TOOLS_TABLE_H

#include "tools/canvas.h"
#include "tools/trend.h"

enum { CELL_TEXT_SIZE = 160, TABLE_MAX_COLUMNS = 20 };

struct table_cell {
	char text[CELL_TEXT_SIZE];
	double number;             /* what it is sorted by, unless by_text */
	const struct trend *trend; /* drawn instead of the text where there is one */
	enum canvas_style style;
};

/* A column. source is what the pane shows, row one of its rows. */
struct column {
	const char *title;
	void (*cell)(const void *source, size_t row, struct table_cell *out); /* *out is all zero before */
	uint8_t width; /* of all its cells; 0 = as wide as its widest, at most `most` */
	uint8_t most;
	uint8_t rank; /* 0 is never left out; the highest goes first */
	bool to_left;
	bool by_text;
	bool (*is_wanted)(const void *source); /* false: not shown at all; NULL = it always is */
};

struct table {
	const struct column *columns;
	unsigned n_columns;
	const void *source;
	size_t *rows; /* those that are shown, in their order */
	size_t n_rows;
};

/* How someone looks at a table. */
struct table_look {
	int sorted; /* the column that says the order; -1 = the order of the source */
	bool backwards;
	size_t first;   /* of the rows, the one at the top */
	unsigned shift; /* columns moved out at the left */
};

/* Order the rows. */
void table_sort(struct table *table, const struct table_look *look);

/* Draw titles and rows into so many lines from `row` on; the first line has the titles. Puts look->first right where it lies
 * beyond the end. */
void table_draw(const struct table *table, struct table_look *look, struct canvas *canvas, unsigned row, unsigned lines);

#endif
