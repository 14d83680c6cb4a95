/* Asking the workers what they have: the connections that are open, and the end of one of them.
 *
 * Which connections there are stands nowhere in shared memory: keeping it there would cost every connection something, and hardly anyone
 * asks. The control process writes a request into the box of each seat and rings the worker's bell; the worker answers between two turns of
 * its loop, with no more than it can do in some microseconds, and is asked again for the rest. Who does not answer in time is stuck or
 * dead: that is an answer as well.
 *
 * A request has a number that no other has, and a series, the number of its first request: a worker goes on where it stopped as long as
 * the series stays. So nothing has to be undone when either dies, and whoever reads an answer knows whose it is. Neither believes the
 * other: a worker changes nothing but its own state, and the numbers in an answer are checked before they are used.
 *
 * Writers: the box as it says; rows by the worker while a request is not answered.
 */
#ifndef AEGIS_SHM_ROLL_H
#define AEGIS_SHM_ROLL_H

#include <stdatomic.h>

#include "shm/recorder.h"

/* The steps of a connection inside a worker: tcp/session.h. */
#define SESSION_STEPS(X)              \
	X(ADMIT, "admit")             \
	X(RESERVE, "reserve")         \
	X(PROXY, "proxy_header")      \
	X(CHALLENGE, "challenge")     \
	X(HELLO, "hello")             \
	X(HANDSHAKE, "handshake")     \
	X(CHOOSE, "choose")           \
	X(LINE, "wait")               \
	X(CONNECT, "connect")         \
	X(INTRODUCE, "introduce")     \
	X(STARTTLS, "starttls")       \
	X(SECURE, "server_handshake") \
	X(RELAY, "relay")

enum step {
#define X(id, name) STEP_##id,
	SESSION_STEPS(X)
#undef X
	        N_STEPS
};
const char *step_name(enum step step);

enum roll_kind {
	ROLL_LIST, /* the next connections, the oldest first */
	ROLL_KILL  /* end the one with this serial; looks at the next ones of them */
};

enum roll_state {
	ROLL_MORE,  /* there may be more: ask again */
	ROLL_END,   /* that was all */
	ROLL_LOST,  /* it does not know the series: it began to work after that */
	ROLL_KILLED /* of ROLL_KILL: it was there, and is no more */
};

/* Connections in an answer, and those that are looked at for one that is to be ended. */
enum { ROLL_ROWS = 256, ROLL_LOOKS = 4096, ROLL_NO_SERVER = UINT16_MAX, ROLL_NAME_SIZE = 44 };

/* The TLS of a side: a version, and whether the session was resumed. */
enum roll_tls { ROLL_PLAIN, ROLL_TLS_1_2, ROLL_TLS_1_3, N_ROLL_TLS, ROLL_RESUMED = 0x80 };
enum roll_side { ROLL_CLIENT, ROLL_SERVER, N_ROLL_SIDES };

struct roll_row {
	_Alignas(CACHE_LINE_BYTES) uint32_t serial;
	uint8_t step; /* enum step */
	uint8_t is_udp;
	uint16_t listener, server; /* rows */
	struct record_address client;
	uint8_t tls[N_ROLL_SIDES];       /* enum roll_tls */
	uint64_t accepted_ns, active_ns; /* active: the last byte either way, or the last step */
	uint64_t up_bytes, down_bytes;   /* from the client, from the server */
	uint64_t up_datagrams, down_datagrams;
	char name[ROLL_NAME_SIZE];      /* that the client asked for, as much of it as there is room for; NUL-terminated, "" = none */
	uint16_t ciphers[N_ROLL_SIDES]; /* by the numbers of the TLS registry */
};

static_assert(sizeof(struct roll_row) == 2 * CACHE_LINE_BYTES, "as many of them as an answer has are a buffer for each seat");

struct roll_box {
	/* writer: control */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t asked; /* the number of the request; written last */
	_Atomic uint64_t series;
	_Atomic uint32_t kind; /* enum roll_kind */
	_Atomic uint32_t serial;
	/* writer: the worker */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t answered; /* the number of the request; written last */
	_Atomic uint32_t state;                               /* enum roll_state */
	_Atomic uint32_t n;                                   /* rows */
};

struct roll_request {
	uint64_t number, series;
	enum roll_kind kind;
	uint32_t serial;
};

/* Control: ask. The bell is the caller's. */
void roll_ask(struct roll_box *box, const struct roll_request *request);
/* Worker: is there a request that it has not answered? */
must_check bool roll_is_asked(const struct roll_box *box, struct roll_request *out);
/* Worker: the first n rows of the seat are the answer. */
void roll_answer(struct roll_box *box, const struct roll_request *request, enum roll_state state, uint32_t n);
/* Control: copy the answer to this request into rows[ROLL_ROWS]. False when there is none yet. */
must_check bool roll_is_answered(const struct roll_box *box, const struct roll_row *shared, uint64_t number, enum roll_state *state,
        struct roll_row *rows, uint32_t *n);

#endif
