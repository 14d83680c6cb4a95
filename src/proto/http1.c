/* HTTP/1.1: where each message ends, with one reading only. Stricter than RFC 9112 wherever servers differ: what a real client or
 * server never sends pins, even where the standard has a rule for it (repeated or padded lengths, chunk extensions, trailers, folded
 * lines, empty lines between messages, targets that are not a path). */
#include "proto/http1.h"

#include <endian.h>
#include <string.h>

enum { HEAD_MAX = 32 << 10 };              /* bytes of a start line with the fields and the empty line behind them */
enum { OWED_MAX = 64 };                    /* bits of framing.heads */
enum { LENGTH_DIGITS_MAX = 15 };           /* far below what overflows anywhere, far above what anyone waits for */
enum { CHUNK_DIGITS_MAX = 7 };             /* 256 MB: below what overflows 32 bits */
static const char PROTOCOL[] = "HTTP/1.1"; /* "HTTP/1.1\r\n" ends a request line, "HTTP/1.1 " begins an answer */

enum state {
	AT_START = FRAMING_START,
	AT_METHOD,
	AT_TARGET_START,
	AT_TARGET,
	AT_REQUEST_VERSION,
	AT_RESPONSE_VERSION,
	AT_STATUS,
	AT_LINE_LF,
	AT_FIELD,
	AT_NAME,
	AT_PLAIN,
	AT_NUMBER,
	AT_WORDS,
	AT_WORD,
	AT_HEAD_LF,
	/* from here on the head is complete */
	AT_BODY,
	AT_CHUNK_SIZE,
	AT_CHUNK_SIZE_LF,
	AT_CHUNK,
	AT_CHUNK_CR,
	AT_CHUNK_LF,
	AT_LAST_CR,
	AT_LAST_LF,
};

static bool is_byte(char byte, unsigned where)
{
	return (http1_bytes[(uint8_t)byte] & where) != 0;
}

static void go(struct framing_side *side, enum state state)
{
	side->state = (uint8_t)state;
	side->token_length = 0;
}

/* ---- the end of a message ---- */

static const char *request_done(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;

	if (framing->owed == OWED_MAX)
		return framing_pin(framing, end, "too many requests at once");
	if ((side->seen & HTTP1_SEEN_HEAD) != 0)
		framing->heads |= UINT64_C(1) << framing->owed;
	framing->owed++;
	go(side, AT_START);
	return at;
}

static const char *response_done(struct framing *framing, const char *at)
{
	framing->heads >>= 1;
	framing->owed--;
	go(&framing->response, AT_START);
	return at;
}

static const char *message_done(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	return side == &framing->request ? request_done(framing, at, end) : response_done(framing, at);
}

/* ---- the end of a head ---- */

/* A length or chunks were announced: go there. */
static const char *body_begins(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	if ((side->seen & HTTP1_SEEN_CHUNKED) != 0)
		go(side, AT_CHUNK_SIZE);
	else if (side->left > 0)
		go(side, AT_BODY);
	else
		return message_done(framing, side, at, end);
	return at;
}

static const char *request_head_done(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->request;
	bool has_body = (side->seen & HTTP1_SEEN_CHUNKED) != 0 || ((side->seen & HTTP1_SEEN_LENGTH) != 0 && side->left > 0);

	if ((side->seen & HTTP1_SEEN_HOST) == 0)
		return framing_pin(framing, end, "a request without Host");
	if (has_body && (side->seen & HTTP1_SEEN_BODILESS) != 0)
		return framing_pin(framing, end, "a body that the method does not have");
	if (!has_body && (side->seen & HTTP1_SEEN_EXPECT) != 0)
		return framing_pin(framing, end, "Expect without a body");
	if (!has_body)
		return request_done(framing, at, end);
	return body_begins(framing, side, at, end);
}

static const char *response_head_done(struct framing *framing, const char *at, const char *end)
{
	struct framing_side *side = &framing->response;
	bool lengthless = (side->seen & (HTTP1_SEEN_LENGTH | HTTP1_SEEN_CHUNKED)) == 0;

	if (side->status < 200) {
		if (!lengthless)
			return framing_pin(framing, end, "an interim answer with a length");
		go(side, AT_START);
		return at;
	}
	if ((framing->heads & 1) != 0 || side->status == 204 || side->status == 304) {
		if ((side->seen & HTTP1_SEEN_CHUNKED) != 0 || (side->status == 204 && !lengthless && side->left > 0))
			return framing_pin(framing, end, "a body where there is none");
		return response_done(framing, at);
	}
	if (lengthless)
		return framing_pin(framing, end, "an answer that ends with the connection");
	return body_begins(framing, side, at, end);
}

