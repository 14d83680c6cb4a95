#include "config/value.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/addr.h"
#include "base/units.h"

enum { SHOWN = 64 }; /* of a value that somebody wrote, in a message */

/* A value on its way from the node into the struct. */
struct value {
	uint64_t number;
	const char *text;
	struct endpoint endpoint;
};

/* What one type of setting does. */
struct value_type {
	/* False and problem, which says what is wrong but not what would be right. */
	bool (*read)(const struct option *option, const struct node *node, struct value *out, struct text *problem);
	void (*store)(const struct option *option, const struct value *value, unsigned char *base);
	void (*show)(const struct option *option, const unsigned char *base, struct text *out);
	void (*wanted)(const struct option *option, struct text *out);
	enum node_type written_as;
};
static const struct value_type types[];

void value_add_quoted(struct text *out, const char *s)
{
	text_add(out, "\"");
	for (; *s != '\0'; s++)
		text_add(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
	text_add(out, "\"");
}

/* Says what a node is that does not fit. False, for the caller to return. */
static bool is_not(const struct node *node, struct text *problem)
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
		return is_not(node, problem);
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
		return is_not(node, problem);
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
		return is_not(node, problem);
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

/* --- enums ----------------------------------------------------------------------------------------------------------------- */

static_assert(sizeof(enum on_full) == sizeof(uint32_t) && sizeof(enum log_level) == sizeof(uint32_t), "enums are stored as uint32_t");

static bool enum_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (node->type != NODE_TEXT)
		return is_not(node, problem);
	for (size_t i = 0; i < option->n_words; i++) {
		if (strcmp(option->words[i], node->text) == 0) {
			out->number = i;
			return true;
		}
	}
	const char *nearest = text_nearest(node->text, option->words, option->n_words);
	is_not(node, problem);
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

/* --- texts ----------------------------------------------------------------------------------------------------------------- */

static bool complain(struct text *problem, const struct node *node, const char *why)
{
	is_not(node, problem);
	text_add(problem, ": %s", why);
	return false;
}

static bool text_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (node->type != NODE_TEXT)
		return is_not(node, problem);
	if (strlen(node->text) > option->max) {
		is_not(node, problem);
		text_add(problem, ": it is longer than %" PRIu64 " bytes", option->max);
		return false;
	}
	for (const char *p = node->text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return complain(problem, node, "it has a control character");
	out->text = node->text;
	return true;
}

const char *value_why_no_name(const char *s)
{
	if (*s == '\0')
		return "it is empty";
	for (; *s != '\0'; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("._:/@%*[]-", *s) != NULL))
			return "it has a character that is not allowed in names";
	return NULL;
}

static bool name_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	const char *why = value_why_no_name(node->text);
	return why == NULL || complain(problem, node, why);
}

static bool path_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	return node->text[0] == '/' || complain(problem, node, "it does not start with \"/\"");
}

static bool target_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	static const char *const targets[] = { "stderr", "syslog", "journal" };

	if (!text_read(option, node, out, problem))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		if (strcmp(node->text, targets[i]) == 0)
			return true;
	if (node->text[0] == '/')
		return true;
	const char *nearest = text_nearest(node->text, targets, ARRAY_LEN(targets));
	is_not(node, problem);
	if (nearest != NULL)
		text_add(problem, "; did you mean \"%s\"?", nearest);
	return false;
}

static void text_store(const struct option *option, const struct value *value, unsigned char *base)
{
	memcpy(base + option->offset, &value->text, sizeof value->text);
}

static void text_show(const struct option *option, const unsigned char *base, struct text *out)
{
	const char *s;
	memcpy(&s, base + option->offset, sizeof s);
	value_add_quoted(out, s);
}

static void text_wanted(const struct option *option, struct text *out)
{
	text_add(out, "text between quotes, at most %" PRIu64 " bytes", option->max);
}

static void name_wanted(const struct option *option, struct text *out)
{
	text_add(out, "a name between quotes: at most %" PRIu64 " letters, digits and any of ._:/@%%*[]-", option->max);
}

static void path_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "an absolute path between quotes");
}

static void target_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "\"stderr\", \"syslog\", \"journal\" or the absolute path of a file");
}

/* --- addresses ------------------------------------------------------------------------------------------------------------- */

static bool endpoint_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const char *why = NULL;

	if (!text_read(option, node, out, problem))
		return false;
	return endpoint_parse(node->text, &out->endpoint, &why) == 0 || complain(problem, node, why);
}

