#include "config/token.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_LENGTH = 64, NUMBER_MAX_LENGTH = 40 };

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The byte at an offset from where the reader stands, or NUL after the end. */
static char peek(const struct tokens *tokens, size_t ahead)
{
	return ahead < tokens->length - tokens->offset ? tokens->bytes[tokens->offset + ahead] : '\0';
}

static struct token token_of(struct tokens *tokens, enum token_kind kind, size_t length)
{
	struct token token = { .kind = kind, .at = tokens->bytes + tokens->offset, .length = length, .line = tokens->line };
	tokens->offset += length;
	return token;
}

static struct token wrong(struct tokens *tokens, const char *why)
{
	struct token token = token_of(tokens, TOKEN_WRONG, 0);
	token.why = why;
	tokens->offset = tokens->length; /* nothing that follows can be trusted */
	return token;
}

/* Skip to after the end of a comment in slashes and stars; false when there is none. */
static bool skip_block(struct tokens *tokens)
{
	size_t at = tokens->offset + 2;
	int line = tokens->line;

	for (; at + 1 < tokens->length; at++) {
		if (tokens->bytes[at] == '*' && tokens->bytes[at + 1] == '/') {
			tokens->offset = at + 2;
			tokens->line = line;
			return true;
		}
		line += tokens->bytes[at] == '\n';
	}
	return false;
}

static void skip_line(struct tokens *tokens)
{
	const char *at = tokens->bytes + tokens->offset;
	const char *end = memchr(at, '\n', tokens->length - tokens->offset);

	tokens->offset = end != NULL ? tokens->offset + (size_t)(end - at) : tokens->length;
}

/* Spaces and comments. False when a comment does not end. */
static bool skip_blank(struct tokens *tokens)
{
	for (;;) {
		char c = peek(tokens, 0), next = peek(tokens, 1);
		if (c == '#' || (c == '/' && next == '/')) {
			skip_line(tokens);
		} else if (c == '/' && next == '*') {
			if (!skip_block(tokens))
				return false;
		} else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\n') {
			tokens->line += c == '\n';
			tokens->offset++;
		} else {
			return true;
		}
	}
}

static struct token read_string(struct tokens *tokens)
{
	for (size_t n = 1;; n++) {
		char c = peek(tokens, n);
		if (c == '"')
			return token_of(tokens, TOKEN_STRING, n + 1);
		if (c == '\0' || c == '\n')
			return wrong(tokens, "this text has no closing quote on its line; add the \"");
		if (c != '\\')
			continue;
		if (peek(tokens, n + 1) == '"' || peek(tokens, n + 1) == '\\')
			n++;
		else if (strncasecmp(tokens->bytes + tokens->offset + n + 1, "x00", 3) == 0)
			return wrong(tokens, "this text holds \\x00; a NUL byte cannot be part of a text");
	}
}

static bool is_hex_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* What libconfig takes as an integer; *is_long when it has an L at the end. */
static bool is_integer(const char *s, bool *is_long)
{
	size_t n = 0;
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');

	if (hex)
		n = 2;
	else if (s[0] == '-' || s[0] == '+')
		n = 1;
	size_t first = n;
	while (hex ? is_hex_digit(s[n]) : is_digit(s[n]))
		n++;
	if (n == first)
		return false;
	*is_long = s[n] == 'L';
	n += *is_long;
	n += *is_long && s[n] == 'L';
	return s[n] == '\0';
}

static bool fits(const char *s, bool is_long)
{
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');

	errno = 0;
	long long value = strtoll(s, NULL, hex ? 16 : 10);
	return errno == 0 && (is_long || (value >= INT_MIN && value <= INT_MAX));
}

/* [sign] digits [. digits] [e [sign] digits], with a dot or an e and at least one digit before the e. */
static bool is_float(const char *s)
{
	size_t digits = 0;
	bool dot = false;

	s += *s == '-' || *s == '+';
	for (; is_digit(*s) || (*s == '.' && !dot); s++) {
		dot |= *s == '.';
		digits += is_digit(*s);
	}
	if (digits == 0)
		return false;
	if (*s == '\0')
		return dot;
	if (*s != 'e' && *s != 'E')
		return false;
	s++;
	s += *s == '-' || *s == '+';
	if (*s == '\0')
		return false;
	while (is_digit(*s))
		s++;
	return *s == '\0';
}

