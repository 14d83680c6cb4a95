#include <string.h>

#include "base/text.h"
#include "config/load.h"
#include "config/options.h"
#include "config/value.h"

enum { LINE_SIZE = 12 * 1024, ORIGIN_SIZE = 8 * 1024, COMMENT_COLUMN = 56, ELEMENTS_COLUMN = 60, TAB = 8 };

struct dump {
	FILE *out;
	int depth;
	bool bare; /* without comments */
};

static void indent(const struct dump *dump)
{
	for (int i = 0; i < dump->depth; i++)
		fputc('\t', dump->out);
}

/* A file's name may hold anything, and must not end the comment that it stands in. */
static void add_origin(struct text *out, const struct node *node)
{
	if (node == NULL) {
		text_add(out, "default");
		return;
	}
	text_add_printable(out, node->file != NULL ? node->file : "command line");
	if (node->file != NULL && node->line > 0 && strcmp(node->file, "-e") != 0)
		text_add(out, ":%d", node->line);
}

static void dump_line(const struct dump *dump, const char *line, const struct node *origin)
{
	char bytes[ORIGIN_SIZE];
	struct text from = text_of(bytes, sizeof bytes);

	indent(dump);
	if (dump->bare) {
		fprintf(dump->out, "%s\n", line);
		return;
	}
	add_origin(&from, origin);
	fprintf(dump->out, "%-*s # %s\n", COMMENT_COLUMN - dump->depth * TAB, line, bytes);
}

/* A list of any length, over as many lines as it takes. */
static void dump_elements(struct dump *dump, const struct option *option, const unsigned char *base, const struct node *group)
{
	const size_t size = value_element_size(option);
	const unsigned char *elements;
	size_t count;
	char bytes[LINE_SIZE];
	struct text line = text_of(bytes, sizeof bytes);

	memcpy(&elements, base + option->offset, sizeof elements);
	memcpy(&count, base + option->count_offset, sizeof count);
	text_add(&line, "%s = [", option->key);
	for (size_t i = 0; i < count; i++) {
		text_add(&line, line.length > 0 ? " " : "\t");
		value_add(option, elements + i * size, &line);
		if (i + 1 < count)
			text_add(&line, ",");
		if (i + 1 == count || line.length < ELEMENTS_COLUMN)
			continue;
		indent(dump);
		fprintf(dump->out, "%s\n", bytes);
		line = text_of(bytes, sizeof bytes);
	}
	text_add(&line, " ];");
	dump_line(dump, bytes, node_find(group, option->key));
}

static void dump_option(struct dump *dump, const struct option *option, const void *base, const struct node *group)
{
	char line[LINE_SIZE];
	struct text text = text_of(line, sizeof line);

	if (value_is_absent(option, base))
		return;
	if (value_is_list(option)) {
		dump_elements(dump, option, base, group);
		return;
	}
	text_add(&text, "%s = ", option->key);
	if (dump->bare && value_is_hidden(option, base))
		value_add_quoted(&text, VALUE_HIDDEN);
	else
		value_add(option, base, &text);
	text_add(&text, ";");
	dump_line(dump, line, node_find(group, option->key));
}

static void dump_object(struct dump *dump, enum object object, const void *base, const struct node *node);

static void dump_list(
        struct dump *dump, const struct object_row *row, enum object object, const unsigned char *base, const struct node *node)
{
	const unsigned char *elements;
	size_t count;

	memcpy(&elements, base + row->array_offset, sizeof elements);
	memcpy(&count, base + row->count_offset, sizeof count);
	indent(dump);
	fprintf(dump->out, "%s = (\n", row->key);
	dump->depth++;
	for (size_t i = 0; i < count; i++) {
		indent(dump);
		fputs("{\n", dump->out);
		dump->depth++;
		dump_object(dump, object, elements + i * row->element_size, node ? node->children[i] : NULL);
		dump->depth--;
		indent(dump);
		fputs(i + 1 < count ? "},\n" : "}\n", dump->out);
	}
	dump->depth--;
	indent(dump);
	fputs(");\n", dump->out);
}

static void dump_group(struct dump *dump, const struct object_row *row, enum object object, const void *base, const struct node *node)
{
	indent(dump);
	fprintf(dump->out, "%s = {\n", row->key);
	dump->depth++;
	dump_object(dump, object, base, node);
	dump->depth--;
	indent(dump);
	fputs("};\n", dump->out);
}

static void dump_object(struct dump *dump, enum object object, const void *base, const struct node *node)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object && option_has_effect(&option_rows[i], base)) /* to load it again makes the same */
			dump_option(dump, &option_rows[i], base, node);
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS; child++) {
		const struct object_row *row = &object_rows[child];
		if (row->parent != object || !object_is_of_use(child, base) || (row->list && !object_is_on(object, base)))
			continue;
		if (row->switch_offset != 0 && !object_is_on(child, base))
			continue;
		if (row->list)
			dump_list(dump, row, child, base, node_find(node, row->key));
		else
			dump_group(dump, row, child, base, node_find(node, row->key));
	}
}

void config_dump(const struct config *config, FILE *out)
{
	const struct config_origin *origin = config->arena;
	struct dump dump = { .out = out };

	fputs("# The effective settings; behind each is where it came from. What has no effect is left out.\n", out);
	dump_object(&dump, OBJECT_TOP, config, origin->root);
}

void config_dump_bare(const struct config *config, FILE *out)
{
	struct dump dump = { .out = out, .bare = true };

	dump_object(&dump, OBJECT_TOP, config, NULL);
}
