/* Message framing: may a server connection be given to another client?
 *
 * Follows the bytes of one client on one server connection, in both directions, and proves, or fails to prove, that nothing is
 * owed and that no state is left. It never changes a byte, holds none beyond a short token, and knows no sockets and no clock.
 *
 * Process: a worker. Owner: who holds the server connection; one struct framing for each client on it, begun with framing_init().
 * States:  CLEAN <-> PARTIAL <-> OWED, and PINNED from any of them, for ever. Whatever is ambiguous, unusual or beyond a bound pins:
 *          a pinned connection still serves its client as if there were no framing, and is closed after it.
 *
 * What the caller owes, so that the verdict holds:
 *   - every byte is told, in order, before it is passed on: a request before it is sent (an answer to bytes not yet told pins);
 *   - CLEAN speaks of the bytes told so far: a connection that has more to read (or its end) must not be given away;
 *   - what was told is sent: CLEAN is of no use while told bytes still wait in a buffer;
 *   - a connection that began with something else than the client's bytes (a PROXY header) says whose it is: keep it for him.
 *
 * The server is taken to follow the standard: one that ends a well-formed message elsewhere cannot be told from here.
 */
#ifndef AEGIS_PROTO_FRAMING_H
#define AEGIS_PROTO_FRAMING_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing_kind {
	FRAMING_NONE,  /* unknown bytes: the first one pins */
	FRAMING_HTTP1, /* HTTP/1.1 (RFC 9110, RFC 9112) */
	FRAMING_REDIS, /* RESP2 and RESP3 */
	FRAMING_LINE,  /* a line answered by a line, each ended by \n */
};

enum framing_verdict {
	FRAMING_CLEAN,   /* every request complete and answered in full, no state left: another client may have the connection */
	FRAMING_OWED,    /* requests are complete, answers are still due: CLEAN when they are here */
	FRAMING_PARTIAL, /* the client is in the middle of a request */
	FRAMING_PINNED,  /* never for another client: state was left, or something could not be understood exactly */
};

enum {
	FRAMING_TOKEN_MAX = 22, /* bytes kept of a name or a word, which may come in pieces */
	FRAMING_DEPTH_MAX = 8,  /* of nested answers */
};

/* One direction. Private to src/proto. */
struct framing_side {
	uint64_t left;        /* bytes of the body, of the chunk or of the string still to come; the number while it is read */
	uint32_t passed;      /* bytes of this head or line so far; arguments still to come (redis requests) */
	uint16_t status;      /* HTTP/1: of the answer that is coming */
	uint8_t state;        /* of the parser of this kind; 0 = between two messages */
	uint8_t field;        /* HTTP/1: which field the value belongs to; redis: which type the number belongs to */
	uint8_t seen;         /* HTTP/1: flags of the message so far */
	uint8_t token_length; /* FRAMING_TOKEN_MAX + 1: longer than what is kept */
	char token[FRAMING_TOKEN_MAX];
};

struct framing {
	const char *pinned_by; /* NULL = not pinned */
	struct framing_side request, response;
	union {
		uint64_t heads;                     /* HTTP/1: bit i = the i-th request owed is a HEAD */
		uint32_t nested[FRAMING_DEPTH_MAX]; /* redis: elements still to come at each depth of the answer */
	};
	uint32_t owed;      /* complete requests without a complete answer */
	uint8_t kind;       /* enum framing_kind */
	uint8_t depth;      /* redis: of nested that are in use */
	uint8_t attributes; /* redis: bit i = nested[i] is an attribute, which comes before its element */
};
static_assert(sizeof(struct framing) <= 128, "one for each server connection");

/* Nothing has passed yet. Memory of zeros is a framing of FRAMING_NONE. */
void framing_init(struct framing *framing, enum framing_kind kind);

/* The client sent these bytes; the server sent these bytes. Any split; count may be 0. */
void framing_request(struct framing *framing, const char *bytes, size_t count);
void framing_response(struct framing *framing, const char *bytes, size_t count);

enum framing_verdict framing_verdict(const struct framing *framing);

/* Why it is pinned, for the log: a few words of static text, or NULL where it is not pinned. */
const char *framing_pinned_by(const struct framing *framing);

/* How many complete requests wait for an answer or for the rest of one. 0 where pinned: it is not known then. */
uint32_t framing_owed(const struct framing *framing);

#endif
