#include "config/quick.h"

#include <string.h>

static void add_text(struct arena *arena, struct node *group, const char *name, const char *text)
{
	struct node *node = node_add(arena, group, name);
	node->type = NODE_TEXT;
	node->text = arena_copy(arena, text, strlen(text));
}

static struct node *add_group(struct arena *arena, struct node *list)
{
	struct node *node = node_add(arena, list, NULL);
	node->type = NODE_GROUP;
	return node;
}

static struct node *add_list(struct arena *arena, struct node *group, const char *name)
{
	struct node *node = node_add(arena, group, name);
	node->type = NODE_LIST;
	return node;
}

/* A port alone is all addresses. */
static const char *listen_address(struct arena *arena, const char *listen)
{
	size_t length = strlen(listen);

	if (length == 0 || strspn(listen, "0123456789") != length)
		return listen;
	char *address = arena_take(arena, length + 2);
	address[0] = ':';
	memcpy(address + 1, listen, length);
	return address;
}

void quick_settings(struct arena *arena, const struct config_source *source, struct node *root)
{
	struct node *listener = add_group(arena, add_list(arena, root, "listeners"));
	struct node *upstream = add_group(arena, add_list(arena, root, "upstreams"));
	struct node *servers = add_list(arena, upstream, "servers");

	add_text(arena, listener, "name", "quick");
	add_text(arena, listener, "address", listen_address(arena, source->quick_listen));
	add_text(arena, listener, "upstream", "quick");
	add_text(arena, upstream, "name", "quick");
	for (size_t i = 0; i < source->n_quick_upstreams; i++)
		add_text(arena, add_group(arena, servers), "address", source->quick_upstreams[i]);
}
