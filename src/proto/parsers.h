/* What the parsers of src/proto share with framing.c: one pair of functions for each kind. Private to this folder.
 *
 * Every parser reads runs of bytes in a small machine of states: a step takes what it can from [at, end) and returns the first byte
 * that it did not take. Whatever it does not expect it pins, which takes all. What a step decides never depends on where the input
 * was split.
 */
#ifndef AEGIS_PROTO_PARSERS_H
#define AEGIS_PROTO_PARSERS_H

#include "base/attr.h"
#include "proto/framing.h"

enum {
	FRAMING_START = 0,           /* the state of a side between two messages, for every kind */
	FRAMING_OWED_MAX = 1 << 20,  /* answers due at once, for the kinds that only count them */
	FRAMING_LINE_MAX = 64 << 10, /* bytes of a line, with its end */
};

/* Pin for ever; the first reason stays. Returns end: there is nothing left to read. */
static inline const char *framing_pin(struct framing *framing, const char *end, const char *reason)
{
	if (framing->pinned_by == NULL)
		framing->pinned_by = reason;
	return end;
}

/* Skip what is left of a body or a string. */
static inline const char *framing_skip(struct framing_side *side, const char *at, const char *end)
{
	size_t here = (size_t)(end - at);
	size_t skipped = side->left < here ? (size_t)side->left : here;

	side->left -= skipped;
	return at + skipped;
}

/* Keep a byte of the token; beyond FRAMING_TOKEN_MAX only that there were more. */
static inline void framing_keep(struct framing_side *side, char byte)
{
	if (side->token_length < FRAMING_TOKEN_MAX)
		side->token[side->token_length] = byte;
	if (side->token_length <= FRAMING_TOKEN_MAX)
		side->token_length++;
}

void http1_request(struct framing *framing, const char *at, const char *end);
void http1_response(struct framing *framing, const char *at, const char *end);
void redis_request(struct framing *framing, const char *at, const char *end);
void redis_response(struct framing *framing, const char *at, const char *end);
void line_request(struct framing *framing, const char *at, const char *end);
void line_response(struct framing *framing, const char *at, const char *end);

#endif
