/* Socket addresses, and the endpoints that users write.
 *
 * struct addr is a socket address that can be bound or dialled. struct endpoint is what stands in the settings:
 * "host:port", "[v6]:port", "*:port" (all addresses, both families), ":port" (the same), "unix:/path", "unix:@abstract",
 * "fd:N" (an inherited socket), "systemd:NAME" (a socket that systemd passes under that FileDescriptorName).
 */
#ifndef AEGIS_BASE_ADDR_H
#define AEGIS_BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/attr.h"

struct addr {
	socklen_t length; /* 0 = none */
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
};

enum { ADDR_TEXT_SIZE = 136 }; /* always enough for addr_format() */
enum { HOST_NAME_SIZE = 256 };

enum endpoint_kind { ENDPOINT_NONE, ENDPOINT_ADDRESS, ENDPOINT_NAME, ENDPOINT_FD, ENDPOINT_SYSTEMD };

struct endpoint {
	enum endpoint_kind kind;
	struct addr addr;          /* ENDPOINT_ADDRESS */
	uint16_t port;             /* ENDPOINT_NAME, in host order */
	int fd;                    /* ENDPOINT_FD */
	char name[HOST_NAME_SIZE]; /* ENDPOINT_NAME: the host; ENDPOINT_SYSTEMD: the FileDescriptorName */
};

/* Parse s. 0 and *out, or -EINVAL with *why a constant sentence part for the user ("the port is missing"). */
must_check int endpoint_parse(const char *s, struct endpoint *out, const char **why);

/* "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:@name"; "-" for none. An IPv4-mapped IPv6 address prints as IPv4.
 * Returns out. */
char *addr_format(const struct addr *addr, char *out, size_t size);

bool addr_equal(const struct addr *a, const struct addr *b);
/* All addresses of the host (0.0.0.0, ::); the host itself (127.0.0.0/8, ::1). */
bool addr_is_any(const struct addr *addr);
bool addr_is_loopback(const struct addr *addr);

/* Port in host order, 0 for unix. */
uint16_t addr_port(const struct addr *addr);
void addr_set_port(struct addr *addr, uint16_t port);

/* Take over what the kernel filled in (accept, getsockname); length may be short for an unnamed unix socket. */
void addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t length);

#endif
