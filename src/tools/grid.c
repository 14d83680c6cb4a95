#include "tools/grid.h"

#include <stdarg.h>
#include <string.h>

void grid_init(struct grid *grid, const char *columns)
{
	ensure(strlen(columns) <= GRID_MAX_COLUMNS);
	*grid = (struct grid){ .columns = columns };
}

static bool make_room(struct grid *grid)
{
	if (grid->n < grid->room)
		return true;
	size_t room = grid->room == 0 ? 64 : grid->room * 2;
	char **cells = reallocarray(grid->cells, room, sizeof *cells);
	if (cells == NULL)
		return false;
	grid->cells = cells;
	grid->room = room;
	return true;
}

void grid_add(struct grid *grid, const char *format, ...)
{
	char *cell = NULL;
	va_list arguments;
	va_start(arguments, format);
	int length = vasprintf(&cell, format, arguments);
	va_end(arguments);
	if (length < 0 || !make_room(grid)) {
		if (length >= 0)
			free(cell);
		grid->failed = true;
		return;
	}
	grid->cells[grid->n++] = cell;
}

size_t text_width(const char *text)
{
	size_t width = 0;
	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const char *cell, char column, size_t width, bool last, FILE *out)
{
	int space = (int)(width - text_width(cell));
	if (column == 'r')
		fprintf(out, "%*s%s", space, "", cell);
	else
		fprintf(out, "%s%*s", cell, last ? 0 : space, "");
}

void grid_print(struct grid *grid, int indent, FILE *out)
{
	size_t n_columns = strlen(grid->columns), widths[GRID_MAX_COLUMNS] = { 0 };
	for (size_t i = 0; i < grid->n; i++) {
		size_t width = text_width(grid->cells[i]);
		if (width > widths[i % n_columns])
			widths[i % n_columns] = width;
	}
	for (size_t i = 0; i < grid->n && !grid->failed; i++) {
		size_t column = i % n_columns;
		bool last = column == n_columns - 1;
		fprintf(out, "%*s", column == 0 ? indent : 2, "");
		print_cell(grid->cells[i], grid->columns[column], widths[column], last, out);
		if (last)
			fputc('\n', out);
	}
	if (grid->failed)
		fputs("(out of memory)\n", out);
	grid_drop(grid);
}

void grid_drop(struct grid *grid)
{
	for (size_t i = 0; i < grid->n; i++)
		free(grid->cells[i]);
	free(grid->cells);
}
