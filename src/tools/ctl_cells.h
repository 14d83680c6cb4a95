/* Pieces of an answer as cells of a table, and as text.
 *
 * Process: aegisctl. What is not in the answer is "-", or nothing.
 */
#ifndef AEGIS_TOOLS_CTL_CELLS_H
#define AEGIS_TOOLS_CTL_CELLS_H

#include "base/clock.h"
#include "tools/ctl.h"
#include "tools/grid.h"

enum { CTL_UNIT_SIZE = 32 };

/* The first member of a list in the object, or NULL. */
const struct tree *ctl_first(const struct tree *object, const char *key);

void ctl_add_titles(struct grid *grid, const char *const *titles, size_t n);
#define CTL_TITLES(grid, ...) \
	ctl_add_titles((grid), (const char *const[]){ __VA_ARGS__ }, ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

/* What came from outside may hold anything, also what a terminal obeys: these make it harmless. */
void ctl_add_printable(struct grid *grid, const char *s);
void ctl_add_text(struct grid *grid, const struct tree *object, const char *key);
void ctl_print_text(const char *s, FILE *out);

void ctl_add_u64(struct grid *grid, const struct tree *object, const char *key);
void ctl_add_bytes(struct grid *grid, const struct tree *object, const char *key);
/* A time in units of unit_ns. */
void ctl_add_time(struct grid *grid, const struct tree *object, const char *key, uint64_t unit_ns);
/* "3/50", or "3" where there is no maximum. */
void ctl_add_of(struct grid *grid, const struct tree *object, const char *key, const char *max_key);

/* For people; text is of CTL_UNIT_SIZE. Returns it. */
const char *ctl_human(double value, uint64_t unit_ns, char *text);
/* A moment in seconds since 1970, in UTC. */
void ctl_print_moment(double unix_s, FILE *out);

#endif
