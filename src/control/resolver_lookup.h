/* How the resolver asks: c-ares (resolver_cares.c) or a child with getaddrinfo(3) (resolver_child.c), behind one table.
 *
 * Owner:   the resolver owns each struct lookup, which stays where it is from ask() until answered() or close().
 * Answers: are data from the network. What a way hands over is bounded, and only addresses that a server can have.
 */
#ifndef AEGIS_CONTROL_RESOLVER_LOOKUP_H
#define AEGIS_CONTROL_RESOLVER_LOOKUP_H

#include "control/ip_set.h"
#include "control/resolver.h"

enum { LOOKUPS_AT_ONCE = 64 };

/* Of one family. */
enum lookup_outcome {
	LOOKUP_ABSENT, /* there is no address, says who must know; or it was not asked for */
	LOOKUP_GOOD,
	LOOKUP_FAILED /* nobody who knows has answered */
};

struct lookup {
	const char *name;
	unsigned families;          /* RESOLVER_IPV4 | RESOLVER_IPV6: what to ask for */
	const struct ip_set *known; /* [IP_FAMILIES], see ip_pick */
	uint64_t via;               /* for the way to remember what it got the last good answer by; 0 at first */
	/* The answer. */
	enum lookup_outcome outcome[IP_FAMILIES];
	struct ip_set found[IP_FAMILIES]; /* not empty where GOOD, empty elsewhere */
	uint64_t ttl_s;                   /* where any is GOOD */
	const char *why;                  /* where any is not: a constant */
};

/* It may free the lookup. */
typedef void lookup_answered_fn(struct lookup *lookup);

struct lookups {
	const struct lookup_kind *kind;
	struct loop *loop;
	lookup_answered_fn *answered;
};

struct lookup_kind {
	must_check int (*open)(
	        const struct resolver_settings *settings, struct loop *loop, lookup_answered_fn *answered, struct lookups **out);
	/* At most LOOKUPS_AT_ONCE at a time. The answer may come from inside; what it causes must not ask. */
	void (*ask)(struct lookups *lookups, struct lookup *lookup);
	/* Have the system's settings changed? Then renew() takes them up, once no lookup is under way. NULL where it needs none. */
	bool (*outdated)(const struct lookups *lookups);
	void (*renew)(struct lookups *lookups);
	/* No further answer. */
	void (*close)(struct lookups *lookups);
};

#ifdef HAVE_CARES
extern const struct lookup_kind lookup_cares;
const char *lookup_cares_version(void);
#endif
extern const struct lookup_kind lookup_child;

#endif
