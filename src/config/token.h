/* The words of a libconfig text. libconfig says "syntax error" for whatever is wrong, leaks when it does, wraps numbers that
 * are too large and follows any depth and any @include; so a text is read with this first (source.c, syntax.c) and libconfig
 * only sees what is right. Stricter than libconfig in two ways: a string ends on its line, and a number ends at a space or sign. */
#ifndef AEGIS_CONFIG_TOKEN_H
#define AEGIS_CONFIG_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

enum token_kind {
	TOKEN_END,
	TOKEN_NAME,
	TOKEN_STRING,
	TOKEN_NUMBER,
	TOKEN_BOOL,
	TOKEN_EQUALS,
	TOKEN_COMMA,
	TOKEN_SEMICOLON,
	TOKEN_OPEN_GROUP,
	TOKEN_CLOSE_GROUP,
	TOKEN_OPEN_LIST,
	TOKEN_CLOSE_LIST,
	TOKEN_OPEN_ARRAY,
	TOKEN_CLOSE_ARRAY,
	TOKEN_INCLUDE, /* @include "path" */
	TOKEN_WRONG,   /* why says what is wrong */
};

struct token {
	enum token_kind kind;
	const char *at; /* in the text */
	size_t length;
	int line;
	const char *why;
};

/* A reader of one text; start with { text, length, .line = 1 }. The text holds no NUL but the one at its end. */
struct tokens {
	const char *bytes;
	size_t length;
	size_t offset;
	int line;
};

struct token token_next(struct tokens *tokens);

#endif
