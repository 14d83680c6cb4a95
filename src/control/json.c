#include "control/json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

struct json_body {
	json_t *object;
};

/* The library goes down by calling itself. */
static bool too_deep(const char *bytes, size_t n)
{
	size_t depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < n; i++) {
		if (in_string && bytes[i] == '\\')
			i++;
		else if (bytes[i] == '"')
			in_string = !in_string;
		else if (!in_string && (bytes[i] == '{' || bytes[i] == '[') && ++depth > JSON_BODY_DEPTH)
			return true;
		else if (!in_string && (bytes[i] == '}' || bytes[i] == ']') && depth > 0)
			depth--;
	}
	return false;
}

static bool is_blank(const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r' && bytes[i] != '\n')
			return false;
	return true;
}

static json_t *parse(const char *bytes, size_t n, char *why, size_t why_size)
{
	json_error_t error;
	json_t *value = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &error);
	if (!value) {
		char printed[JSON_ERROR_TEXT_LENGTH];
		struct text text = text_of(printed, sizeof printed);
		text_add_printable(&text, error.text);
		(void)snprintf(why, why_size, "the body is not JSON: line %d, column %d: %s", error.line, error.column, printed);
	} else if (!json_is_object(value)) {
		(void)snprintf(why, why_size, "the body must be a JSON object, {...}");
		json_decref(value);
		value = NULL;
	}
	return value;
}

int json_body_read(const char *bytes, size_t n, struct json_body **out, char *why, size_t why_size)
{
	if (too_deep(bytes, n)) {
		(void)snprintf(why, why_size, "the body is nested deeper than %d levels", JSON_BODY_DEPTH);
		return -EINVAL;
	}
	json_t *object = is_blank(bytes, n) ? json_object() : parse(bytes, n, why, why_size);
	if (!object)
		return -EINVAL;
	struct json_body *body = malloc(sizeof *body);
	if (!body) {
		json_decref(object);
		(void)snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	body->object = object;
	*out = body;
	return 0;
}

void json_body_free(struct json_body *body)
{
	if (!body)
		return;
	json_decref(body->object);
	free(body);
}

const char *json_body_stranger(const struct json_body *body, const char *const *known, size_t n)
{
	const char *key;
	json_t *value;
	json_object_foreach(body->object, key, value)
	{
		size_t i = 0;
		while (i < n && strcmp(known[i], key) != 0)
			i++;
		if (i == n)
			return key;
	}
	return NULL;
}

bool json_body_is_null(const struct json_body *body, const char *key)
{
	return json_is_null(json_object_get(body->object, key));
}

int json_body_whole(const struct json_body *body, const char *key, uint64_t min, uint64_t max, uint64_t *out, char *why, size_t why_size)
{
	const json_t *value = json_object_get(body->object, key);
	if (!value)
		return 0;
	json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
	if (number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
		(void)snprintf(why, why_size, "\"%s\" must be a whole number from %" PRIu64 " to %" PRIu64, key, min, max);
		return -EINVAL;
	}
	*out = (uint64_t)number;
	return 1;
}

int json_body_number(const struct json_body *body, const char *key, double min, double max, double *out, char *why, size_t why_size)
{
	const json_t *value = json_object_get(body->object, key);
	if (!value)
		return 0;
	double number = json_is_number(value) ? json_number_value(value) : min - 1;
	if (!(number >= min && number <= max)) {
		(void)snprintf(why, why_size, "\"%s\" must be a number from %.15g to %.15g", key, min, max);
		return -EINVAL;
	}
	*out = number;
	return 1;
}
