/* What the cells of the live view's tables say: numbers, rates, durations, each with what it is sorted by and how it looks.
 *
 * Process: aegis-stat. What is zero is faint, so that the eye finds what is not.
 */
#ifndef AEGIS_TOOLS_LIVE_CELLS_H
#define AEGIS_TOOLS_LIVE_CELLS_H

#include "tools/table.h"

void fill_word(struct table_cell *cell, const char *word);
void fill_count(struct table_cell *cell, uint64_t count);
/* "-" where it is not known. */
void fill_rate(struct table_cell *cell, bool is_known, double rate);
/* A rate that should be none. */
void fill_bad_rate(struct table_cell *cell, bool is_known, double rate, enum canvas_style style);
void fill_byte_rate(struct table_cell *cell, bool is_known, double rate);
void fill_duration(struct table_cell *cell, bool is_known, uint64_t ns);
/* So many of at most so many (0 = no limit): it is worth a look before it is full. */
void fill_active(struct table_cell *cell, uint64_t active, uint32_t max);

#endif
