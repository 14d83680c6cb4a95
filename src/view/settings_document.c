#include "view/settings_document.h"

#include <string.h>

#include "base/text.h"
#include "config/options.h"
#include "config/value.h"

enum { VALUE_SIZE = 1024 };

static bool is_text(enum option_type type)
{
	return type >= OPTION_TEXT && type < OPTION_CIDRS;
}

/* As it would be written, which is never longer than a line but for texts: a number or a boolean as it is, in quotes what is no such thing.
 */
static void emit_written(struct emit *emit, const char *key, const struct option *option, const void *base)
{
	char bytes[VALUE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);

	value_add(option, base, &text);
	if (bytes[0] != '"') {
		emit_key(emit, key);
		fputs(bytes, emit->out);
		return;
	}
	bytes[text.length - 1] = '\0';
	emit_string(emit, key, bytes + 1);
}

static void emit_elements(struct emit *emit, const struct option *option, const unsigned char *base)
{
	const size_t size = value_element_size(option);
	const unsigned char *elements;
	size_t count;

	memcpy(&elements, base + option->offset, sizeof elements);
	memcpy(&count, base + option->count_offset, sizeof count);
	emit_open(emit, option->key, '[');
	for (size_t i = 0; i < count; i++)
		emit_written(emit, NULL, option, elements + i * size);
	emit_close(emit, ']');
}

static void emit_option(struct emit *emit, const struct option *option, const unsigned char *base)
{
	const char *text;

	if (value_is_list(option)) {
		emit_elements(emit, option, base);
	} else if (value_is_hidden(option, base)) {
		emit_string(emit, option->key, VALUE_HIDDEN);
	} else if (is_text(option->type)) {
		memcpy(&text, base + option->offset, sizeof text);
		emit_string(emit, option->key, text != NULL ? text : "");
	} else {
		emit_written(emit, option->key, option, base);
	}
}

static void emit_object(struct emit *emit, enum object object, const unsigned char *base);

static void emit_list(struct emit *emit, const struct object_row *row, enum object object, const unsigned char *base)
{
	const unsigned char *elements;
	size_t count;

	memcpy(&elements, base + row->array_offset, sizeof elements);
	memcpy(&count, base + row->count_offset, sizeof count);
	emit_open(emit, row->key, '[');
	for (size_t i = 0; i < count; i++) {
		emit_open(emit, NULL, '{');
		emit_object(emit, object, elements + i * row->element_size);
		emit_close(emit, '}');
	}
	emit_close(emit, ']');
}

static void emit_object(struct emit *emit, enum object object, const unsigned char *base)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object && option_has_effect(&option_rows[i], base))
			emit_option(emit, &option_rows[i], base);
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS; child++) {
		const struct object_row *row = &object_rows[child];
		if (row->parent != object || !object_is_of_use(child, base))
			continue;
		if (row->list) {
			emit_list(emit, row, child, base);
			continue;
		}
		emit_open(emit, row->key, '{');
		emit_object(emit, child, base);
		emit_close(emit, '}');
	}
}

void settings_document(struct emit *emit, const char *key, const struct config *config)
{
	emit_open(emit, key, '{');
	emit_object(emit, OBJECT_TOP, (const unsigned char *)config);
	emit_close(emit, '}');
}
