/* Which address families the host takes part in: asking for the others' addresses would bring some that cannot be reached. */
#ifndef AEGIS_CONTROL_HOST_FAMILIES_H
#define AEGIS_CONTROL_HOST_FAMILIES_H

/* RESOLVER_IPV4 | RESOLVER_IPV6: those of which an interface has an address, loopback and link-local ones not counted (much as
 * AI_ADDRCONFIG of getaddrinfo(3) sees it). 0 when there is none, or no telling. */
unsigned host_families(void);

#endif
