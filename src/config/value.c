#include "config/value.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/units.h"
#include "config/value_type.h"

enum { SHOWN = 64 }; /* of a value that somebody wrote, in a message */

bool value_is_not(const struct node *node, struct text *problem)
{
	switch (node->type) {
	case NODE_GROUP:
		text_add(problem, "is a group");
		break;
	case NODE_LIST:
	case NODE_ARRAY:
		text_add(problem, "is a list");
		break;
	case NODE_TEXT:
		text_add(problem, "is \"%.*s\"", SHOWN, node->text);
		break;
	case NODE_BOOL:
		text_add(problem, "is %s", node->on ? "true" : "false");
		break;
	case NODE_NUMBER:
		text_add(problem, "is %" PRId64, node->number);
		break;
	case NODE_FRACTION:
		text_add(problem, "is %g", node->fraction);
		break;
	}
	return false;
}

/* --- bool ------------------------------------------------------------------------------------------------------------------ */

static bool bool_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	(void)option;
	if (node->type != NODE_BOOL)
		return value_is_not(node, problem);
	out->number = node->on;
	return true;
}

static void bool_store(const struct option *option, const struct value *value, unsigned char *base)
{
	bool on = value->number != 0;
	memcpy(base + option->offset, &on, sizeof on);
}

static void bool_show(const struct option *option, const unsigned char *base, struct text *out)
{
	bool on;
	memcpy(&on, base + option->offset, sizeof on);
	text_add(out, on ? "true" : "false");
}

static void bool_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "true or false");
}

/* --- numbers --------------------------------------------------------------------------------------------------------------- */

static bool in_range(const struct option *option, uint64_t number)
{
	return (number >= option->min && number <= option->max) || (number == 0 && option->zero != NULL);
}

static bool is_zero_word(const struct option *option, const struct node *node)
{
	return option->zero_word != NULL && node->type == NODE_TEXT && strcmp(node->text, option->zero_word) == 0;
}

static bool number_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	out->number = 0;
	if (is_zero_word(option, node))
		return true;
	if (node->type != NODE_NUMBER || node->number < 0 || !in_range(option, (uint64_t)node->number))
		return value_is_not(node, problem);
	out->number = (uint64_t)node->number;
	return true;
}

static void u32_store(const struct option *option, const struct value *value, unsigned char *base)
{
	uint32_t number = (uint32_t)value->number;
	memcpy(base + option->offset, &number, sizeof number);
}

static void number_show(const struct option *option, const unsigned char *base, struct text *out)
{
	uint32_t number;
	memcpy(&number, base + option->offset, sizeof number);
	if (number == 0 && option->zero_word != NULL)
		text_add(out, "\"%s\"", option->zero_word);
	else
		text_add(out, "%" PRIu32, number);
}

static void number_wanted(const struct option *option, struct text *out)
{
	uint64_t least = option->zero != NULL && option->min == 0 ? 1 : option->min;

	if (least == option->max)
		text_add(out, "%" PRIu64, option->max);
	else
		text_add(out, "a number from %" PRIu64 " to %" PRIu64, least, option->max);
	if (option->zero != NULL)
		text_add(out, ", or 0 (%s)", option->zero);
	if (option->zero_word != NULL)
		text_add(out, ", or \"%s\"", option->zero_word);
}

/* --- durations and sizes --------------------------------------------------------------------------------------------------- */

static bool unit_read(int (*parse)(const char *, uint64_t *), const struct option *option, const struct node *node, struct value *out,
        struct text *problem)
{
	uint64_t number;

	if (node->type != NODE_TEXT || parse(node->text, &number) != 0 || !in_range(option, number))
		return value_is_not(node, problem);
	out->number = number;
	return true;
}

static bool duration_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	return unit_read(units_parse_duration, option, node, out, problem);
}

static bool size_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	return unit_read(units_parse_size, option, node, out, problem);
}

static void u64_store(const struct option *option, const struct value *value, unsigned char *base)
{
	memcpy(base + option->offset, &value->number, sizeof value->number);
}

static void duration_show(const struct option *option, const unsigned char *base, struct text *out)
{
	char duration[32];
	uint64_t ns;
	memcpy(&ns, base + option->offset, sizeof ns);
	text_add(out, "\"%s\"", units_format_duration(ns, duration, sizeof duration));
}