static bool listen_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!endpoint_read(option, node, out, problem))
		return false;
	return out->endpoint.kind != ENDPOINT_NAME || complain(problem, node, "listening needs an IP address, not a host name");
}

static bool server_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const struct endpoint *endpoint = &out->endpoint;

	if (node->type == NODE_TEXT && node->text[0] != '\0' && node->text[strspn(node->text, "0123456789")] == '\0')
		return complain(problem, node, "the host is missing");
	if (!endpoint_read(option, node, out, problem))
		return false;
	if (endpoint->kind == ENDPOINT_FD || endpoint->kind == ENDPOINT_SYSTEMD)
		return complain(problem, node, "that is for listeners only");
	if (endpoint->kind == ENDPOINT_ADDRESS && addr_is_any(&endpoint->addr))
		return complain(problem, node, "the host is missing");
	bool has_port = endpoint->kind == ENDPOINT_NAME ? endpoint->port != 0
	                                                : endpoint->addr.sa.sa_family == AF_UNIX || addr_port(&endpoint->addr) != 0;
	return has_port || complain(problem, node, "port 0 cannot be connected to");
}

static void endpoint_store(const struct option *option, const struct value *value, unsigned char *base)
{
	text_store(option, value, base);
	memcpy(base + option->endpoint_offset, &value->endpoint, sizeof value->endpoint);
}

static void listen_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "for example \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" (all addresses) or \"unix:/path\"");
}

static void server_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "for example \"10.0.0.5:3000\", \"[::1]:3000\", \"db.example.org:5432\" or \"unix:/path\"");
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct value_type types[N_OPTION_TYPES] = {
	[OPTION_BOOL] = { bool_read, bool_store, bool_show, bool_wanted, NODE_BOOL },
	[OPTION_NUMBER] = { number_read, u32_store, number_show, number_wanted, NODE_NUMBER },
	[OPTION_DURATION] = { duration_read, u64_store, duration_show, duration_wanted, NODE_TEXT },
	[OPTION_SIZE] = { size_read, u64_store, size_show, size_wanted, NODE_TEXT },
	[OPTION_ENUM] = { enum_read, u32_store, enum_show, enum_wanted, NODE_TEXT },
	[OPTION_TEXT] = { text_read, text_store, text_show, text_wanted, NODE_TEXT },
	[OPTION_NAME] = { name_read, text_store, text_show, name_wanted, NODE_TEXT },
	[OPTION_PATH] = { path_read, text_store, text_show, path_wanted, NODE_TEXT },
	[OPTION_TARGET] = { target_read, text_store, text_show, target_wanted, NODE_TEXT },
	[OPTION_LISTEN] = { listen_read, endpoint_store, text_show, listen_wanted, NODE_TEXT },
	[OPTION_SERVER] = { server_read, endpoint_store, text_show, server_wanted, NODE_TEXT },
};
/* clang-format on */

bool value_set(const struct option *option, const struct node *node, void *base, struct text *problem)
{
	struct value value = { .number = 0 };

	if (!types[option->type].read(option, node, &value, problem)) {
		text_add(problem, problem->length > 0 && problem->bytes[problem->length - 1] == '?' ? " Write " : "; write ");
		value_add_wanted(option, problem);
		return false;
	}
	types[option->type].store(option, &value, base);
	return true;
}

/* The default as if it had been read from a file. */
static struct node default_node(const struct option *option)
{
	struct node node = { .type = types[option->type].written_as };

	if (option->zero_word != NULL && strcmp(option->fallback, option->zero_word) == 0)
		node.type = NODE_TEXT;
	if (node.type == NODE_BOOL)
		node.on = strcmp(option->fallback, "true") == 0;
	else if (node.type == NODE_NUMBER)
		node.number = strtoll(option->fallback, NULL, 10);
	else
		node.text = option->fallback;
	return node;
}

void value_set_default(const struct option *option, void *base)
{
	char bytes[256];
	struct text problem = text_of(bytes, sizeof bytes);

	if (option->fallback == NULL)
		return;
	struct node node = default_node(option);
	ensure(value_set(option, &node, base, &problem));
}

void value_add(const struct option *option, const void *base, struct text *out)
{
	types[option->type].show(option, base, out);
}

void value_add_default(const struct option *option, struct text *out)
{
	if (option->fallback == NULL || option->derived_default != NULL)
		return;
	if (default_node(option).type == NODE_TEXT)
		value_add_quoted(out, option->fallback);
	else
		text_add(out, "%s", option->fallback);
}

void value_add_wanted(const struct option *option, struct text *out)
{
	types[option->type].wanted(option, out);
}
