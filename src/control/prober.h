/* The active checks of all servers.
 *
 * Process: control, one prober. It knows no settings and no shared memory: the caller adds targets and hears results.
 * Owner:   the prober owns its targets; all that the settings point to is copied.
 *
 * A target is one server, checked as schedule.h says. Where it has several addresses, a check goes on with the next one when a connection
 * is refused or the like; after one that timed out the next check begins with the next address. The time of a check begins when it is
 * really made, and not while it waits for its turn.
 */
#ifndef AEGIS_CONTROL_PROBER_H
#define AEGIS_CONTROL_PROBER_H

#include "base/addr.h"
#include "control/probe_stream.h"
#include "net/dial.h"
#include "os/loop.h"
#include "proto/probe.h"
#include "shm/health.h"

struct prober;
struct prober_target;

enum { PROBER_MAX_ADDRESSES = 8, PROBER_MAX_IN_FLIGHT = 256 };

struct prober_settings {
	uint64_t key; /* the caller's name for it */
	const struct addr *addrs;
	size_t n_addrs;            /* 1 to PROBER_MAX_ADDRESSES */
	struct dial_source source; /* no address: from where the kernel likes */
	struct probe_rules rules;
	struct probe_tls tls; /* with http, where it is wanted: the check does without libcurl */
	struct {
		const char *path;   /* NULL = "/" */
		const char *host;   /* NULL or "" = the address */
		const char *expect; /* see status_set.h; NULL = "2xx" */
		bool verify;
		const char *ca; /* NULL or "" = the system's */
	} http;
	uint64_t interval_ns;
	uint64_t fast_interval_ns; /* while it hurries; not longer than interval_ns in effect; 0 = the same */
	uint64_t timeout_ns;
	uint64_t first_ns; /* when the first check is due, where there was one before; 0 = soon */
};

struct prober_ops {
	/* A check has ended. Called from the loop only, never from within a function of the prober; it may call any of them but
	 * prober_free(). The reason is one printable line. */
	void (*result)(void *arg, uint64_t key, const struct health_check *check, const char *reason);
	/* A check could not be made for want of something of ours (descriptors, memory, local ports, the CA file): it says nothing of the
	 * server. */
	void (*unable)(void *arg, uint64_t key, const char *reason);
};

/* At most max_in_flight checks at a time; any seed will do. NULL when out of memory. The ops are the caller's for as long as the prober. */
must_check struct prober *prober_new(struct loop *loop, const struct prober_ops *ops, void *arg, unsigned max_in_flight, uint64_t seed);
/* No callback comes after that. */
void prober_free(struct prober *prober);

/* Whether prober_add() would take these settings, but for their addresses and the client of their TLS: 0, -EINVAL, or -ENOTSUP for http and
 * https without libcurl; with *why a sentence part for the user. */
must_check int prober_check(const struct prober_settings *settings, const char **why);

/* 0 and *out, the errors of prober_check(), or -ENOMEM. */
must_check int prober_add(struct prober *prober, const struct prober_settings *settings, struct prober_target **out, const char **why);
/* Other settings for it, all of them; what it was doing is dropped without a result, and it is checked soon. The errors of prober_add(),
 * and then all stays as it was. Whether it hurries stays, too. */
must_check int prober_change(struct prober *prober, struct prober_target *target, const struct prober_settings *settings, const char **why);
/* No result comes after that. */
void prober_remove(struct prober *prober, struct prober_target *target);
/* Whether the fast interval applies: for servers that are down or whose state is not known yet. */
void prober_hurry(struct prober *prober, struct prober_target *target, bool hurries);

/* A check of it is under way. */
must_check bool prober_is_checking(const struct prober_target *target);
unsigned prober_in_flight(const struct prober *prober);

#endif
