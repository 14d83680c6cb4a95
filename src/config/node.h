/* The settings as they were written, before they get a meaning: a tree of names and values, each with its place. Made from
 * files, -e texts and the command line, merged, then turned into structs by load.c; kept for the dump. Lives in the arena. */
#ifndef AEGIS_CONFIG_NODE_H
#define AEGIS_CONFIG_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/arena.h"

enum node_type { NODE_GROUP, NODE_LIST, NODE_ARRAY, NODE_TEXT, NODE_BOOL, NODE_NUMBER, NODE_FRACTION };

struct node {
	enum node_type type;
	const char *name; /* NULL for an element of a list */
	const char *file; /* NULL: from the command line */
	int line;
	union {
		const char *text;
		bool on;
		int64_t number;
		double fraction;
	};
	/* groups, lists and arrays */
	struct node **children;
	size_t n_children;
};

/* The child of a group called name, or NULL (also where node is NULL or no group). */
const struct node *node_find(const struct node *node, const char *name);

/* Room for count children, all of them the caller's to set. */
void node_make_children(struct arena *arena, struct node *node, size_t count);

/* A child added to a group or list; its type and value are the caller's to set. */
struct node *node_add(struct arena *arena, struct node *parent, const char *name);

/* Put what over says into base: a group into a group of the same name, anything else in place of what was there. */
void node_merge(struct arena *arena, struct node *base, const struct node *over);

#endif
