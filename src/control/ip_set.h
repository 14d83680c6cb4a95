/* The addresses of a name in one family: a small sorted set, so that an answer in another order is the same set.
 *
 * An answer may hold more than a set does. An ip_pick chooses: what was known already stays as long as it is in the answer, the rest is
 * filled with the smallest ones. So a server that rotates a long list changes nothing.
 */
#ifndef AEGIS_CONTROL_IP_SET_H
#define AEGIS_CONTROL_IP_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "config/config.h"

enum ip_family { IP_V4, IP_V6, IP_FAMILIES };

/* In network order; IPv4 fills the first four bytes, the rest is 0. */
struct ip {
	uint8_t bytes[16];
	uint32_t scope; /* of a link-local IPv6 address */
};

struct ip_set {
	uint32_t n;
	struct ip ips[SERVER_MAX_ADDRESSES]; /* ascending */
};

enum { IP_TEXT_SIZE = 64 };

/* False when it is neither IPv4 nor IPv6. */
bool ip_from_sockaddr(const struct sockaddr *sa, socklen_t length, struct ip *out, enum ip_family *family);
void ip_to_addr(const struct ip *ip, enum ip_family family, uint16_t port, struct addr *out);
/* Could a server have it? Not 0.0.0.0, :: (both would reach this host), multicast, broadcast, or link-local without an interface. */
bool ip_is_server(const struct ip *ip, enum ip_family family);
/* "192.0.2.1" or "fe80::1%2". Returns out. */
char *ip_format(const struct ip *ip, enum ip_family family, char out[static IP_TEXT_SIZE]);

bool ip_set_has(const struct ip_set *set, const struct ip *ip);
/* Into a full set only in place of a greater one. */
void ip_set_add(struct ip_set *set, const struct ip *ip);
bool ip_set_equal(const struct ip_set *a, const struct ip_set *b);

struct ip_pick {
	const struct ip_set *known;
	struct ip_set kept, others;
};

void ip_pick_add(struct ip_pick *pick, const struct ip *ip);
struct ip_set ip_pick_result(const struct ip_pick *pick);

#endif
