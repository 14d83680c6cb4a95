/* One socket on one address: made, bound, or why it cannot be.
 *
 * Process: the master. A `why` is a sentence for the user.
 */
#ifndef AEGIS_NET_BIND_H
#define AEGIS_NET_BIND_H

#include "base/addr.h"
#include "config/config.h"

enum port_use { PORT_ALONE, PORT_SHARED };

/* "*:80" and ":80" mean both families on one socket; "[::]:80" is IPv6 alone, so that 0.0.0.0:80 may stand beside it. */
must_check bool bind_both_families(const char *address);

/* A socket for this address, not bound to it. A descriptor (SOCK_NONBLOCK | SOCK_CLOEXEC), or a negative errno. */
must_check int bind_make(const struct addr *addr, enum protocol protocol, bool both, enum port_use use);
must_check int bind_to(int fd, const struct addr *addr);
/* Both. */
must_check int bind_open(const struct addr *addr, enum protocol protocol, bool both, enum port_use use);

/* Is the address free, and which port is it when the kernel is to choose? A socket with SO_REUSEPORT would silently share a
 * port with another program of the same user, so a first one is bound without it. It never listens. Where there is no IPv6, "both" becomes
 * IPv4. 0 and *addr, or a negative errno. */
must_check int bind_probe(struct addr *addr, enum protocol protocol, bool both, enum port_use use);

/* A socket file that nobody listens on was left behind by a crash. */
must_check bool bind_is_stale_path(const struct addr *addr);

/* Say why the address cannot be bound, and what helps. Returns error, which is what kept it from being bound. */
int bind_explain(int error, const struct addr *addr, enum protocol protocol, char *why, size_t why_size);
/* Say something else. Returns error. */
int bind_fail(int error, char *why, size_t why_size, const char *format, ...) printf_like(4, 5);

#endif
