/* What an ACME authority asks to see whose a name is: http-01 (RFC 8555 8.3), as far as a proxy needs it to answer in the place of the
 * server: "GET /.well-known/acme-challenge/TOKEN HTTP/1.1", the end of its head, and the head of the answer. Pure.
 *
 * Strict where it decides who is answered: whatever is written in another way (a query, an encoded byte, a host in front of the path, a
 * space too many) is a request like others, for the server. Of the rest of the head only the end is looked for.
 */
#ifndef AEGIS_PROTO_ACME_H
#define AEGIS_PROTO_ACME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/attr.h"

/* A token is base64url; those that are in use have 22 to 43 bytes. No request is longer than ACME_LINE_MOST and still ACME_MORE. */
enum { ACME_TOKEN_MOST = 128, ACME_LINE_MOST = 192 };

enum acme_verdict {
	ACME_MORE,   /* so far it is such a request, or there is nothing yet */
	ACME_OTHER,  /* it is none, whatever follows */
	ACME_REQUEST /* its first line is complete */
};

struct acme_request {
	bool head; /* the method is HEAD: no content is asked for */
	uint8_t token_length;
	char token[ACME_TOKEN_MOST + 1];
};

/* The first bytes of a client. *out is set with ACME_REQUEST only. */
must_check enum acme_verdict acme_request(const char *bytes, size_t count, struct acme_request *out);

/* The head of a request, in pieces, from its first byte on. */
enum acme_head { ACME_HEAD_LINE_BEGINS, ACME_HEAD_CR, ACME_HEAD_LINE, ACME_HEAD_ENDED };
/* More of it: where it is now. Begins with ACME_HEAD_LINE_BEGINS; what comes after its end is left alone. */
must_check enum acme_head acme_head_feed(enum acme_head head, const char *bytes, size_t count);

/* The head of an answer with so many bytes of content. Returns its length, which is less than ACME_ANSWER_HEAD_SIZE. */
enum { ACME_ANSWER_HEAD_SIZE = 256 };
size_t acme_answer_head(char out[ACME_ANSWER_HEAD_SIZE], size_t content_length, time_t now);

#endif
