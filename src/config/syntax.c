#include "config/syntax.h"

#include <string.h>

#include "config/token.h"

/* Of all groups that are open at one place together; far more than there are settings. */
enum { MAX_NAMES = 1024, SHOWN_LENGTH = 32 };

struct syntax {
	struct source *source;
	struct tokens tokens;
	struct token token; /* the one to look at */
	int depth;
	struct token names[MAX_NAMES]; /* of the settings in the open groups */
	size_t n_names;
};

static bool check_value(struct syntax *syntax, const struct token *name);
static bool check_settings(struct syntax *syntax, const struct token *open);

static void advance(struct syntax *syntax)
{
	syntax->token = token_next(&syntax->tokens);
}

static int shown_length(const struct token *token)
{
	return token->length > SHOWN_LENGTH ? SHOWN_LENGTH : (int)token->length;
}

/* What stands there, for a message: with one "%.*s". */
static const char *shown(const struct token *token)
{
	return token->kind == TOKEN_END ? "the end" : token->at;
}

static int shown_n(const struct token *token)
{
	return token->kind == TOKEN_END ? 7 : shown_length(token);
}

static bool fail_unclosed(const struct syntax *syntax, const struct token *open)
{
	static const char *const closing[] = { [TOKEN_OPEN_GROUP] = "}", [TOKEN_OPEN_LIST] = ")", [TOKEN_OPEN_ARRAY] = "]" };
	source_error(syntax->source, open->line, "this \"%.1s\" is never closed; add \"%s\"", open->at, closing[open->kind]);
	return false;
}

/* The name of a setting: new in its group, which began at first. */
static bool note_name(struct syntax *syntax, size_t first)
{
	const struct token *name = &syntax->token;

	for (size_t i = first; i < syntax->n_names; i++) {
		const struct token *other = &syntax->names[i];
		if (other->length == name->length && memcmp(other->at, name->at, name->length) == 0) {
			struct source_run place = source_place(syntax->source, other->line);
			source_error(syntax->source, name->line, "\"%.*s\" is set already in %s:%d; keep one of the two", (int)name->length,
			        name->at, place.file, place.file_line);
			return false;
		}
	}
	if (syntax->n_names == MAX_NAMES) {
		source_error(syntax->source, name->line, "there are more than %d settings in one group", MAX_NAMES);
		return false;
	}
	syntax->names[syntax->n_names++] = *name;
	return true;
}

static bool check_setting(struct syntax *syntax, size_t first)
{
	struct token name = syntax->token;

	if (!note_name(syntax, first))
		return false;
	advance(syntax);
	if (syntax->token.kind != TOKEN_EQUALS) {
		source_error(syntax->source, name.line, "a \"=\" is missing after \"%.*s\"; write %.*s = VALUE;", (int)name.length, name.at,
		        (int)name.length, name.at);
		return false;
	}
	advance(syntax);
	if (!check_value(syntax, &name))
		return false;
	if (syntax->token.kind == TOKEN_SEMICOLON || syntax->token.kind == TOKEN_COMMA)
		advance(syntax);
	return true;
}

/* Settings up to the end of the group that open began, or of the text where it is NULL. */
static bool check_settings(struct syntax *syntax, const struct token *open)
{
	enum token_kind close = open != NULL ? TOKEN_CLOSE_GROUP : TOKEN_END;
	size_t first = syntax->n_names;

	while (syntax->token.kind == TOKEN_NAME)
		if (!check_setting(syntax, first))
			return false;
	syntax->n_names = first;
	if (syntax->token.kind == close) {
		advance(syntax);
		return true;
	}
	if (syntax->token.kind == TOKEN_END)
		return fail_unclosed(syntax, open);
	if (syntax->token.kind == TOKEN_SEMICOLON)
		source_error(syntax->source, syntax->token.line, "a \";\" too many; one ends a setting");
	else
		source_error(syntax->source, syntax->token.line, "expected NAME = VALUE;%s but found \"%.*s\"",
		        open != NULL ? " or \"}\"" : "", shown_n(&syntax->token), shown(&syntax->token));
	return false;
}

