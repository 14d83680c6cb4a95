#include "config/load.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "config/check.h"
#include "config/complete.h"
#include "config/config.h"
#include "config/options.h"
#include "config/parse.h"
#include "config/quick.h"
#include "config/value.h"

enum { PATH_TEXT_SIZE = 256, PROBLEM_SIZE = 768, MAX_KEYS = 64 };

/* Where in the settings the loader is: the path, innermost first. */
struct place {
	const struct place *parent; /* NULL at the top */
	const char *key;
	bool indexed; /* key[index] */
	size_t index;
};

struct loader {
	struct arena *arena;
	struct file_at *at;
	struct config_errors *errors;
	size_t taken[N_OBJECTS]; /* elements of the lists of this kind so far */
};

static void add_path(struct text *text, const struct place *place)
{
	if (place->parent == NULL)
		return;
	add_path(text, place->parent);
	text_add(text, "%s%.64s", text->length > 0 ? "." : "", place->key);
	if (place->indexed)
		text_add(text, "[%zu]", place->index);
}

static void complain(struct loader *loader, const struct node *node, const struct place *place, const char *problem)
{
	char bytes[PATH_TEXT_SIZE];
	struct text path = text_of(bytes, sizeof bytes);

	add_path(&path, place);
	config_errors_add(loader->errors, node->file, node->line, bytes, "%s", problem);
}

static bool is_known(enum object object, const char *key)
{
	return option_find(object, key) != NULL || object_find(object, key) != N_OBJECTS;
}

static const char *nearest_key(enum object object, const char *key)
{
	const char *keys[MAX_KEYS];
	return text_nearest(key, keys, option_keys(object, keys, MAX_KEYS));
}

static void complain_unknown(struct loader *loader, enum object object, const struct node *node, const struct place *parent)
{
	const struct place place = { .parent = parent, .key = node->name };
	const char *keys[MAX_KEYS], *nearest = nearest_key(object, node->name);
	size_t count = option_keys(object, keys, MAX_KEYS);
	char bytes[PROBLEM_SIZE];
	struct text problem = text_of(bytes, sizeof bytes);

	text_add(&problem, "unknown key \"%.64s\"; ", node->name);
	if (nearest != NULL)
		text_add(&problem, "did you mean \"%s\"?", nearest);
	else
		text_add(&problem, "known here:");
	for (size_t i = 0; nearest == NULL && i < count; i++)
		text_add(&problem, "%s %s", i > 0 ? "," : "", keys[i]);
	complain(loader, node, &place, bytes);
}

static void find_unknown(struct loader *loader, enum object object, const struct node *node, const struct place *place)
{
	for (size_t i = 0; i < node->n_children; i++) {
		if (!is_known(object, node->children[i]->name))
			complain_unknown(loader, object, node->children[i], place);
	}
}

/* Was a misspelt key meant to be this one? Then that was told, and is enough. */
static bool is_misspelt(const struct option *option, const struct node *group)
{
	for (size_t i = 0; i < group->n_children; i++) {
		const char *key = group->children[i]->name;
		const char *nearest = is_known(option->object, key) ? NULL : nearest_key(option->object, key);
		if (nearest != NULL && strcmp(nearest, option->key) == 0)
			return true;
	}
	return false;
}

static bool is_missing(const struct option *option, const struct node *group)
{
	return option->fallback == NULL && option->derived_default == NULL && (group != NULL || option->without_group == NULL);
}

/* A list of texts. */
static void load_elements(
        struct loader *loader, const struct option *option, unsigned char *base, const struct node *node, const struct place *parent)
{
	struct place place = { .parent = parent, .key = option->key };
	size_t size = value_element_size(option);
	char bytes[PROBLEM_SIZE];
	struct text problem = text_of(bytes, sizeof bytes);

	bool good = value_is_good_list(option, node, &problem);

	if (!good) {
		complain(loader, node, &place, bytes);
		return;
	}
	unsigned char *elements = arena_take(loader->arena, node->n_children * size);
	place.indexed = true;
	for (place.index = 0; place.index < node->n_children; place.index++) {
		problem = text_of(bytes, sizeof bytes);
		if (value_set_element(option, node->children[place.index], elements + place.index * size, &problem))
			continue;
		complain(loader, node->children[place.index], &place, bytes);
		good = false;
	}
	if (!good)
		return;
	memcpy(base + option->offset, &elements, sizeof elements);
	memcpy(base + option->count_offset, &node->n_children, sizeof node->n_children);
}

