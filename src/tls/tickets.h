/* The keys that session tickets are encrypted with: one set for all workers, whichever one a client comes back to, also after a reload, and
 * for the workers of two programs while one takes the other's place.
 *
 * Process: the master makes them before it forks, in memory that has no name and is shared with its children only, and replaces them in
 * time; workers read them. They are in no file, not in the segment that aegis-stat reads, and in no core dump. The other children let go of
 * them (tickets_close()). An upgrade hands the descriptor of that memory to the new master, who then has the same keys and not a copy.
 * Writer:  the master; of two the one in charge. A key is written where nobody reads, and then told: readers see whole keys only, wherever
 *          a writer was killed.
 */
#ifndef AEGIS_TLS_TICKETS_H
#define AEGIS_TLS_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct ticket_key {
	unsigned char name[16]; /* stands in the ticket, in the clear */
	unsigned char cipher[32];
	unsigned char mac[32];
};

struct tickets;

/* 0, *out with a first key and *fd, the memory that they are in, or a negative errno. */
must_check int tickets_new(struct tickets **out, int *fd);
/* Those of another master, by the descriptor, which stays the caller's. 0 and *out, or a negative errno (-EPROTO: nothing that this program
 * knows). */
must_check int tickets_adopt(int fd, struct tickets **out);
void tickets_close(struct tickets *tickets);

/* The master, now and then: a new key when the last one is older than rotation_ns; the one before is still honoured then. True when there
 * is a new one. */
bool tickets_tick(struct tickets *tickets, uint64_t rotation_ns, uint64_t now_ns);

/* The key that tickets are made with. */
void tickets_current(const struct tickets *tickets, struct ticket_key *out);
/* The key of this name. False when there is none; *old when it is not the current one. */
must_check bool tickets_find(const struct tickets *tickets, const unsigned char name[16], struct ticket_key *out, bool *old);

#endif
