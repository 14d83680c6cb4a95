/* Ranges of IP addresses, as users write them: "10.0.0.0/8", "10.1.2.3" (the address alone), "2001:db8::/32", "::1", and "all" for every
 * address of both families. What cannot be meant is an error, above all bits that are set beyond the prefix.
 *
 * An IPv4-mapped IPv6 address is the IPv4 address everywhere: "::ffff:10.0.0.0/104" is 10.0.0.0/8, and "::/0" has no IPv4 address in it.
 */
#ifndef AEGIS_BASE_CIDR_H
#define AEGIS_BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/attr.h"

struct cidr {
	uint8_t family;    /* AF_INET, AF_INET6, or AF_UNSPEC for all of both */
	uint8_t bits;      /* of the prefix: up to 32 or 128; 0 for AF_UNSPEC */
	uint8_t bytes[16]; /* in network order; zero beyond the prefix */
};

enum { CIDR_TEXT_SIZE = 52 }; /* always enough for cidr_format() */
enum { CIDR_WHY_SIZE = 256 }; /* enough for any of what cidr_parse() has to say */

/* Parse s. 0 and *out, or -EINVAL and why[0..size), size at least 1, a sentence for the user that begins with s:
 * "10.1.2.3/8: bits beyond the prefix are set; did you mean 10.0.0.0/8?". */
must_check int cidr_parse(const char *s, struct cidr *out, char *why, size_t size);

/* The shortest text: a range of one address is written without its length. Returns out. */
char *cidr_format(const struct cidr *cidr, char *out, size_t size);

/* The range of the one address. False, and *out untouched, for what is not an IP address. */
must_check bool cidr_of(const struct sockaddr *sa, struct cidr *out);

/* How many bits, from the first one, both have in common: at most the shorter prefix, 0 for different families. */
uint32_t cidr_common_bits(const struct cidr *a, const struct cidr *b);

/* Whether all of inner lies in outer. */
bool cidr_contains(const struct cidr *outer, const struct cidr *inner);

#endif
