/* What the files that ask by c-ares share. Private to resolver_cares.c (its channels on the loop) and resolver_cares_lookup.c (a name on
 * its way through them); the only file that names the header of c-ares.
 *
 * Two channels: `hosts` knows /etc/hosts (and localhost) and answers at once; `dns` asks DNS for one name as it stands and one family at a
 * time. ares_getaddrinfo() would go through all that by itself, but it hides that one family failed while the other one was answered,
 * and after a failure it goes on to the next search domain, where another host may have the same name.
 */
#ifndef AEGIS_CONTROL_RESOLVER_CARES_OWN_H
#define AEGIS_CONTROL_RESOLVER_CARES_OWN_H

#include <ares.h>
#include <sys/stat.h>

#include "control/resolver_lookup.h"
#include "control/resolver_search.h"
#include "os/loop.h"

struct socket_watch;

/* What may change while we run. */
struct channels {
	ares_channel hosts, dns;
	struct search search;
	struct stat file;
};

struct cares {
	struct lookups base;
	struct channels now;
	char *servers; /* NULL = the system's */
	int timeout_ms;
	uint64_t serial; /* of the channels: what a lookup remembers is good for one only */
	struct socket_watch *sockets;
	struct loop_timer timer;
	bool closing;
};

/* After each call that may have made c-ares wait for longer or less long. */
void cares_set_timer(struct cares *cares);
/* See struct lookup_kind. */
void cares_ask(struct lookups *lookups, struct lookup *lookup);

#endif
