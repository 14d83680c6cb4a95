/* A session that waits in line for a server (upstream/line.h): because all are full, because connect_rate allows no new connection now, or,
 * with when_all_down = "wait", because none is usable.
 *
 * Process: a worker.
 * The client is watched meanwhile: one that ends its side, or breaks, has left the line. What it sends before that stays in the kernel.
 */
#ifndef AEGIS_TCP_WAIT_H
#define AEGIS_TCP_WAIT_H

#include "shm/reasons.h"
#include "upstream/upstream.h"

struct session;

/* May a session wait that got no server? Where not, *why_not. */
must_check bool wait_is_worth_while(const struct session *session, enum upstream_choice choice, enum reason *why_not);
/* Join the line. False when the session is over. */
must_check bool wait_begin(struct session *session);
/* Leave the line; of one that is in none nothing happens. */
void wait_end(struct session *session);
/* It is its turn; see struct line_ops. */
void wait_serve(struct line *line, struct waiter *waiter, uint64_t *due_ns);

#endif