static void load_option(
        struct loader *loader, const struct option *option, void *base, const struct node *group, const struct place *parent)
{
	const struct place place = { .parent = parent, .key = option->key };
	const struct node *node = node_find(group, option->key);
	char bytes[PROBLEM_SIZE];
	struct text problem = text_of(bytes, sizeof bytes);

	value_set_default(option, group != NULL, base);
	if (node != NULL && value_is_list(option)) {
		load_elements(loader, option, base, node, parent);
	} else if (node != NULL) {
		if (!value_set(option, node, base, &problem))
			complain(loader, node, &place, bytes);
	} else if (is_missing(option, group) && !is_misspelt(option, group)) {
		text_add(&problem, "is missing; write ");
		value_add_wanted(option, &problem);
		complain(loader, group, &place, bytes);
	}
}

static void complain_useless(struct loader *loader, const struct node *node, const struct place *parent, const char *use)
{
	const struct place place = { .parent = parent, .key = node->name };
	char bytes[PROBLEM_SIZE];
	struct text problem = text_of(bytes, sizeof bytes);

	text_add(&problem, "is only for %s; write that, or leave %s out", use, node->name);
	complain(loader, node, &place, bytes);
}

/* Settings and groups that were written, and have no effect beside the others. Where one of these is wrong that was told, and is enough. */
static void find_useless(struct loader *loader, enum object object, const void *base, const struct node *node, const struct place *parent)
{
	char bytes[PROBLEM_SIZE];

	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option *option = &option_rows[i];
		const struct node *child = option->object == object ? node_find(node, option->key) : NULL;
		if (child == NULL || option_is_of_use(option, base))
			continue;
		struct text use = text_of(bytes, sizeof bytes);
		option_add_use(option, &use);
		complain_useless(loader, child, parent, bytes);
	}
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS; child++) {
		const struct node *group = object_rows[child].parent == object ? node_find(node, object_rows[child].key) : NULL;
		if (group == NULL || object_is_of_use(child, base))
			continue;
		struct text use = text_of(bytes, sizeof bytes);
		object_add_use(child, &use);
		complain_useless(loader, group, parent, bytes);
	}
}

static void load_object(struct loader *loader, enum object object, void *base, const struct node *node, const struct place *place);

/* A group inside of another, in the same struct. */
static void load_group(struct loader *loader, enum object object, void *base, const struct node *parent_node, const struct place *parent)
{
	const struct place place = { .parent = parent, .key = object_rows[object].key };
	const struct node *node = node_find(parent_node, place.key);

	if (node != NULL && node->type != NODE_GROUP) {
		char problem[PROBLEM_SIZE];
		snprintf(problem, sizeof problem, "is not a group; write %s = { ... };", place.key);
		complain(loader, node, &place, problem);
		node = NULL;
	}
	load_object(loader, object, base, node, &place);
}

static bool list_is_good(
        struct loader *loader, enum object object, const struct node *node, const struct node *parent, const struct place *place)
{
	const struct object_row *row = &object_rows[object];
	char problem[PROBLEM_SIZE];

	if (node != NULL && node->type == NODE_LIST && (node->n_children > 0 || !row->required)) {
		if (node->n_children <= row->max - loader->taken[object])
			return true;
		snprintf(problem, sizeof problem, "there are more than %zu of these together", row->max);
	} else if (node != NULL && node->type != NODE_LIST) {
		snprintf(problem, sizeof problem, "is not a list; write %s = ( { ... }, { ... } );", row->key);
	} else {
		snprintf(problem, sizeof problem, "there is none; write %s = ( { address = \"HOST:PORT\"; } );", row->key);
		if (object == OBJECT_UPSTREAM)
			snprintf(problem, sizeof problem, "there is none; write %s = ( { name = \"NAME\"; servers = ( ... ); } );",
			        row->key);
	}
	complain(loader, node != NULL ? node : parent, place, problem);
	return false;
}

static void load_list(
        struct loader *loader, enum object object, unsigned char *base, const struct node *parent_node, const struct place *parent)
{
	const struct object_row *row = &object_rows[object];
	struct place place = { .parent = parent, .key = row->key };
	const struct node *node = node_find(parent_node, row->key);