/* ---- ends of lines ---- */

/* One byte that must be CR or LF. */
static const char *step_line_end(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	bool is_cr = side->state == AT_CHUNK_CR || side->state == AT_LAST_CR;

	if (*at != (is_cr ? '\r' : '\n'))
		return framing_pin(framing, end, side->state == AT_LAST_CR ? "a trailer" : "a line that ends unusually");
	at++;
	switch ((enum state)side->state) {
	case AT_HEAD_LF:
		return side == &framing->request ? request_head_done(framing, at, end) : response_head_done(framing, at, end);
	case AT_CHUNK_SIZE_LF:
		go(side, side->left > 0 ? AT_CHUNK : AT_LAST_CR);
		return at;
	case AT_CHUNK_CR:
		go(side, AT_CHUNK_LF);
		return at;
	case AT_CHUNK_LF:
		go(side, AT_CHUNK_SIZE);
		return at;
	case AT_LAST_CR:
		go(side, AT_LAST_LF);
		return at;
	case AT_LAST_LF:
		return message_done(framing, side, at, end);
	default: /* AT_LINE_LF */
		go(side, AT_FIELD);
		return at;
	}
}

/* A CR ends the line: take it, and the LF where it is here. */
static const char *take_cr(struct framing *framing, struct framing_side *side, const char *at, const char *end, enum state lf)
{
	side->state = (uint8_t)lf;
	return ++at < end ? step_line_end(framing, side, at, end) : at;
}

/* ---- the request line ---- */

static const char *step_method(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end && *at >= 'A' && *at <= 'Z')
		framing_keep(side, *at++);
	if (at == end)
		return end;
	if (*at != ' ')
		return framing_pin(framing, end, "not a method");
	http1_method_named(framing, side);
	go(side, AT_TARGET_START);
	return framing->pinned_by == NULL ? at + 1 : end;
}

static const char *step_target_start(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	if (*at != '/')
		return framing_pin(framing, end, "a target that is not a path");
	side->state = AT_TARGET;
	return at + 1;
}

static const char *step_target(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end && is_byte(*at, HTTP1_BYTE_TARGET))
		at++;
	if (at == end)
		return end;
	if (*at != ' ')
		return framing_pin(framing, end, "an unusual byte in the target");
	go(side, AT_REQUEST_VERSION);
	return at + 1;
}

/* The token counts the bytes of the version that have come. */
static const char *step_version(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end && side->token_length < sizeof PROTOCOL - 1) {
		if (*at != PROTOCOL[side->token_length])
			return framing_pin(framing, end, "not HTTP/1.1");
		side->token_length++;
		at++;
	}
	if (at == end)
		return end;
	if (*at != (side->state == AT_REQUEST_VERSION ? '\r' : ' '))
		return framing_pin(framing, end, "not HTTP/1.1");
	if (side->state == AT_REQUEST_VERSION)
		return take_cr(framing, side, at, end, AT_LINE_LF);
	go(side, AT_STATUS);
	return at + 1;
}

/* ---- the status line ---- */

/* Answers of a server that understood something else than we did, or that says it will not read the rest. */
static bool is_disagreement(unsigned status)
{
	return status == 400 || status == 408 || status == 411 || status == 413 || status == 414 || status == 417 || status == 421 ||
	       status == 426 || status == 431 || status == 501 || status == 505;
}

static const char *status_known(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	if (side->status < 200 && side->status != 100 && side->status != 102 && side->status != 103)
		return framing_pin(framing, end, side->status == 101 ? "another protocol (101)" : "an unknown interim answer");
	if (side->status >= 600)
		return framing_pin(framing, end, "not a status");
	if (side->status >= 200 && framing->owed == 0)
		return framing_pin(framing, end, "an answer before the end of the request");
	if (is_disagreement(side->status))
		return framing_pin(framing, end, "the server did not take the request");
	side->state = AT_PLAIN; /* the reason */
	return at;
}

