/* The header fields that decide where an HTTP/1 message ends and whether it leaves state. Private to src/proto. */
#ifndef AEGIS_PROTO_HTTP1_H
#define AEGIS_PROTO_HTTP1_H

#include "proto/parsers.h"

enum http1_seen {
	HTTP1_SEEN_LENGTH = 1,    /* Content-Length */
	HTTP1_SEEN_CHUNKED = 2,   /* Transfer-Encoding: chunked */
	HTTP1_SEEN_HOST = 4,      /* Host */
	HTTP1_SEEN_EXPECT = 8,    /* Expect: 100-continue */
	HTTP1_SEEN_HEAD = 16,     /* the method is HEAD */
	HTTP1_SEEN_BODILESS = 32, /* the method goes without a body */
	HTTP1_SEEN_ODD_NAME = 64, /* the name of this field has '_', which some servers take for '-' */
};

/* How the value of a field is read. */
enum http1_value {
	HTTP1_VALUE_PLAIN,  /* any text */
	HTTP1_VALUE_NUMBER, /* decimal digits into left */
	HTTP1_VALUE_WORDS,  /* words, each given to http1_field_word() */
};

/* Which bytes may stand where. */
enum {
	HTTP1_BYTE_NAME = 1,   /* in the name of a field */
	HTTP1_BYTE_TARGET = 2, /* in the target of a request */
	HTTP1_BYTE_VALUE = 4,  /* in the value of a field and in the reason of an answer */
	HTTP1_BYTE_WORD = 8,   /* in a word of a value that is read in words */
};
extern const uint8_t http1_bytes[256];

/* The name in side->token, lower case, '_' as '-', is complete: note what it means. Pins, or sets side->field and says how the value
 * is read. */
enum http1_value http1_field_named(struct framing *framing, struct framing_side *side);

/* A word of the value is in side->token as it was written, ended by the byte after: '\r' at the end of the value. Pins, or says how
 * the value goes on. */
enum http1_value http1_field_word(struct framing *framing, struct framing_side *side, char after);

/* The method in side->token is complete: pins, or notes what it means. */
void http1_method_named(struct framing *framing, struct framing_side *side);

#endif
