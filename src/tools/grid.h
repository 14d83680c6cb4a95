/* A table of text under construction: cells are added row by row, columns become as wide as they must.
 *
 * Owner: the caller, from grid_init() to grid_print() or grid_drop(), which give all back.
 */
#ifndef AEGIS_TOOLS_GRID_H
#define AEGIS_TOOLS_GRID_H

#include <stdbool.h>
#include <stdio.h>

#include "base/attr.h"

enum { GRID_MAX_COLUMNS = 16 };

struct grid {
	const char *columns; /* a letter for each: 'l' to the left, 'r' to the right */
	char **cells;
	size_t n, room;
	bool failed; /* out of memory: nothing will be printed */
};

void grid_init(struct grid *grid, const char *columns);
/* The next cell, left to right and down. */
void grid_add(struct grid *grid, const char *format, ...) printf_like(2, 3);
/* Write the rows, each after indent spaces, then free the cells. */
void grid_print(struct grid *grid, int indent, FILE *out);
/* Give it back unprinted. */
void grid_drop(struct grid *grid);

/* How many places a UTF-8 text takes, one for each character. */
size_t text_width(const char *text);

#endif