/* The token counts the digits. */
static const char *step_status(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	for (; at < end && side->token_length < 3; at++, side->token_length++) {
		if (*at < (side->token_length == 0 ? '1' : '0') || *at > '9')
			return framing_pin(framing, end, "not a status");
		side->status = (uint16_t)(side->status * 10 + (*at - '0'));
	}
	if (at == end)
		return end;
	if (*at != ' ')
		return framing_pin(framing, end, "not a status");
	return status_known(framing, side, at + 1, end);
}

/* ---- fields ---- */

/* Lower case into the token, '_' as '-': the other bytes of names that are not letters have the bit of lower case anyway. */
static const char *step_name(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	static const uint8_t states[] = {
		[HTTP1_VALUE_PLAIN] = AT_PLAIN, [HTTP1_VALUE_NUMBER] = AT_NUMBER, [HTTP1_VALUE_WORDS] = AT_WORDS
	};
	unsigned length = side->token_length;

	for (; at < end && is_byte(*at, HTTP1_BYTE_NAME); at++) {
		if (*at == '_')
			side->seen |= HTTP1_SEEN_ODD_NAME;
		if (length < FRAMING_TOKEN_MAX)
			side->token[length] = *at == '_' ? '-' : (char)(*at | 0x20);
		length++;
	}
	side->token_length = (uint8_t)(length <= FRAMING_TOKEN_MAX ? length : FRAMING_TOKEN_MAX + 1);
	if (at == end)
		return end;
	if (*at != ':')
		return framing_pin(framing, end, "an unusual byte in the name of a field");
	go(side, (enum state)states[http1_field_named(framing, side)]);
	return framing->pinned_by == NULL ? at + 1 : end;
}

static const char *step_field(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	if (*at == '\r')
		return take_cr(framing, side, at, end, AT_HEAD_LF);
	if (!is_byte(*at, HTTP1_BYTE_NAME))
		return framing_pin(framing, end, "a line that begins unusually");
	go(side, AT_NAME);
	return step_name(framing, side, at, end);
}

/* Up to the first control byte that is not a tab, eight bytes at a time: subtracting borrows only from bytes behind the first hit. */
static const char *skip_text(const char *at, const char *end)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;

	for (uint64_t word; end - at >= (ptrdiff_t)sizeof word;) {
		memcpy(&word, at, sizeof word);
		word = le64toh(word);
		uint64_t delete = word ^ ones * 0x7f;
		uint64_t hits = (((word - ones * 0x20) & ~word) | ((delete - ones) & ~delete)) & highs;
		if (hits == 0) {
			at += sizeof word;
			continue;
		}
		at += __builtin_ctzll(hits) / 8;
		if (*at != '\t')
			return at;
		at++;
	}
	while (at < end && is_byte(*at, HTTP1_BYTE_VALUE))
		at++;
	return at;
}

/* Of a field or of the reason of an answer. */
static const char *step_plain(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	at = skip_text(at, end);
	if (at == end)
		return end;
	if (*at != '\r')
		return framing_pin(framing, end, "a control byte in a field or a reason");
	return take_cr(framing, side, at, end, AT_LINE_LF);
}

/* The token counts the digits. */
static const char *step_number(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end && *at == ' ' && side->token_length == 0)
		at++;
	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		if ((side->token_length > 0 && side->left == 0) || ++side->token_length > LENGTH_DIGITS_MAX)
			return framing_pin(framing, end, "an unusual Content-Length");
		side->left = side->left * 10 + (uint64_t)(*at - '0');
	}
	if (at == end)
		return end;
	if (*at != '\r' || side->token_length == 0)
		return framing_pin(framing, end, "an unusual Content-Length");
	return take_cr(framing, side, at, end, AT_LINE_LF);
}

static const char *step_words(struct framing_side *side, const char *at, const char *end)
{
	while (at < end && *at == ' ')
		at++;
	if (at < end)
		go(side, AT_WORD);
	return at;
}

