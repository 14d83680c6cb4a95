#include "proto/http1.h"

#include <string.h>
#include <strings.h>

/* Names of letters, digits, '-', '_' and '.': what else the standard allows is in no field of practice, and read differently. */
#define NAME HTTP1_BYTE_NAME
#define TARGET HTTP1_BYTE_TARGET
#define VALUE HTTP1_BYTE_VALUE
#define WORD HTTP1_BYTE_WORD
const uint8_t http1_bytes[256] = {
	['\t'] = VALUE,
	[' '] = VALUE,
	['!'] = TARGET | VALUE | WORD,
	['"'] = TARGET | VALUE,
	['#' ... '+'] = TARGET | VALUE | WORD,
	[','] = TARGET | VALUE,
	['-'] = NAME | TARGET | VALUE | WORD,
	['.'] = NAME | TARGET | VALUE | WORD,
	['/'] = TARGET | VALUE | WORD,
	['0' ... '9'] = NAME | TARGET | VALUE | WORD,
	[':'] = TARGET | VALUE | WORD,
	[';'] = TARGET | VALUE | WORD,
	['<'] = TARGET | VALUE | WORD,
	['='] = TARGET | VALUE,
	['>' ... '@'] = TARGET | VALUE | WORD,
	['A' ... 'Z'] = NAME | TARGET | VALUE | WORD,
	['[' ... '^'] = TARGET | VALUE | WORD,
	['_'] = NAME | TARGET | VALUE | WORD,
	['`'] = TARGET | VALUE | WORD,
	['a' ... 'z'] = NAME | TARGET | VALUE | WORD,
	['{' ... '~'] = TARGET | VALUE | WORD,
	[0x80 ... 0xff] = VALUE | WORD,
};

enum field {
	FIELD_CONNECTION,
	FIELD_LENGTH,
	FIELD_CODING,
	FIELD_HOST,
	FIELD_EXPECT,
	FIELD_CREDENTIALS,
	FIELD_CHALLENGE,
	FIELD_UPGRADE,
	FIELD_METHOD,
	FIELD_AUTHENTICATED,
};

enum { IN_REQUEST = 1, IN_RESPONSE = 2, IN_BOTH = 3 };

struct field_row {
	uint8_t length;
	uint8_t field;
	uint8_t where;
	char name[FRAMING_TOKEN_MAX + 1];
};

#define ROW(name, field, where)                      \
	{                                            \
		sizeof(name) - 1, field, where, name \
	}

/* Every other field is plain text. By length. */
static const struct field_row fields[] = {
	ROW("host", FIELD_HOST, IN_REQUEST),
	ROW("expect", FIELD_EXPECT, IN_REQUEST),
	ROW("upgrade", FIELD_UPGRADE, IN_REQUEST),
	ROW("connection", FIELD_CONNECTION, IN_BOTH),
	ROW("x-http-method", FIELD_METHOD, IN_REQUEST),
	ROW("authorization", FIELD_CREDENTIALS, IN_REQUEST),
	ROW("content-length", FIELD_LENGTH, IN_BOTH),
	ROW("persistent-auth", FIELD_AUTHENTICATED, IN_RESPONSE),
	ROW("proxy-connection", FIELD_CONNECTION, IN_BOTH),
	ROW("www-authenticate", FIELD_CHALLENGE, IN_RESPONSE),
	ROW("transfer-encoding", FIELD_CODING, IN_BOTH),
	ROW("x-method-override", FIELD_METHOD, IN_REQUEST),
	ROW("proxy-authenticate", FIELD_CHALLENGE, IN_RESPONSE),
	ROW("proxy-authorization", FIELD_CREDENTIALS, IN_REQUEST),
	ROW("x-http-method-override", FIELD_METHOD, IN_REQUEST),
};

