#include "tools/live_cells.h"

#include <inttypes.h>

#include "base/units.h"
#include "tools/live_parts.h"

void fill_word(struct table_cell *cell, const char *word)
{
	snprintf(cell->text, sizeof cell->text, "%s", word);
}

void fill_count(struct table_cell *cell, uint64_t count)
{
	cell->number = (double)count;
	cell->style = count == 0 ? STYLE_FAINT : STYLE_PLAIN;
	if (count < 1000000)
		snprintf(cell->text, sizeof cell->text, "%" PRIu64, count);
	else
		live_number((double)count, cell->text, sizeof cell->text);
}

void fill_rate(struct table_cell *cell, bool is_known, double rate)
{
	cell->number = is_known ? rate : -1;
	cell->style = is_known && rate > 0 ? STYLE_PLAIN : STYLE_FAINT;
	if (is_known)
		live_number(rate, cell->text, sizeof cell->text);
	else
		fill_word(cell, "-");
}

void fill_bad_rate(struct table_cell *cell, bool is_known, double rate, enum canvas_style style)
{
	fill_rate(cell, is_known, rate);
	if (is_known && rate > 0)
		cell->style = style;
}

void fill_byte_rate(struct table_cell *cell, bool is_known, double rate)
{
	fill_rate(cell, is_known, rate);
	if (is_known)
		live_bytes(rate, cell->text, sizeof cell->text);
}

void fill_duration(struct table_cell *cell, bool is_known, uint64_t ns)
{
	cell->number = is_known ? (double)ns : -1;
	cell->style = is_known ? STYLE_PLAIN : STYLE_FAINT;
	if (is_known)
		units_human_ns(ns, cell->text, sizeof cell->text);
	else
		fill_word(cell, "-");
}

void fill_active(struct table_cell *cell, uint64_t active, uint32_t max)
{
	fill_count(cell, active);
	if (max == 0)
		return;
	snprintf(cell->text, sizeof cell->text, "%" PRIu64 "/%" PRIu32, active, max);
	if (active >= max)
		cell->style = STYLE_BAD;
	else if (active * 10 >= (uint64_t)max * 9)
		cell->style = STYLE_WARN;
}