static void size_show(const struct option *option, const unsigned char *base, struct text *out)
{
	char size[32];
	uint64_t bytes;
	memcpy(&bytes, base + option->offset, sizeof bytes);
	text_add(out, "\"%s\"", units_format_size(bytes, size, sizeof size));
}

static void duration_wanted(const struct option *option, struct text *out)
{
	char least[32], most[32];

	text_add(out, "a duration with its unit from \"%s\" to \"%s\"", units_format_duration(option->min, least, sizeof least),
	        units_format_duration(option->max, most, sizeof most));
	if (option->zero != NULL)
		text_add(out, ", or \"0s\" (%s)", option->zero);
}

static void size_wanted(const struct option *option, struct text *out)
{
	char least[32], most[32];

	text_add(out, "a size from \"%s\" to \"%s\"", units_format_size(option->min, least, sizeof least),
	        units_format_size(option->max, most, sizeof most));
	if (option->zero != NULL)
		text_add(out, ", or \"0\" (%s)", option->zero);
}

/* --- rates ----------------------------------------------------------------------------------------------------------------- */

static bool rate_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	return unit_read(units_parse_rate, option, node, out, problem);
}

static void rate_show(const struct option *option, const unsigned char *base, struct text *out)
{
	char rate[32];
	uint64_t per_s;
	memcpy(&per_s, base + option->offset, sizeof per_s);
	text_add(out, "\"%s\"", units_format_rate(per_s, rate, sizeof rate));
}

static void rate_wanted(const struct option *option, struct text *out)
{
	char least[32], most[32];

	text_add(out, "a rate from \"%s\" to \"%s\"", units_format_rate(option->min, least, sizeof least),
	        units_format_rate(option->max, most, sizeof most));
	if (option->zero != NULL)
		text_add(out, ", or \"0/s\" (%s)", option->zero);
}

/* --- enums ----------------------------------------------------------------------------------------------------------------- */

static_assert(sizeof(enum on_full) == sizeof(uint32_t) && sizeof(enum log_level) == sizeof(uint32_t), "enums are stored as uint32_t");

static bool enum_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (node->type != NODE_TEXT)
		return value_is_not(node, problem);
	for (size_t i = 0; i < option->n_words; i++) {
		if (strcmp(option->words[i], node->text) == 0) {
			out->number = i;
			return true;
		}
	}
	const char *nearest = text_nearest(node->text, option->words, option->n_words);
	value_is_not(node, problem);
	if (nearest != NULL)
		text_add(problem, "; did you mean \"%s\"?", nearest);
	return false;
}

static void enum_show(const struct option *option, const unsigned char *base, struct text *out)
{
	uint32_t word;
	memcpy(&word, base + option->offset, sizeof word);
	ensure(word < option->n_words);
	text_add(out, "\"%s\"", option->words[word]);
}

