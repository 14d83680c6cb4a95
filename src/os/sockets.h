/* Who listens where, over TCP, by unix sockets and for datagrams, as the kernel's tables say (/proc/net), without a socket of our own:
 * nothing is bound, and nobody is connected to. */
#ifndef AEGIS_OS_SOCKETS_H
#define AEGIS_OS_SOCKETS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/addr.h"

struct socket_owner {
	ino_t inode;   /* of the socket */
	uid_t uid;     /* of who made it; not known of unix sockets: 0 */
	pid_t pid;     /* one of those who have it; 0 = nobody whose descriptors we may look at */
	char name[32]; /* of that process */
};

/* Does it listen there, or would it be in the way of who wants to: of a TCP address each one on the same port that has the same address or
 * one of the two means all? both: an IPv6 address that takes IPv4, too. Calls fn for each; true ends it. root is "" outside of tests: a
 * prefix for /proc. 0, or a negative errno where the tables cannot be read. */
enum { SOCKETS_TRIES = 3 }; /* a table that is read while it changes may miss one: who knows that there is one looks again */
typedef bool sockets_fn(void *arg, const struct socket_owner *owner);
must_check int sockets_listening(const char *root, const struct addr *addr, bool both, sockets_fn *fn, void *arg);

/* The same of UDP sockets that are bound there, which are all in the way: also those that are connected to someone. */
must_check int sockets_bound_udp(const char *root, const struct addr *addr, bool both, sockets_fn *fn, void *arg);

/* Which process has the socket: fills pid and name in where that may be seen. */
void sockets_find_owner(const char *root, struct socket_owner *owner);
/* The same, and for people: "dnsmasq (pid 812)", or as near as can be told. Returns out. */
char *sockets_name_owner(const char *root, struct socket_owner *owner, char *out, size_t size);

/* May we see which sockets that process has? And does it have this one? */
bool sockets_may_look(const char *root, pid_t pid);
bool sockets_is_owned_by(const char *root, ino_t inode, pid_t pid);

#endif
