/* One proxied TCP connection: from accept to close, in named steps.
 *
 * Process: a worker. Owner: struct tcp (tcp.h), from whose slab it comes.
 * Steps:   admit -> reserve -> challenge -> hello -> handshake -> choose -> wait -> connect -> starttls -> server handshake -> relay; hello
 * and starttls are for listeners with routes (hello.h), without TLS there are no handshakes, who got a server at once need not wait, and a
 * failed connect goes back to choose. Each step is a row in one table: name, function, deadline; one driver runs the table and one function
 * ends it, always with a reason.
 */
#ifndef AEGIS_TCP_SESSION_H
#define AEGIS_TCP_SESSION_H

#include <assert.h>

#include "base/wheel.h"
#include "house/visit.h"
#include "relay/relay.h"

/* Of the step of that name (challenge.h). */
enum challenge_phase { CHALLENGE_UNKNOWN, CHALLENGE_HEAD, CHALLENGE_ANSWER, CHALLENGE_LINGER };
struct challenge {
	int fd;               /* of the file, unless UNKNOWN; -1 = none */
	uint32_t sent;        /* bytes of the answer */
	uint32_t length;      /* all of them, once some are sent */
	uint8_t phase;        /* enum challenge_phase */
	uint8_t head;         /* enum acme_head */
	bool without_content; /* asked by HEAD */
	bool refused;         /* it was none, and there is nobody else (acme.only) */
};

struct introduction;
struct pace;
struct reuse;
struct tcp_listener;

struct session {
	struct relay relay; /* the connections are in its sides from the start; that of the server is NULL while there is none */
	struct wheel_entry timer;
	struct visit visit;
	union {
		struct {                      /* until it relays */
			struct waiter waiter; /* for a server; its ticket stays when it has left the line */
			uint16_t tried[CONFIG_MAX_RETRIES + 1];
		};
		struct challenge challenge; /* in that step; zero when it goes on */
		struct {
			struct breaker_pass pass; /* from when it has a server, which is not in line */
			/* while it relays */
			uint64_t activity_ns;   /* the last byte either way */
			uint64_t asked_ns;      /* the first client byte that the server has not answered; 0 = none */
			uint64_t tick_ns;       /* when the relay wants its tick; WHEEL_NEVER = not at all */
			uint64_t first_byte_ns; /* when the server's first byte came; 0 = none yet */
		};
	};
	union {
		struct introduction *introduction; /* while visit.proxied: what a proxy told of the client, or NULL */
		struct pace *pace;                 /* bandwidth and min_rate, from when it relays, or NULL */
	};
	struct reuse *reuse; /* what it has to do with a pool, or NULL */
};

static_assert((int)SIDE_CLIENT == (int)FROM_CLIENT && (int)SIDE_SERVER == (int)FROM_SERVER, "visit.bytes is by enum side");
static_assert(sizeof(struct session) % 16 == 0 && sizeof(struct conn) % 16 == 0, "as slabs round them");
static_assert(sizeof(struct session) == 288, "look for room before it grows");
static_assert(sizeof(struct session) + 2 * sizeof(struct conn) <= 512, "an idle proxied connection costs at most 512 bytes");

/* Begin with an accepted connection; the session is fresh from the slab, has its visit and is in the house. It may be over when this
 * returns. */
void session_begin(struct session *session, struct conn *client, bool reserved);

/* End it: close both sides in the manner that the reason asks for, count, give everything back. The session is gone. */
void session_end(struct session *session, enum reason reason);

/* Its timer fired. */
void session_due(struct session *session);

/* For reuse.c: once more from the connect step, with no server connection; the relay's tick is wanted at a time. */
void session_reconnect(struct session *session);
void session_tick_at(struct session *session, uint64_t due_ns);

/* For wait.c: take a server; go on to the connect step with it. */
must_check enum upstream_choice session_take(struct session *session);
void session_connect(struct session *session);
/* Why it got none. */
enum record_want session_want(enum upstream_choice choice);
/* For pace.c: a deadline may have become earlier. */
void session_arm(struct session *session);

/* What can be done with it from outside; its listener. */
extern const struct visit_kind session_kind;
struct tcp_listener *session_listener(const struct session *session);

/* What the relay tells a session. */
extern const struct relay_session_ops session_relay_ops;

#endif