/* One more than the first row for each length; 0 = none. */
static const uint8_t first_of_length[FRAMING_TOKEN_MAX + 2] = {
	[4] = 1,
	[6] = 2,
	[7] = 3,
	[10] = 4,
	[13] = 5,
	[14] = 7,
	[15] = 8,
	[16] = 9,
	[17] = 11,
	[18] = 13,
	[19] = 14,
	[22] = 15,
};

static const struct field_row *find_field(const struct framing_side *side, unsigned where)
{
	size_t first = first_of_length[side->token_length];

	if (first == 0)
		return NULL;
	for (size_t i = first - 1; i < ARRAY_LEN(fields) && fields[i].length == side->token_length; i++)
		if ((fields[i].where & where) != 0 && memcmp(fields[i].name, side->token, side->token_length) == 0)
			return &fields[i];
	return NULL;
}

static enum http1_value pinned(struct framing *framing, const char *reason)
{
	framing_pin(framing, NULL, reason);
	return HTTP1_VALUE_PLAIN;
}

static enum http1_value length_named(struct framing *framing, struct framing_side *side)
{
	if ((side->seen & (HTTP1_SEEN_LENGTH | HTTP1_SEEN_CHUNKED)) != 0)
		return pinned(framing, "more than one length");
	side->seen |= HTTP1_SEEN_LENGTH;
	side->left = 0;
	return HTTP1_VALUE_NUMBER;
}

static enum http1_value coding_named(struct framing *framing, struct framing_side *side)
{
	if ((side->seen & (HTTP1_SEEN_LENGTH | HTTP1_SEEN_CHUNKED)) != 0)
		return pinned(framing, "more than one length");
	side->seen |= HTTP1_SEEN_CHUNKED;
	return HTTP1_VALUE_WORDS;
}

static enum http1_value host_named(struct framing *framing, struct framing_side *side)
{
	if ((side->seen & HTTP1_SEEN_HOST) != 0)
		return pinned(framing, "more than one Host");
	side->seen |= HTTP1_SEEN_HOST;
	return HTTP1_VALUE_PLAIN;
}

static enum http1_value expect_named(struct framing *framing, struct framing_side *side)
{
	if ((side->seen & HTTP1_SEEN_EXPECT) != 0)
		return pinned(framing, "more than one Expect");
	side->seen |= HTTP1_SEEN_EXPECT;
	return HTTP1_VALUE_WORDS;
}

enum http1_value http1_field_named(struct framing *framing, struct framing_side *side)
{
	const struct field_row *row = find_field(side, side == &framing->request ? IN_REQUEST : IN_RESPONSE);
	bool odd = (side->seen & HTTP1_SEEN_ODD_NAME) != 0;

	side->seen &= (uint8_t)~HTTP1_SEEN_ODD_NAME;
	if (row == NULL)
		return HTTP1_VALUE_PLAIN;
	if (odd)
		return pinned(framing, "a field whose name is nearly one that counts");
	side->field = row->field;
	switch ((enum field)row->field) {
	case FIELD_LENGTH:
		return length_named(framing, side);
	case FIELD_CODING:
		return coding_named(framing, side);
	case FIELD_HOST:
		return host_named(framing, side);
	case FIELD_EXPECT:
		return expect_named(framing, side);
	case FIELD_CONNECTION:
	case FIELD_CREDENTIALS:
	case FIELD_CHALLENGE:
		return HTTP1_VALUE_WORDS;
	case FIELD_UPGRADE:
		return pinned(framing, "Upgrade");
	case FIELD_METHOD:
		/* an overridden HEAD has an answer without the body that it announces */
		return pinned(framing, "a method override");
	case FIELD_AUTHENTICATED:
		return pinned(framing, "authentication of the connection");
	}
	return pinned(framing, "a field of no kind");
}

/* ---- words of a value ---- */

static bool is_word(const struct framing_side *side, const char *word)
{
	return side->token_length == strlen(word) && strncasecmp(side->token, word, side->token_length) == 0;
}

