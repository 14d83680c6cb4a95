/* RESP2 and RESP3: a command is an array of strings, each has one answer. Inline commands, pushed messages and streamed types pin, as
 * does every command that is not known to leave the connection as it was. */
#include <string.h>

#include "proto/parsers.h"
#include "proto/redis_commands.h"

enum { NUMBER_DIGITS_MAX = 10 };
enum { ARGUMENTS_MAX = 1 << 20 };      /* what the server takes in one command */
enum { STRING_MAX = 512 << 20 };       /* bytes; what the server takes as one string */
enum { ELEMENTS_MAX = INT32_MAX / 2 }; /* of an answer, or pairs of a map: twice that fits */

enum state {
	AT_START = FRAMING_START,
	/* of a request */
	AT_COUNT,
	AT_COUNT_LF,
	AT_ARGUMENT,
	AT_NAME,
	/* of both */
	AT_LENGTH,
	AT_LENGTH_LF,
	AT_STRING,
	AT_STRING_CR,
	AT_STRING_LF,
	/* of an answer */
	AT_TYPE,
	AT_LINE,
	AT_LINE_LF,
};

enum { SEEN_NAME = 1, SEEN_MINUS = 2 };

static void go(struct framing_side *side, enum state state)
{
	side->state = (uint8_t)state;
	side->token_length = 0;
}

static const char *must_be(struct framing *framing, struct framing_side *side, const char *at, const char *end, char byte, enum state next)
{
	if (*at != byte)
		return framing_pin(framing, end, "a line or string that ends unusually");
	go(side, next);
	return at + 1;
}

/* A number in its one spelling, up to its CR. The token counts the digits. */
static const char *take_number(struct framing *framing, struct framing_side *side, const char *at, const char *end, enum state next)
{
	if (side->token_length == 0)
		side->left = 0;
	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		if ((side->token_length > 0 && side->left == 0) || ++side->token_length > NUMBER_DIGITS_MAX)
			return framing_pin(framing, end, "an unusual number");
		side->left = side->left * 10 + (uint64_t)(*at - '0');
	}
	if (at == end)
		return end;
	if (*at != '\r' || side->token_length == 0)
		return framing_pin(framing, end, "an unusual number");
	go(side, next);
	return at + 1;
}

static const char *take_string(struct framing_side *side, const char *at, const char *end)
{
	at = framing_skip(side, at, end);
	if (side->left == 0)
		go(side, AT_STRING_CR);
	return at;
}

/* ---- requests ---- */

static const char *count_known(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;

	if (side->left == 0 || side->left > ARGUMENTS_MAX)
		return framing_pin(framing, end, "an unusual number of arguments");
	side->passed = (uint32_t)side->left;
	side->seen = 0;
	return must_be(framing, side, at, end, '\n', AT_ARGUMENT);
}

static const char *argument_length_known(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;
	bool is_name = (side->seen & SEEN_NAME) == 0;

	if (side->left > STRING_MAX)
		return framing_pin(framing, end, "a string is too long");
	if (is_name && (side->left == 0 || side->left > REDIS_COMMAND_MAX))
		return framing_pin(framing, end, "a command that may leave state");
	side->seen |= SEEN_NAME;
	return must_be(framing, side, at, end, '\n', is_name ? AT_NAME : side->left > 0 ? AT_STRING : AT_STRING_CR);
}

/* Letters to lower case; the digits and '_' of names stay apart from letters. */
static const char *take_name(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;

	for (; at < end && side->left > 0; at++, side->left--)
		framing_keep(side, *at >= 'A' && *at <= 'Z' ? (char)(*at | 0x20) : *at);
	if (side->left > 0)
		return end;
	if (!redis_command_is_stateless(side->token, side->token_length))
		return framing_pin(framing, end, "a command that may leave state");
	go(side, AT_STRING_CR);
	return at;
}

static const char *argument_done(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;

	if (--side->passed > 0)
		return must_be(framing, side, at, end, '\n', AT_ARGUMENT);
	at = must_be(framing, side, at, end, '\n', AT_START);
	if (++framing->owed > FRAMING_OWED_MAX)
		return framing_pin(framing, end, "too many requests at once");
	return at;
}

static const char *request_step(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;

	switch ((enum state)side->state) {
	case AT_START:
		return *at == '*' ? must_be(framing, side, at, end, '*', AT_COUNT) : framing_pin(framing, end, "not an array of strings");
	case AT_COUNT:
		return take_number(framing, side, at, end, AT_COUNT_LF);
	case AT_COUNT_LF:
		return count_known(framing, at, end);
	case AT_ARGUMENT:
		return *at == '$' ? must_be(framing, side, at, end, '$', AT_LENGTH) : framing_pin(framing, end, "not an array of strings");
	case AT_LENGTH:
		return take_number(framing, side, at, end, AT_LENGTH_LF);
	case AT_LENGTH_LF:
		return argument_length_known(framing, at, end);
	case AT_NAME:
		return take_name(framing, at, end);
	case AT_STRING:
		return take_string(side, at, end);
	case AT_STRING_CR:
		return must_be(framing, side, at, end, '\r', AT_STRING_LF);
	case AT_STRING_LF:
		return argument_done(framing, at, end);
	default:
		return framing_pin(framing, end, "no state");
	}
}

