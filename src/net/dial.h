/* Connecting to a server, without waiting. */
#ifndef AEGIS_NET_DIAL_H
#define AEGIS_NET_DIAL_H

#include "config/config.h"

/* A socket with those options that must be there before connecting; options_set_late() sets the others. A descriptor, which is the
 * caller's, or a negative errno. */
must_check int dial_open(const struct addr *addr, const struct tcp_config *tcp);

/* Where a connection shall come from. */
struct dial_source {
	struct addr addr; /* port 0; no address at all: of a client that has none */
	bool transparent; /* it is not ours */
};

/* As the settings of the upstream say, for this client: a peer as accept() told it, or NULL where it is for nobody, and then goes out from
 * our own address. Returns out, or NULL: from where the kernel likes. */
must_check const struct dial_source *dial_source(
        const struct upstream_config *upstream, const struct sockaddr_in6 *client, struct dial_source *out);

/* Bind the socket to it, before connecting to an address of that family; the port is found when it connects. source may be NULL. 0, or a
 * negative errno: -EPROTOTYPE where it is of another family, -ENONET where it is not an address of this machine (any more). */
must_check int dial_bind(int fd, sa_family_t family, const struct dial_source *source);

/* Can this be done here, and by us? 0, or a negative errno with *why a sentence for the user. */
must_check int dial_source_check(const struct upstream_config *upstream, char *why, size_t why_size);

/* Begin to connect. 0: connected at once; -EINPROGRESS: fd becomes writable when it is decided; else a negative errno. */
must_check int dial_connect(int fd, const struct addr *addr);

/* After fd became writable: 0 when connected, or the negative errno of the attempt. */
must_check int dial_result(int fd);

#endif