static struct token read_number(struct tokens *tokens)
{
	char number[NUMBER_MAX_LENGTH + 1] = "";
	size_t n = 0;
	bool is_long;

	for (char c = peek(tokens, 0); is_letter(c) || is_digit(c) || c == '.' || c == '+' || c == '-' || c == '_'; c = peek(tokens, n)) {
		if (n == NUMBER_MAX_LENGTH)
			return wrong(tokens, "this number is too long");
		number[n++] = c;
	}
	if (is_integer(number, &is_long)) {
		if (!fits(number, is_long))
			return wrong(tokens, is_long ? "this number is too large" : "this number is too large; the largest is 2147483647");
	} else if (!is_float(number)) {
		return wrong(tokens, "this is not a number; put text between quotes, and what has a unit, like \"5s\"");
	}
	return token_of(tokens, TOKEN_NUMBER, n);
}

static struct token read_name(struct tokens *tokens)
{
	size_t n = 1;
	const char *at = tokens->bytes + tokens->offset;

	for (char c = peek(tokens, n); is_letter(c) || is_digit(c) || c == '-' || c == '_' || c == '*'; c = peek(tokens, n))
		n++;
	if (n > NAME_MAX_LENGTH)
		return wrong(tokens, "this name is too long; no setting has more than 64 letters");
	bool is_bool = (n == 4 && strncasecmp(at, "true", n) == 0) || (n == 5 && strncasecmp(at, "false", n) == 0);
	return token_of(tokens, is_bool ? TOKEN_BOOL : TOKEN_NAME, n);
}

static bool starts_line(const struct tokens *tokens)
{
	size_t at = tokens->offset;

	while (at > 0 && (tokens->bytes[at - 1] == ' ' || tokens->bytes[at - 1] == '\t'))
		at--;
	return at == 0 || tokens->bytes[at - 1] == '\n';
}

static struct token read_include(struct tokens *tokens)
{
	static const char word[] = "@include";
	size_t n = sizeof word - 1;

	if (tokens->length - tokens->offset < n || memcmp(tokens->bytes + tokens->offset, word, n) != 0)
		return wrong(tokens, "a '@' is only known at the start of a line, as in @include \"FILE\"");
	if (!starts_line(tokens))
		return wrong(tokens, "@include must stand at the start of its line");
	while (peek(tokens, n) == ' ' || peek(tokens, n) == '\t')
		n++;
	if (peek(tokens, n) != '"' || n == sizeof word - 1)
		return wrong(tokens, "the file is missing; write @include \"FILE\"");
	for (n++; peek(tokens, n) != '"'; n++) {
		if (peek(tokens, n) == '\\')
			n++;
		if (peek(tokens, n) == '\0' || peek(tokens, n) == '\n')
			return wrong(tokens, "the file has no closing quote; write @include \"FILE\"");
	}
	return token_of(tokens, TOKEN_INCLUDE, n + 1);
}

static enum token_kind mark_kind(char c)
{
	switch (c) {
	case '=':
	case ':':
		return TOKEN_EQUALS;
	case ',':
		return TOKEN_COMMA;
	case ';':
		return TOKEN_SEMICOLON;
	case '{':
		return TOKEN_OPEN_GROUP;
	case '}':
		return TOKEN_CLOSE_GROUP;
	case '(':
		return TOKEN_OPEN_LIST;
	case ')':
		return TOKEN_CLOSE_LIST;
	case '[':
		return TOKEN_OPEN_ARRAY;
	case ']':
		return TOKEN_CLOSE_ARRAY;
	default:
		return TOKEN_WRONG;
	}
}

struct token token_next(struct tokens *tokens)
{
	if (!skip_blank(tokens))
		return wrong(tokens, "this comment has no end; add */");
	char c = peek(tokens, 0);
	if (c == '\0')
		return token_of(tokens, TOKEN_END, 0);
	if (c == '"')
		return read_string(tokens);
	if (c == '@')
		return read_include(tokens);
	if (is_letter(c) || c == '*')
		return read_name(tokens);
	if (is_digit(c) || c == '.' || c == '+' || c == '-')
		return read_number(tokens);
	enum token_kind kind = mark_kind(c);
	if (kind != TOKEN_WRONG)
		return token_of(tokens, kind, 1);
	if (c == '\'')
		return wrong(tokens, "text stands between double quotes, like \"this\"");
	return wrong(tokens, "this character has no meaning here; text stands between double quotes");
}
