/* What came from one client: a parcel of a batch, or several in a row. */
#ifndef AEGIS_UDP_ARRIVAL_H
#define AEGIS_UDP_ARRIVAL_H

#include "udp/flow_table.h"

struct arrival {
	struct flow_key key;
	uint64_t hash;
	const struct sockaddr_in6 *peer;
	uint32_t index; /* of the first parcel */
	uint32_t n;
};

static inline bool arrival_same_peer(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
	if (a->sin6_port != b->sin6_port || a->sin6_family != b->sin6_family)
		return false;
	if (a->sin6_family == AF_INET) /* its address stands where IPv6 has flowinfo */
		return a->sin6_flowinfo == b->sin6_flowinfo;
	return memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0 && a->sin6_scope_id == b->sin6_scope_id;
}

#endif
