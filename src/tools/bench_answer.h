/* An HTTP/1 response as aegis-bench reads it: where it ends, what its status is, whether the connection goes on. A parser without a
 * socket; bytes come in pieces of any size. A head in one piece is read where it lies; only one in several pieces is copied, into a
 * buffer that is made once and kept for the messages that follow.
 */
#ifndef AEGIS_TOOLS_BENCH_ANSWER_H
#define AEGIS_TOOLS_BENCH_ANSWER_H

#include <stdbool.h>

#include "base/attr.h"

enum { ANSWER_HEAD_BYTES = 16384 };

enum answer_phase {
	ANSWER_HEAD,
	ANSWER_BODY, /* of known length */
	ANSWER_CHUNK_SIZE,
	ANSWER_CHUNK_EXTENSION,
	ANSWER_CHUNK,
	ANSWER_CHUNK_END,
	ANSWER_TRAILER,
	ANSWER_UNTIL_CLOSE,
	ANSWER_COMPLETE
};

struct answer {
	enum answer_phase phase;
	int status;
	bool keep_alive;
	bool digits;         /* in CHUNK_SIZE: at least one was there; in TRAILER: the line is not empty */
	uint64_t left;       /* of the body or the chunk */
	uint64_t body_bytes; /* so far, without the framing of chunks */
	char *head;          /* NULL until one came in pieces */
	size_t head_bytes;
};

/* Expect a new response. A zeroed struct is a good start for the first one. */
void answer_begin(struct answer *answer);
void answer_fini(struct answer *answer);

/* Take bytes; *used says how many belong to this response (all of them until it is complete). 0 (look at the phase), -EPROTO (this is
 * not HTTP/1 as it should be) or -ENOMEM. */
must_check int answer_feed(struct answer *answer, const char *bytes, size_t size, size_t *used);

/* How many of the next bytes are body and need not be looked at; and to say that they came. */
uint64_t answer_skippable(const struct answer *answer);
void answer_skip(struct answer *answer, uint64_t size);

/* The peer sends no more. Whether that is how this response ends. */
bool answer_ends(struct answer *answer);

#endif
