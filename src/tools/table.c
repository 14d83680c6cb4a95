#include "tools/table.h"

#include <string.h>

enum { GAP = 2, LEAST_WORDS = 12 };

/* A row with what it is sorted by. */
struct sortable {
	size_t row, at;
	double number;
	char *text;
	bool backwards;
};

static int compare(const void *a, const void *b)
{
	const struct sortable *first = a, *second = b;
	int order = first->text != NULL && second->text != NULL ? strcmp(first->text, second->text)
	                                                        : (first->number > second->number) - (first->number < second->number);
	if (first->backwards)
		order = -order;
	return order != 0 ? order : (first->at > second->at) - (first->at < second->at);
}

/* Without memory the order stays as it is: better than nothing to see. */
void table_sort(struct table *table, const struct table_look *look)
{
	if (look->sorted < 0 || (unsigned)look->sorted >= table->n_columns || table->n_rows < 2)
		return;
	const struct column *column = &table->columns[look->sorted];
	struct sortable *list = calloc(table->n_rows, sizeof *list);
	if (list == NULL)
		return;
	for (size_t i = 0; i < table->n_rows; i++) {
		struct table_cell cell = { 0 };
		column->cell(table->source, table->rows[i], &cell);
		/* Numbers begin with the largest, words with the first of the alphabet. */
		list[i] = (struct sortable){ .row = table->rows[i],
			.at = i,
			.number = cell.number,
			.backwards = column->by_text ? look->backwards : !look->backwards };
		if (column->by_text)
			list[i].text = strdup(cell.text);
	}
	qsort(list, table->n_rows, sizeof *list, compare);
	for (size_t i = 0; i < table->n_rows; i++) {
		table->rows[i] = list[i].row;
		free(list[i].text);
	}
	free(list);
}

static unsigned widest(const struct table *table, const struct column *column)
{
	unsigned width = 0;
	for (size_t i = 0; i < table->n_rows && width < column->most; i++) {
		struct table_cell cell = { 0 };
		column->cell(table->source, table->rows[i], &cell);
		unsigned wide = canvas_width(cell.text);
		if (wide > width)
			width = wide;
	}
	return width < column->most ? width : column->most;
}

/* The column to leave out next: of the highest rank the last one; n_columns = there is none. */
static unsigned find_worst(const struct table *table, const unsigned *widths)
{
	unsigned worst = table->n_columns;
	for (unsigned i = 0; i < table->n_columns; i++)
		if (widths[i] != 0 && table->columns[i].rank > 0 &&
		        (worst == table->n_columns || table->columns[i].rank >= table->columns[worst].rank))
			worst = i;
	return worst;
}

/* Words tell something when they are cut, too. */
static bool cut(const struct column *column, unsigned *width, unsigned total, unsigned room)
{
	unsigned others = total - *width;
	if (!column->to_left || column->width != 0 || others + LEAST_WORDS > room + GAP)
		return false;
	*width = room + GAP - others;
	return true;
}

/* The widths of the columns; 0 = left out. */
static void measure(const struct table *table, const struct table_look *look, unsigned room, unsigned widths[TABLE_MAX_COLUMNS])
{
	unsigned total = 0, shift = look->shift;
	for (unsigned i = 0; i < table->n_columns; i++) {
		const struct column *column = &table->columns[i];
		unsigned least = canvas_width(column->title);
		if (column->is_wanted != NULL && !column->is_wanted(table->source))
			continue;
		if (column->rank > 0 && shift > 0) {
			shift--;
			continue;
		}
		widths[i] = column->width != 0 ? column->width : widest(table, column);
		if (widths[i] < least)
			widths[i] = least;
		total += widths[i] + GAP;
	}
	while (total > room + GAP) {
		unsigned worst = find_worst(table, widths);
		if (worst == table->n_columns || cut(&table->columns[worst], &widths[worst], total, room))
			break;
		total -= widths[worst] + GAP;
		widths[worst] = 0;
	}
}

static void draw_titles(
        const struct table *table, const struct table_look *look, struct canvas *canvas, unsigned row, const unsigned *widths)
{
	unsigned at = 0;
	for (unsigned column = 0; column < canvas->columns; column++)
		canvas_put_character(canvas, row, column, STYLE_HEAD, ' ');
	for (unsigned i = 0; i < table->n_columns; i++) {
		const struct column *column = &table->columns[i];
		enum canvas_style style = look->sorted == (int)i ? STYLE_SORTED : STYLE_HEAD;
		if (widths[i] == 0)
			continue;
		if (column->to_left)
			canvas_put(canvas, row, at, widths[i], style, column->title);
		else
			canvas_put_right(canvas, row, at, widths[i], style, column->title);
		at += widths[i] + GAP;
	}
}

static void draw_row(const struct table *table, size_t which, struct canvas *canvas, unsigned row, const unsigned *widths)
{
	unsigned at = 0;
	for (unsigned i = 0; i < table->n_columns; i++) {
		struct table_cell cell = { 0 };
		if (widths[i] == 0)
			continue;
		table->columns[i].cell(table->source, which, &cell);
		if (cell.trend != NULL)
			trend_draw(cell.trend, canvas, row, at, widths[i], 1);
		else if (table->columns[i].to_left)
			canvas_put(canvas, row, at, widths[i], cell.style, cell.text);
		else
			canvas_put_right(canvas, row, at, widths[i], cell.style, cell.text);
		at += widths[i] + GAP;
	}
}

void table_draw(const struct table *table, struct table_look *look, struct canvas *canvas, unsigned row, unsigned lines)
{
	unsigned widths[TABLE_MAX_COLUMNS] = { 0 };
	ensure(table->n_columns <= TABLE_MAX_COLUMNS);
	if (lines == 0)
		return;
	size_t shown = lines - 1, last = table->n_rows > shown ? table->n_rows - shown : 0;
	if (look->first > last)
		look->first = last;
	measure(table, look, canvas->columns, widths);
	draw_titles(table, look, canvas, row, widths);
	for (size_t i = 0; i < shown && look->first + i < table->n_rows; i++)
		draw_row(table, table->rows[look->first + i], canvas, row + 1 + (unsigned)i, widths);
}