void redis_request(struct framing *framing, const char *at, const char *end)
{
	while (at < end)
		at = request_step(framing, at, end);
}

/* ---- answers ---- */

/* A value is complete, and with it all that it completes. */
static void value_done(struct framing *framing)
{
	while (framing->depth > 0) {
		unsigned bit = 1u << (framing->depth - 1);

		if (--framing->nested[framing->depth - 1] > 0) {
			go(&framing->response, AT_TYPE);
			return;
		}
		framing->depth--;
		if ((framing->attributes & bit) != 0) {
			/* what it describes is still to come */
			framing->attributes &= (uint8_t)~bit;
			go(&framing->response, AT_TYPE);
			return;
		}
	}
	framing->owed--;
	go(&framing->response, AT_START);
}

/* An array, a map, a set or an attribute begins. */
static const char *elements_known(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;
	bool is_attribute = side->field == '|', is_pairs = is_attribute || side->field == '%';

	if (side->left > ELEMENTS_MAX || (side->left > 0 && framing->depth == FRAMING_DEPTH_MAX))
		return framing_pin(framing, end, "an answer that is too large or too deep");
	if (side->left > 0) {
		framing->nested[framing->depth] = (uint32_t)side->left * (is_pairs ? 2 : 1);
		if (is_attribute)
			framing->attributes |= (uint8_t)(1u << framing->depth);
		framing->depth++;
	}
	if (side->left > 0 || is_attribute)
		go(side, AT_TYPE);
	else
		value_done(framing);
	return at;
}

static const char *answer_length_known(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;
	bool is_string = side->field == '$' || side->field == '!' || side->field == '=';

	at = must_be(framing, side, at, end, '\n', AT_STRING);
	if (framing->pinned_by != NULL)
		return end;
	if ((side->seen & SEEN_MINUS) != 0) {
		/* null: -1 */
		if (side->left != 1)
			return framing_pin(framing, end, "an unusual number");
		value_done(framing);
		return at;
	}
	if (!is_string)
		return elements_known(framing, at, end);
	if (side->left > STRING_MAX)
		return framing_pin(framing, end, "a string is too long");
	if (side->left == 0)
		go(side, AT_STRING_CR);
	return at;
}

static const char *take_length(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;
	bool has_null = side->field == '$' || side->field == '*';

	if (*at == '-' && has_null && side->token_length == 0 && (side->seen & SEEN_MINUS) == 0) {
		side->seen |= SEEN_MINUS;
		return at + 1;
	}
	return take_number(framing, side, at, end, AT_LENGTH_LF);
}

static const char *take_type(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;

	side->field = (uint8_t)*at;
	side->seen = 0;
	side->passed = 0;
	switch (*at) {
	case '+': /* text */
	case '-': /* error */
	case ':': /* number */
	case ',': /* double */
	case '(': /* big number */
	case '#': /* truth */
	case '_': /* null */
		go(side, AT_LINE);
		return at + 1;
	case '$': /* string */
	case '!': /* long error */
	case '=': /* text with its format */
	case '*': /* array */
	case '%': /* map */
	case '~': /* set */
	case '|': /* attribute */
		go(side, AT_LENGTH);
		return at + 1;
	case '>':
		return framing_pin(framing, end, "a pushed message");
	default:
		return framing_pin(framing, end, "an unknown type of answer");
	}
}

static bool is_protocol_error(const struct framing_side *side)
{
	static const char text[] = "ERR Protocol error";

	return side->field == '-' && side->token_length >= sizeof text - 1 && memcmp(side->token, text, sizeof text - 1) == 0;
}

static const char *take_line(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;
	const char *start = at;

	for (; at < end && *at != '\r' && *at != '\n'; at++)
		if (side->field == '-')
			framing_keep(side, *at);
	if ((size_t)(at - start) > FRAMING_LINE_MAX - side->passed)
		return framing_pin(framing, end, "a line is too long");
	side->passed += (uint32_t)(at - start);
	if (at == end)
		return end;
	if (is_protocol_error(side))
		return framing_pin(framing, end, "the server did not take the request");
	return must_be(framing, side, at, end, '\r', AT_LINE_LF);
}

static const char *value_ends(struct framing *framing, const char *at, const char *end)
{
	at = must_be(framing, &framing->response, at, end, '\n', AT_TYPE);
	if (framing->pinned_by == NULL)
		value_done(framing);
	return at;
}

static const char *response_step(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;

	switch ((enum state)side->state) {
	case AT_START:
		if (framing->owed == 0)
			return framing_pin(framing, end, "an answer that no request asked for");
		return take_type(framing, at, end);
	case AT_TYPE:
		return take_type(framing, at, end);
	case AT_LENGTH:
		return take_length(framing, at, end);
	case AT_LENGTH_LF:
		return answer_length_known(framing, at, end);
	case AT_STRING:
		return take_string(side, at, end);
	case AT_STRING_CR:
		return must_be(framing, side, at, end, '\r', AT_STRING_LF);
	case AT_LINE:
		return take_line(framing, at, end);
	case AT_LINE_LF:
	case AT_STRING_LF:
		return value_ends(framing, at, end);
	default:
		return framing_pin(framing, end, "no state");
	}
}

void redis_response(struct framing *framing, const char *at, const char *end)
{
	while (at < end)
		at = response_step(framing, at, end);
}