static bool is_one_of(const struct framing_side *side, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_word(side, words[i]))
			return true;
	return false;
}

static enum http1_value connection_word(struct framing *framing, struct framing_side *side, char after)
{
	if (after != ',' && after != ' ' && after != '\r')
		return pinned(framing, "Connection: something unusual");
	if (side->token_length == 0 || is_word(side, "keep-alive"))
		return HTTP1_VALUE_WORDS;
	/* a server that offers an upgrade does not change protocols by that: 101 does */
	if (side == &framing->response && is_word(side, "upgrade"))
		return HTTP1_VALUE_WORDS;
	return pinned(framing, is_word(side, "close") ? "Connection: close" : "Connection: something unusual");
}

/* Of the schemes of credentials, those that hold for one request each. NTLM and Negotiate are for the connection. */
static const char *const request_schemes[] = { "basic", "bearer", "digest", "token", "apikey", "dpop", "hawk", "aws4-hmac-sha256" };
static const char *const connection_schemes[] = { "ntlm", "negotiate", "nego2", "kerberos", "pku2u", "livessp" };

static enum http1_value credentials_word(struct framing *framing, struct framing_side *side, char after)
{
	if ((after != ' ' && after != '\r') || !is_one_of(side, request_schemes, ARRAY_LEN(request_schemes)))
		return pinned(framing, "credentials that may be for the connection");
	return HTTP1_VALUE_PLAIN;
}

static enum http1_value challenge_word(struct framing *framing, struct framing_side *side)
{
	if (is_one_of(side, connection_schemes, ARRAY_LEN(connection_schemes)))
		return pinned(framing, "authentication of the connection");
	return HTTP1_VALUE_WORDS;
}

enum http1_value http1_field_word(struct framing *framing, struct framing_side *side, char after)
{
	switch ((enum field)side->field) {
	case FIELD_CODING:
		if (after != '\r' || side->token_length != 7 || memcmp(side->token, "chunked", 7) != 0)
			return pinned(framing, "Transfer-Encoding is not just chunked");
		return HTTP1_VALUE_WORDS;
	case FIELD_EXPECT:
		if (after != '\r' || !is_word(side, "100-continue"))
			return pinned(framing, "Expect is not just 100-continue");
		return HTTP1_VALUE_WORDS;
	case FIELD_CONNECTION:
		return connection_word(framing, side, after);
	case FIELD_CREDENTIALS:
		return credentials_word(framing, side, after);
	case FIELD_CHALLENGE:
		return challenge_word(framing, side);
	default:
		return pinned(framing, "a field of no kind");
	}
}

/* ---- methods ---- */

/* Only methods whose messages end as the standard says. A body of GET, HEAD and DELETE means nothing to some servers, which then take
 * it for the next request. CONNECT and unknown methods are not here: they pin. */
static const struct {
	const char *name;
	uint8_t seen;
} methods[] = {
	{ "GET", HTTP1_SEEN_BODILESS },
	{ "HEAD", HTTP1_SEEN_BODILESS | HTTP1_SEEN_HEAD },
	{ "POST", 0 },
	{ "PUT", 0 },
	{ "DELETE", HTTP1_SEEN_BODILESS },
	{ "OPTIONS", 0 },
	{ "PATCH", 0 },
	{ "PROPFIND", 0 },
	{ "PROPPATCH", 0 },
	{ "MKCOL", 0 },
	{ "COPY", 0 },
	{ "MOVE", 0 },
	{ "LOCK", 0 },
	{ "UNLOCK", 0 },
	{ "REPORT", 0 },
	{ "SEARCH", 0 },
};

void http1_method_named(struct framing *framing, struct framing_side *side)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		if (side->token_length == strlen(methods[i].name) && memcmp(side->token, methods[i].name, side->token_length) == 0) {
			side->seen |= methods[i].seen;
			return;
		}
	}
	framing_pin(framing, NULL, "a method that may need the connection");
}