	if (node == NULL && !row->required)
		return;
	if (!list_is_good(loader, object, node, parent_node, &place))
		return;
	unsigned char *elements = arena_take(loader->arena, node->n_children * row->element_size);
	place.indexed = true;
	for (size_t i = 0; i < node->n_children; i++) {
		place.index = i;
		if (node->children[i]->type == NODE_GROUP)
			load_object(loader, object, elements + i * row->element_size, node->children[i], &place);
		else
			complain(loader, node->children[i], &place, "is not a group; the elements of this list are groups { ... }");
	}
	loader->taken[object] += node->n_children;
	memcpy(base + row->array_offset, &elements, sizeof elements);
	memcpy(base + row->count_offset, &node->n_children, sizeof node->n_children);
}

/* node may be NULL where the object is a group that is not there: all of it is default then. */
static void load_object(struct loader *loader, enum object object, void *base, const struct node *node, const struct place *place)
{
	size_t errors = loader->errors->count;

	if (node != NULL)
		find_unknown(loader, object, node, place);
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object)
			load_option(loader, &option_rows[i], base, node, place);
	if (loader->errors->count == errors && object_is_on(object, base) && (object_rows[object].list || object_is_of_use(object, base)))
		find_useless(loader, object, base, node, place);
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS; child++) {
		if (object_rows[child].parent != object)
			continue;
		if (object_rows[child].list)
			load_list(loader, child, base, node, place);
		else
			load_group(loader, child, base, node, place);
	}
}

/* --- what the settings come from ------------------------------------------------------------------------------------------- */

/* Read one text or file into root. */
static bool add_source(struct loader *loader, struct node *root, const char *file, const char *text)
{
	struct source source = { .arena = loader->arena, .at = loader->at, .errors = loader->errors };
	bool ok = text != NULL ? source_read_text(&source, "-e", text) : source_read_file(&source, file);

	ok = ok && parse_source(&source, root);
	source_fini(&source);
	return ok;
}

/* "-r DIR", made absolute: what runs later may stand elsewhere. */
static void add_runtime_dir(struct loader *loader, struct node *root, const char *directory)
{
	char cwd[PATH_MAX] = "", path[2 * PATH_MAX];
	struct node over = { .type = NODE_GROUP, .file = "-r" };
	struct node *node = node_add(loader->arena, &over, "runtime_dir");

	if (directory[0] == '/' || directory[0] == '\0' || getcwd(cwd, sizeof cwd) == NULL)
		snprintf(path, sizeof path, "%s", directory);
	else
		snprintf(path, sizeof path, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, directory);
	node->type = NODE_TEXT;
	node->text = arena_copy(loader->arena, path, strlen(path));
	node_merge(loader->arena, root, &over);
}

static bool gather(struct loader *loader, const struct config_source *source, struct node *root)
{
	bool ok = true;

	if (source->quick_listen != NULL)
		quick_settings(loader->arena, source, root);
	else if (source->file != NULL)
		ok = add_source(loader, root, source->file, NULL);
	for (size_t i = 0; i < source->n_overrides; i++)
		ok &= add_source(loader, root, NULL, source->overrides[i]);
	if (source->runtime_dir != NULL)
		add_runtime_dir(loader, root, source->runtime_dir);
	return ok;
}

int config_load(const struct config_source *source, struct config **out, struct config_errors *errors)
{
	struct arena arena = { .chunks = NULL };
	struct loader loader = { .arena = &arena, .at = source->at, .errors = errors };
	const struct place top = { .parent = NULL };
	size_t before = errors->count;
	struct node *root = arena_take(&arena, sizeof *root);
	struct config *config = arena_take(&arena, sizeof *config);
	struct config_origin *origin = arena_take(&arena, sizeof *origin);

	root->type = NODE_GROUP;
	root->file = source->quick_listen == NULL ? source->file : NULL;
	if (root->file != NULL)
		root->file = arena_copy(&arena, root->file, strlen(root->file));
	if (gather(&loader, source, root)) {
		load_object(&loader, OBJECT_TOP, config, root, &top);
		complete_config(config, root, &arena);
		check_config(config, root, errors);
	}
	if (errors->count != before) {
		arena_free(&arena);
		return -EINVAL;
	}
	origin->root = root;
	origin->arena = arena;
	config->arena = origin;
	*out = config;
	return 0;
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	struct arena arena = ((struct config_origin *)config->arena)->arena; /* lies in itself */
	arena_free(&arena);
}