static bool opens(enum token_kind kind)
{
	return kind == TOKEN_OPEN_GROUP || kind == TOKEN_OPEN_LIST || kind == TOKEN_OPEN_ARRAY;
}

/* The elements of a list or an array up to its end. */
static bool check_elements(struct syntax *syntax, const struct token *open, enum token_kind close)
{
	while (syntax->token.kind != close) {
		if (syntax->token.kind == TOKEN_END)
			return fail_unclosed(syntax, open);
		if (close == TOKEN_CLOSE_ARRAY && opens(syntax->token.kind)) {
			source_error(syntax->source, syntax->token.line, "an array [ ] holds plain values only; write a list ( )");
			return false;
		}
		if (!check_value(syntax, NULL))
			return false;
		struct token comma = syntax->token;
		if (comma.kind == TOKEN_COMMA) {
			advance(syntax);
			if (syntax->token.kind == close)
				syntax->source->bytes[comma.at - syntax->source->bytes] = ' ';
		} else if (comma.kind == TOKEN_END) {
			return fail_unclosed(syntax, open);
		} else if (comma.kind != close) {
			source_error(syntax->source, comma.line,
			        "expected \",\" or \"%s\" but found \"%.*s\"; elements are separated by \",\"",
			        close == TOKEN_CLOSE_LIST ? ")" : "]", shown_n(&comma), shown(&comma));
			return false;
		}
	}
	advance(syntax);
	return true;
}

static bool check_aggregate(struct syntax *syntax)
{
	struct token open = syntax->token;
	bool ok;

	if (syntax->depth == SYNTAX_MAX_DEPTH) {
		source_error(syntax->source, open.line, "groups and lists are nested more than %d deep; no setting needs that",
		        SYNTAX_MAX_DEPTH);
		return false;
	}
	syntax->depth++;
	advance(syntax);
	if (open.kind == TOKEN_OPEN_GROUP)
		ok = check_settings(syntax, &open);
	else
		ok = check_elements(syntax, &open, open.kind == TOKEN_OPEN_LIST ? TOKEN_CLOSE_LIST : TOKEN_CLOSE_ARRAY);
	syntax->depth--;
	return ok;
}

/* The value of the setting called name, or an element where that is NULL. */
static bool check_value(struct syntax *syntax, const struct token *name)
{
	const struct token *token = &syntax->token;

	switch (token->kind) {
	case TOKEN_STRING:
		while (syntax->token.kind == TOKEN_STRING) /* neighbours are one text, as in C */
			advance(syntax);
		return true;
	case TOKEN_NUMBER:
	case TOKEN_BOOL:
		advance(syntax);
		return true;
	case TOKEN_OPEN_GROUP:
	case TOKEN_OPEN_LIST:
	case TOKEN_OPEN_ARRAY:
		return check_aggregate(syntax);
	default:
		break;
	}
	if (token->kind == TOKEN_NAME)
		source_error(syntax->source, token->line, "%.*s must stand between quotes: \"%.*s\"", shown_length(token), token->at,
		        shown_length(token), token->at);
	else if (name != NULL)
		source_error(syntax->source, name->line, "the value of \"%.*s\" is missing; write %.*s = VALUE;", (int)name->length,
		        name->at, (int)name->length, name->at);
	else
		source_error(syntax->source, token->line, "expected a value but found \"%.*s\"", shown_n(token), shown(token));
	return false;
}

bool syntax_check(struct source *source)
{
	struct syntax *syntax = calloc(1, sizeof *syntax);

	ensure(syntax != NULL);
	syntax->source = source;
	syntax->tokens = (struct tokens){ .bytes = source->bytes, .length = source->length, .line = 1 };
	advance(syntax);
	bool ok = check_settings(syntax, NULL);
	free(syntax);
	return ok;
}
