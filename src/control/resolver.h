/* Host names of servers, resolved again and again while Aegis runs.
 *
 * Process: control; nothing here knows the shared segment: what changed is told to a callback.
 * Names:   one is asked for once, however many watches there are on it. A and AAAA, /etc/hosts before DNS, search domains as the
 *          system has them (with c-ares nothing else of nsswitch.conf counts). Asked again when the TTL is over, within bounds.
 * Failure: the last good answer stays in use without end, each family's for itself. After a timeout, SERVFAIL, REFUSED or the
 *          like (a failure) as well as after NXDOMAIN or an empty answer (gone) the name is asked for again with back-off. A name
 *          that is gone for good is for the operator to remove; it is logged louder.
 * Owner:   a watch belongs to the resolver until resolver_forget(). A name and its counters last as long as it is watched: watch
 *          the new before you forget the old.
 */
#ifndef AEGIS_CONTROL_RESOLVER_H
#define AEGIS_CONTROL_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

struct loop;
struct resolver;
struct watch;

enum resolver_way {
	RESOLVER_AUTO,  /* c-ares where it is built in */
	RESOLVER_CARES, /* asynchronously */
	RESOLVER_CHILD  /* getaddrinfo(3) in a child process: knows no TTL, asks every 30 s (within the bounds of the settings) */
};
enum { RESOLVER_IPV4 = 1, RESOLVER_IPV6 = 2 };

/* 0 = the default. */
struct resolver_settings {
	/* Of DNS: "192.0.2.1,192.0.2.2:5353,[2001:db8::1]:53"; NULL = the system's, also when they change. With c-ares only. */
	const char *servers;
	enum resolver_way way;
	unsigned families;     /* to ask for; 0 = those that the host has addresses of, and those that the name has one of already */
	uint64_t min_ttl_ns;   /* 1 s */
	uint64_t max_ttl_ns;   /* 300 s */
	uint64_t timeout_ns;   /* 2 s: for the first attempt at a server; there are two, the second one may take longer */
	uint64_t retry_min_ns; /* 1 s: the first pause after a failure; doubled with each one */
	uint64_t retry_max_ns; /* 30 s */
};

struct resolver_stats {
	uint64_t queries;  /* of the name; it may take several questions to a server */
	uint64_t failures; /* no answer, or none for a family with known addresses: those were kept */
	uint64_t gone;     /* NXDOMAIN or empty answers: what was known was kept */
	uint64_t changes;
	uint64_t last_success_ns;  /* 0 = none yet */
	uint64_t bad_in_a_row;     /* failures and gone since */
	uint64_t names, in_flight; /* resolver_totals() only */
};

/* The set of addresses has changed: n is 1..SERVER_MAX_ADDRESSES, the order is stable (the family that came first at the start, then the
 * other one, each ascending). Called from the loop, never from inside a function of this file. It may watch and forget anything, but not
 * free the resolver. */
typedef void resolver_changed_fn(void *owner, const struct addr *addrs, size_t n);

/* "1.18.1", or NULL when c-ares is not built in. */
const char *resolver_cares_version(void);

/* 0 or a negative errno: -ENOTSUP for a way or for servers that this build has not, -EINVAL for servers that are none. settings and what
 * it points to is needed only until it returns. */
must_check int resolver_new(
        struct loop *loop, const struct resolver_settings *settings, resolver_changed_fn *changed, struct resolver **out);
void resolver_free(struct resolver *resolver);

/* addrs are those known from the start, n may be 0. 0, -EINVAL for a name that can be none, -ENOMEM. */
must_check int resolver_watch(
        struct resolver *resolver, void *owner, const char *name, uint16_t port, const struct addr *addrs, size_t n, struct watch **out);
void resolver_forget(struct resolver *resolver, struct watch *watch);

/* Of the watch's name; of all, names that are no longer watched included. */
struct resolver_stats resolver_stats(const struct watch *watch);
struct resolver_stats resolver_totals(const struct resolver *resolver);

#endif
