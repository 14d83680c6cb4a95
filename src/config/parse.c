#include "config/parse.h"

#include <libconfig.h>
#include <string.h>

#include "config/syntax.h"

static struct node *node_from(struct source *source, struct config_setting_t *setting);

static void take_children(struct source *source, struct config_setting_t *setting, struct node *node)
{
	int count = config_setting_length(setting);

	node_make_children(source->arena, node, (size_t)count);
	for (int i = 0; i < count; i++)
		node->children[i] = node_from(source, config_setting_get_elem(setting, (unsigned)i));
}

static const char *copy(struct source *source, const char *s)
{
	return s != NULL ? arena_copy(source->arena, s, strlen(s)) : NULL;
}

/* Recurses as deep as syntax_check() allowed. */
static struct node *node_from(struct source *source, struct config_setting_t *setting)
{
	struct source_run place = source_place(source, (int)config_setting_source_line(setting));
	struct node *node = arena_take(source->arena, sizeof *node);

	node->name = copy(source, config_setting_name(setting));
	node->file = place.file;
	node->line = place.file_line;
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		node->type = NODE_NUMBER;
		node->number = config_setting_type(setting) == CONFIG_TYPE_INT ? config_setting_get_int(setting)
		                                                               : config_setting_get_int64(setting);
		break;
	case CONFIG_TYPE_FLOAT:
		node->type = NODE_FRACTION;
		node->fraction = config_setting_get_float(setting);
		break;
	case CONFIG_TYPE_BOOL:
		node->type = NODE_BOOL;
		node->on = config_setting_get_bool(setting);
		break;
	case CONFIG_TYPE_STRING:
		node->type = NODE_TEXT;
		node->text = copy(source, config_setting_get_string(setting));
		break;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		node->type = config_setting_type(setting) == CONFIG_TYPE_LIST ? NODE_LIST : NODE_ARRAY;
		take_children(source, setting, node);
		break;
	default:
		node->type = NODE_GROUP;
		take_children(source, setting, node);
		break;
	}
	return node;
}

bool parse_source(struct source *source, struct node *base)
{
	struct config_t parsed;

	if (!syntax_check(source))
		return false;
	config_init(&parsed);
	bool ok = config_read_string(&parsed, source->bytes);
	if (ok)
		node_merge(source->arena, base, node_from(source, config_root_setting(&parsed)));
	else
		source_error(source, config_error_line(&parsed), "%s", config_error_text(&parsed));
	config_destroy(&parsed);
	return ok;
}