static const char *step_word(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end && is_byte(*at, HTTP1_BYTE_WORD))
		framing_keep(side, *at++);
	if (at == end)
		return end;
	if (*at != '\r' && !is_byte(*at, HTTP1_BYTE_VALUE))
		return framing_pin(framing, end, "a control byte in a field or a reason");
	enum http1_value value = http1_field_word(framing, side, *at);
	if (framing->pinned_by != NULL)
		return end;
	go(side, *at == '\r' ? AT_LINE_LF : value == HTTP1_VALUE_PLAIN ? AT_PLAIN : AT_WORD);
	return at + 1;
}

/* ---- bodies ---- */

static const char *step_body(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	at = framing_skip(side, at, end);
	return side->left == 0 ? message_done(framing, side, at, end) : at;
}

static const char *step_chunk(struct framing_side *side, const char *at, const char *end)
{
	at = framing_skip(side, at, end);
	if (side->left == 0)
		side->state = AT_CHUNK_CR;
	return at;
}

static int hex_digit(char byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The token counts the digits. */
static const char *step_chunk_size(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	int digit;

	if (side->token_length == 0)
		side->left = 0;
	for (; at < end && (digit = hex_digit(*at)) >= 0; at++) {
		if ((side->token_length > 0 && side->left == 0) || ++side->token_length > CHUNK_DIGITS_MAX)
			return framing_pin(framing, end, "an unusual chunk size");
		side->left = side->left << 4 | (uint64_t)digit;
	}
	if (at == end)
		return end;
	if (*at != '\r' || side->token_length == 0)
		return framing_pin(framing, end, "an unusual chunk size");
	return take_cr(framing, side, at, end, AT_CHUNK_SIZE_LF);
}

/* ---- the machine ---- */

/* The first byte of a message. An answer may begin before its request is complete only to let the body come. */
static const char *step_start(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	const struct framing_side *request = &framing->request;

	if (side != request && framing->owed == 0 && (request->state < AT_BODY || (request->seen & HTTP1_SEEN_EXPECT) == 0))
		return framing_pin(framing, end, "an answer that no request asked for");
	side->left = 0;
	side->passed = 0;
	side->status = 0;
	side->seen = 0;
	go(side, side == request ? AT_METHOD : AT_RESPONSE_VERSION);
	return at;
}

static const char *step(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	switch ((enum state)side->state) {
	case AT_START:
		return step_start(framing, side, at, end);
	case AT_METHOD:
		return step_method(framing, side, at, end);
	case AT_TARGET_START:
		return step_target_start(framing, side, at, end);
	case AT_TARGET:
		return step_target(framing, side, at, end);
	case AT_REQUEST_VERSION:
	case AT_RESPONSE_VERSION:
		return step_version(framing, side, at, end);
	case AT_STATUS:
		return step_status(framing, side, at, end);
	case AT_FIELD:
		return step_field(framing, side, at, end);
	case AT_NAME:
		return step_name(framing, side, at, end);
	case AT_PLAIN:
		return step_plain(framing, side, at, end);
	case AT_NUMBER:
		return step_number(framing, side, at, end);
	case AT_WORDS:
		return step_words(side, at, end);
	case AT_WORD:
		return step_word(framing, side, at, end);
	case AT_BODY:
		return step_body(framing, side, at, end);
	case AT_CHUNK_SIZE:
		return step_chunk_size(framing, side, at, end);
	case AT_CHUNK:
		return step_chunk(side, at, end);
	case AT_LINE_LF:
	case AT_HEAD_LF:
	case AT_CHUNK_SIZE_LF:
	case AT_CHUNK_CR:
	case AT_CHUNK_LF:
	case AT_LAST_CR:
	case AT_LAST_LF:
		return step_line_end(framing, side, at, end);
	}
	return framing_pin(framing, end, "no state");
}

static void run(struct framing *framing, struct framing_side *side, const char *at, const char *end)
{
	while (at < end) {
		bool in_head = side->state < AT_BODY;
		const char *next = step(framing, side, at, end);

		if (in_head && (size_t)(next - at) > HEAD_MAX - side->passed) {
			framing_pin(framing, end, "a head is too long");
			return;
		}
		if (in_head)
			side->passed += (uint32_t)(next - at);
		at = next;
	}
}

void http1_request(struct framing *framing, const char *at, const char *end)
{
	run(framing, &framing->request, at, end);
}

void http1_response(struct framing *framing, const char *at, const char *end)
{
	run(framing, &framing->response, at, end);
}
