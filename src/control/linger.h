/* Closing sockets without hurting the server: a close while input is unread, or before the server's last words have come, would send it a
 * RST. So our side is ended, what still comes is thrown away, and the socket is closed when the server has ended its side: after a second
 * or LINGER_BYTES at the latest, and sooner when there are too many.
 *
 * Process: control. Owner of the descriptors that it was given.
 */
#ifndef AEGIS_CONTROL_LINGER_H
#define AEGIS_CONTROL_LINGER_H

#include "base/clock.h"
#include "os/loop.h"

#define LINGER_NS NS_PER_S
enum { LINGER_MOST = 256, LINGER_BYTES = 256 << 10 };

struct lingerer;

struct linger_set {
	struct loop *loop;
	struct loop_timer timer; /* for the first one */
	struct lingerer *first;  /* in the order of their deadlines */
	struct lingerer **last;
	unsigned count;
};

void linger_init(struct linger_set *linger, struct loop *loop);
/* Close all at once. */
void linger_fini(struct linger_set *linger);
/* A stream socket that nobody watches any more, connected or not. */
void linger_close(struct linger_set *linger, int fd);

#endif
