/* The sockets of UDP listeners pass from one generation to the next. A connection that waits in a queue is whoever's accepts it; a datagram
 * belongs to a session, which one worker has. So one generation at a time reads: who yields a listener stops reading its sockets and only
 * answers by them, and what comes for its sessions is handed over by those that read now.
 *
 * Process: the master. What its workers yield is kept in each generation.
 */
#ifndef AEGIS_MASTER_YIELD_H
#define AEGIS_MASTER_YIELD_H

#include "master/generation.h"

/* Every generation yields the listeners that a newer one uses, and reads the others. The newest of all is the next one, or the running one,
 * or (NULL, and none runs) one that drains and reads on for what there is of sessions. */
void yield_all(struct master *master, const struct generation *next);

/* Did all workers that were told so stop reading? */
bool yield_is_over(const struct master *master);

/* Are there sockets for the generation that will take a share of the datagrams from others in use? */
bool yield_must_come_first(const struct generation *next);

/* An upgrade: the UDP listeners that the generation reads, as a text for the old master (free() it; NULL: out of memory). And what that one
 * does with it: its workers yield them. NULL: nobody else reads any. */
char *yield_write(const struct generation *reader);
void yield_to_heir(struct master *master, char *text);

/* Listeners that no generation but draining ones has, and that stand on a port of the reader's, are closed now, together with their
 * sessions: what it is to get would go on to them. */
void yield_close_rivals(struct master *master, const struct generation *reader);
/* The same in a master that was replaced, which still has generations that drain: the reader is another master's, as yield_write() says. */
void yield_close_rivals_of_heir(struct master *master, const char *text);
/* In the same: nobody reads for us any more, and another master could not bind the ports as long as we have them. */
void yield_close_all(struct master *master);

#endif