static void enum_wanted(const struct option *option, struct text *out)
{
	for (size_t i = 0; i < option->n_words; i++)
		text_add(out, "%s\"%s\"", i == 0 ? "" : i + 1 == option->n_words ? " or " : ", ", option->words[i]);
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct value_type
	type_bool = { bool_read, bool_store, bool_show, bool_wanted, NODE_BOOL, 0, NULL },
	type_number = { number_read, u32_store, number_show, number_wanted, NODE_NUMBER, 0, NULL },
	type_duration = { duration_read, u64_store, duration_show, duration_wanted, NODE_TEXT, 0, NULL },
	type_size = { size_read, u64_store, size_show, size_wanted, NODE_TEXT, 0, NULL },
	type_rate = { rate_read, u64_store, rate_show, rate_wanted, NODE_TEXT, 0, NULL },
	type_enum = { enum_read, u32_store, enum_show, enum_wanted, NODE_TEXT, 0, NULL };
/* clang-format on */

static const struct value_type *const types[N_OPTION_TYPES] = {
	[OPTION_BOOL] = &type_bool,
	[OPTION_NUMBER] = &type_number,
	[OPTION_DURATION] = &type_duration,
	[OPTION_SIZE] = &type_size,
	[OPTION_RATE] = &type_rate,
	[OPTION_ENUM] = &type_enum,
	[OPTION_TEXT] = &value_type_text,
	[OPTION_NAME] = &value_type_name,
	[OPTION_PATH] = &value_type_path,
	[OPTION_FILE] = &value_type_file,
	[OPTION_TARGET] = &value_type_target,
	[OPTION_BYTES] = &value_type_bytes,
	[OPTION_HEX] = &value_type_hex,
	[OPTION_URL_PATH] = &value_type_url_path,
	[OPTION_HOST] = &value_type_host,
	[OPTION_LISTEN] = &value_type_listen,
	[OPTION_SERVER] = &value_type_server,
	[OPTION_ADMIN] = &value_type_admin,
	[OPTION_CIDRS] = &value_type_cidrs,
	[OPTION_RESOLVERS] = &value_type_resolvers,
};

/* Read and store. False, and what would be right is left to be told, when it does not fit. */
static bool take(const struct option *option, const struct node *node, void *base, struct text *problem)
{
	struct value value = { .number = 0 };

	if (!types[option->type]->read(option, node, &value, problem)) {
		text_add(problem, problem->length > 0 && problem->bytes[problem->length - 1] == '?' ? " Write " : "; write ");
		return false;
	}
	types[option->type]->store(option, &value, base);
	return true;
}

bool value_set(const struct option *option, const struct node *node, void *base, struct text *problem)
{
	ensure(!value_is_list(option));
	if (take(option, node, base, problem))
		return true;
	value_add_wanted(option, problem);
	return false;
}

size_t value_element_size(const struct option *option)
{
	return types[option->type]->element_size;
}

bool value_is_list(const struct option *option)
{
	return value_element_size(option) > 0;
}

bool value_is_good_list(const struct option *option, const struct node *node, struct text *problem)
{
	ensure(value_is_list(option));
	if (node->type != NODE_LIST && node->type != NODE_ARRAY) {
		value_is_not(node, problem);
		text_add(problem, "; write ");
		value_add_wanted(option, problem);
		return false;
	}
	if (node->n_children <= option->max)
		return true;
	text_add(problem, "has %zu elements; there may be at most %" PRIu64, node->n_children, option->max);
	return false;
}

bool value_set_element(const struct option *option, const struct node *node, void *element, struct text *problem)
{
	ensure(value_is_list(option));
	if (take(option, node, element, problem))
		return true;
	text_add(problem, "%s", types[option->type]->element_wanted);
	return false;
}

/* A default as if it had been read from a file. */
static struct node default_node(const struct option *option, const char *fallback)
{
	struct node node = { .type = types[option->type]->written_as };

	if (option->zero_word != NULL && strcmp(fallback, option->zero_word) == 0)
		node.type = NODE_TEXT;
	if (node.type == NODE_BOOL)
		node.on = strcmp(fallback, "true") == 0;
	else if (node.type == NODE_NUMBER)
		node.number = strtoll(fallback, NULL, 10);
	else
		node.text = fallback;
	return node;
}

void value_set_default(const struct option *option, bool in_group, void *base)
{
	const char *fallback = in_group || option->without_group == NULL ? option->fallback : option->without_group;
	char bytes[256];
	struct text problem = text_of(bytes, sizeof bytes);

	if (fallback == NULL || value_is_list(option))
		return; /* a list is empty */
	struct node node = default_node(option, fallback);
	ensure(value_set(option, &node, base, &problem));
}

bool value_is_hidden(const struct option *option, const void *base)
{
	const char *text;

	if (!option->secret)
		return false;
	memcpy(&text, (const unsigned char *)base + option->offset, sizeof text);
	return text != NULL && text[0] != '\0';
}

bool value_is_absent(const struct option *option, const void *base)
{
	const char *text;

	if (option->type != OPTION_NAME)
		return false;
	memcpy(&text, (const unsigned char *)base + option->offset, sizeof text);
	return text == NULL;
}

void value_add(const struct option *option, const void *base, struct text *out)
{
	types[option->type]->show(option, base, out);
}

static void add_written(const struct option *option, const char *fallback, struct text *out)
{
	if (default_node(option, fallback).type == NODE_TEXT)
		value_add_quoted(out, fallback);
	else
		text_add(out, "%s", fallback);
}

void value_add_default(const struct option *option, struct text *out)
{
	if (option->fallback != NULL && option->derived_default == NULL)
		add_written(option, option->fallback, out);
}

void value_add_without_group(const struct option *option, struct text *out)
{
	add_written(option, option->without_group, out);
}

void value_add_wanted(const struct option *option, struct text *out)
{
	types[option->type]->wanted(option, out);
}
