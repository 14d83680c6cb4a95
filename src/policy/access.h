/* Who may connect: the lists "allow" and "deny" of a listener.
 *
 * The rule with the longest prefix that contains the address decides, whichever list it is in; of equal prefixes the one in deny. Where no
 * rule has the address, it is refused if there is an allow list at all, and let in otherwise. So
 *     allow = [ "10.0.0.0/8" ]; deny = [ "10.1.0.0/16" ];   lets in 10/8 without 10.1/16, and nobody else
 *     deny = [ "all" ]; allow = [ "::1" ];                  the same as allow alone
 * An IPv4-mapped IPv6 address is the IPv4 address, and unix peers always pass.
 *
 * Process: a worker; one set per listener, made once and never changed.
 * Cost:    a look-up takes at most as many steps as an address has bits, twice, whatever the number of rules; a rule takes 44 bytes.
 */
#ifndef AEGIS_POLICY_ACCESS_H
#define AEGIS_POLICY_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/cidr.h"

enum access_list { ACCESS_NO_RULE, ACCESS_ALLOW, ACCESS_DENY };

struct access_verdict {
	bool allowed;
	uint8_t list;  /* enum access_list: where the rule stands that decided */
	uint32_t rule; /* its place there, of duplicates the first; 0 for ACCESS_NO_RULE */
};

struct access;

/* The lists are copied; NULL for an empty one. 0 and *out, or -ENOMEM, or -E2BIG beyond some thousand million of rules. */
must_check int access_new(const struct cidr *allow, uint32_t n_allow, const struct cidr *deny, uint32_t n_deny, struct access **out);
void access_free(struct access *access);

/* May this peer connect, and why. */
must_check struct access_verdict access_check(const struct access *access, const struct sockaddr *peer);

#endif
