#include "config/node.h"

#include <string.h>

static struct node **slot_of(const struct node *node, const char *name)
{
	for (size_t i = 0; i < node->n_children; i++)
		if (node->children[i]->name != NULL && strcmp(node->children[i]->name, name) == 0)
			return &node->children[i];
	return NULL;
}

const struct node *node_find(const struct node *node, const char *name)
{
	if (node == NULL || node->type != NODE_GROUP)
		return NULL;
	struct node **slot = slot_of(node, name);
	return slot != NULL ? *slot : NULL;
}

/* The room behind children is the next power of two. */
void node_make_children(struct arena *arena, struct node *node, size_t count)
{
	size_t room = 1;

	while (room < count)
		room *= 2;
	node->children = arena_take(arena, room * sizeof(struct node *));
	node->n_children = count;
}

static void add_child(struct arena *arena, struct node *parent, struct node *child)
{
	size_t count = parent->n_children;

	if ((count & (count - 1)) == 0) {
		struct node **children = parent->children;
		node_make_children(arena, parent, count + 1);
		if (count > 0)
			memcpy(parent->children, children, count * sizeof(struct node *));
	}
	parent->children[count] = child;
	parent->n_children = count + 1;
}

struct node *node_add(struct arena *arena, struct node *parent, const char *name)
{
	struct node *child = arena_take(arena, sizeof *child);

	child->name = name;
	child->file = parent->file;
	child->line = parent->line;
	add_child(arena, parent, child);
	return child;
}

void node_merge(struct arena *arena, struct node *base, const struct node *over)
{
	for (size_t i = 0; i < over->n_children; i++) {
		struct node *child = over->children[i];
		struct node **slot = slot_of(base, child->name);
		if (slot == NULL)
			add_child(arena, base, child);
		else if ((*slot)->type == NODE_GROUP && child->type == NODE_GROUP)
			node_merge(arena, *slot, child);
		else
			*slot = child;
	}
}
