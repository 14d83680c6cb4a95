/* How a number went lately: its last values, and how they look as a small chart.
 *
 * Process: aegis-stat. All zero is one without values. A value below zero is a gap: nobody knows it.
 */
#ifndef AEGIS_TOOLS_TREND_H
#define AEGIS_TOOLS_TREND_H

#include "tools/canvas.h"

enum { TREND_VALUES = 256 };

struct trend {
	float values[TREND_VALUES]; /* a ring */
	unsigned n, next;
};

#define TREND_GAP (-1.0)

void trend_add(struct trend *trend, double value);

/* The largest of the last so many; 0 where there is none. */
double trend_most(const struct trend *trend, unsigned last);

/* Draw the last values, one in each column, the newest at the right, from 0 to the largest that is shown. A height of more rows is so
 * much finer. Nothing is drawn where there is a gap. */
void trend_draw(const struct trend *trend, struct canvas *canvas, unsigned row, unsigned column, unsigned width, unsigned height);

#endif
