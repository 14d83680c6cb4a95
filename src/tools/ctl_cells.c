#include "tools/ctl_cells.h"

#include <inttypes.h>
#include <time.h>

#include "base/text.h"
#include "base/units.h"

enum { PRINTABLE_SIZE = 1024 };

const struct tree *ctl_first(const struct tree *object, const char *key)
{
	const struct tree *list = tree_get(object, key);
	return list == NULL ? NULL : list->first;
}

void ctl_add_titles(struct grid *grid, const char *const *titles, size_t n)
{
	for (size_t i = 0; i < n; i++)
		grid_add(grid, "%s", titles[i]);
}

void ctl_add_printable(struct grid *grid, const char *s)
{
	char bytes[PRINTABLE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_printable(&text, s == NULL ? "" : s);
	grid_add(grid, "%s", bytes[0] != '\0' ? bytes : "-");
}

void ctl_add_text(struct grid *grid, const struct tree *object, const char *key)
{
	ctl_add_printable(grid, tree_string(object, key));
}

void ctl_print_text(const char *s, FILE *out)
{
	char bytes[PRINTABLE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_printable(&text, s);
	fputs(bytes, out);
}

void ctl_add_u64(struct grid *grid, const struct tree *object, const char *key)
{
	grid_add(grid, "%" PRIu64, tree_u64(object, key));
}

void ctl_add_bytes(struct grid *grid, const struct tree *object, const char *key)
{
	char text[CTL_UNIT_SIZE];
	grid_add(grid, "%s", units_human_bytes(tree_u64(object, key), text, sizeof text));
}

const char *ctl_human(double value, uint64_t unit_ns, char *text)
{
	double ns = value * (double)unit_ns;
	return units_human_ns(ns > 0 && ns < 0x1p63 ? (uint64_t)ns : 0, text, CTL_UNIT_SIZE);
}

/* A time in units of unit_ns; "-" where there is none. */
void ctl_add_time(struct grid *grid, const struct tree *object, const char *key, uint64_t unit_ns)
{
	char text[CTL_UNIT_SIZE];
	const struct tree *member = tree_get(object, key);
	bool is_there = member != NULL && member->kind == TREE_NUMBER;
	grid_add(grid, "%s", is_there ? ctl_human(member->number, unit_ns, text) : "-");
}

void ctl_add_of(struct grid *grid, const struct tree *object, const char *key, const char *max_key)
{
	if (tree_u64(object, max_key) == 0)
		ctl_add_u64(grid, object, key);
	else
		grid_add(grid, "%" PRIu64 "/%" PRIu64, tree_u64(object, key), tree_u64(object, max_key));
}

void ctl_print_moment(double unix_s, FILE *out)
{
	struct tm utc;
	char text[64] = "at an unknown time";
	bool is_near = unix_s >= 0 && unix_s < 1e11; /* the year 5138: beyond it no cast is safe, nor needed */
	time_t when = is_near ? (time_t)unix_s : 0;
	if (is_near && gmtime_r(&when, &utc) != NULL)
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
	fputs(text, out);
}
