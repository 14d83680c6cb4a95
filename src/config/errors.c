#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "config/config.h"

enum { LINE_SIZE = 8192, MESSAGE_SIZE = 1024, LINES_FIRST_SIZE = 1024 };

static void append(struct config_errors *errors, const char *line, size_t length)
{
	size_t needed = errors->length + length + 1;

	if (needed > errors->size) {
		size_t size = errors->size * 2 > LINES_FIRST_SIZE ? errors->size * 2 : LINES_FIRST_SIZE;
		errors->size = size > needed ? size : needed;
		errors->lines = realloc(errors->lines, errors->size);
		ensure(errors->lines != NULL);
	}
	memcpy(errors->lines + errors->length, line, length + 1);
	errors->length += length;
	errors->count++;
}

void config_errors_add(struct config_errors *errors, const char *file, int line, const char *path, const char *format, ...)
{
	char bytes[LINE_SIZE], message[MESSAGE_SIZE];
	struct text text = text_of(bytes, sizeof bytes - 1); /* room for the line end */
	va_list args;

	va_start(args, format);
	int n = vsnprintf(message, sizeof message, format, args);
	va_end(args);
	if (n < 0)
		text_copy(message, sizeof message, format);
	text_add_printable(&text, file != NULL ? file : "command line");
	if (line > 0)
		text_add(&text, ":%d", line);
	text_add(&text, ": ");
	if (path != NULL && path[0] != '\0') {
		text_add_printable(&text, path);
		text_add(&text, ": ");
	}
	text_add_printable(&text, message);
	bytes[text.length++] = '\n';
	bytes[text.length] = '\0';
	append(errors, bytes, text.length);
}

void config_errors_append(struct config_errors *errors, const struct config_errors *more)
{
	if (more->count == 0)
		return;
	append(errors, more->lines, more->length);
	errors->count += more->count - 1;
}

void config_errors_clear(struct config_errors *errors)
{
	free(errors->lines);
	*errors = (struct config_errors){ .count = 0 };
}
