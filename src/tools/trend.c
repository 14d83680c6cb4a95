#include "tools/trend.h"

enum { LEVELS = 8, LOWEST_BLOCK = 0x2581 };

void trend_add(struct trend *trend, double value)
{
	trend->values[trend->next] = (float)value;
	trend->next = (trend->next + 1) % TREND_VALUES;
	if (trend->n < TREND_VALUES)
		trend->n++;
}

/* The value `back` before the newest one, or a gap. */
static double value_at(const struct trend *trend, unsigned back)
{
	if (back >= trend->n)
		return TREND_GAP;
	return (double)trend->values[(trend->next + TREND_VALUES - 1 - back) % TREND_VALUES];
}

double trend_most(const struct trend *trend, unsigned last)
{
	double most = 0;
	for (unsigned back = 0; back < last && back < trend->n; back++)
		if (value_at(trend, back) > most)
			most = value_at(trend, back);
	return most;
}

/* From 1 to all levels: what is not nothing is higher than nothing. */
static unsigned level(double value, double most, unsigned levels)
{
	if (value <= 0)
		return 1;
	unsigned above = (unsigned)(value / most * (levels - 1) + 0.5);
	return 1 + (above == 0 ? 1 : above);
}

static void draw_column(struct canvas *canvas, unsigned row, unsigned column, unsigned height, unsigned filled)
{
	for (unsigned i = 0; i < height && filled > 0; i++) {
		unsigned here = filled < LEVELS ? filled : LEVELS;
		canvas_put_character(canvas, row + height - 1 - i, column, STYLE_CHART, LOWEST_BLOCK + here - 1);
		filled -= here;
	}
}

void trend_draw(const struct trend *trend, struct canvas *canvas, unsigned row, unsigned column, unsigned width, unsigned height)
{
	double most = trend_most(trend, width);
	/* Not up to the top: charts stand one above the other. */
	for (unsigned back = 0; back < width && back < trend->n; back++) {
		double value = value_at(trend, back);
		if (value >= 0)
			draw_column(canvas, row, column + width - 1 - back, height, level(value, most, height * LEVELS - 1));
	}
}
