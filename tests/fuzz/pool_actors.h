/* Who drives the pools in pool_cross.c: clients that each send bytes of their own, and a server that is as bad as it can be.
 *
 * A client's bytes carry its tag: all that is 0x80 and above is the tag itself. The server answers with the tag of whom it heard last on
 * the connection; it reads all that is there before it says anything, and while it cannot tell whose bytes it has read it says nothing of
 * anybody. So whatever reaches a client with another tag was said before this client had the connection.
 */
#ifndef AEGIS_TESTS_POOL_ACTORS_H
#define AEGIS_TESTS_POOL_ACTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/framing.h"

enum { OUT_MOST = 32 * 1024, CLIENTS = 6, PEERS = 64 };

struct chance {
	uint64_t state;
};
uint32_t chance_below(struct chance *chance, uint32_t n);
static inline bool chance_percent(struct chance *chance, uint32_t percent)
{
	return chance_below(chance, 100) < percent;
}

struct manners {
	enum framing_kind kind;
	uint32_t bad_client; /* percent */
	uint32_t bad_server;
};

struct client {
	int fd; /* -1 = none */
	uint8_t tag;
	bool ended; /* its side */
	size_t out_at, out_length;
	char out[OUT_MOST];
};

/* A connection of the server. */
struct peer {
	int fd;
	struct framing framing;
	int owner;  /* the tag heard last; -1 = nobody's */
	bool known; /* the owner is whose bytes were read last */
	bool was_clean;
	bool said_bad;
	size_t rest_at, rest_length; /* of an answer, to be sent later */
	char rest[OUT_MOST];
};

/* What was found; NULL = nothing. */
extern const char *found;
extern uint64_t tagged_bytes; /* that clients received, all their own */

void client_begin(struct client *client, int fd, uint8_t tag, const struct manners *manners, struct chance *chance);
/* One thing that a client does; it may be gone after it. */
void client_act(struct client *client, const struct manners *manners, struct chance *chance);
void client_close(struct client *client);

void peer_begin(struct peer *peer, int fd, const struct manners *manners);
void peer_act(struct peer *peer, const struct manners *manners, struct chance *chance);
void peer_close(struct peer *peer);

#endif
