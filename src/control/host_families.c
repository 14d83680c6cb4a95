#include "control/host_families.h"

#include <ifaddrs.h>

#include "control/ip_set.h"
#include "control/resolver.h"

unsigned host_families(void)
{
	unsigned families = 0;
	struct ifaddrs *list;
	if (getifaddrs(&list) < 0)
		return 0;
	for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
		struct ip ip;
		struct addr addr;
		enum ip_family family;
		size_t length = at->ifa_addr && at->ifa_addr->sa_family == AF_INET6 ? sizeof addr.in6 : sizeof addr.in;
		if (!at->ifa_addr || !ip_from_sockaddr(at->ifa_addr, (socklen_t)length, &ip, &family))
			continue;
		ip.scope = 0; /* then a link-local one is no address to go by */
		ip_to_addr(&ip, family, 0, &addr);
		if (!addr_is_loopback(&addr) && ip_is_server(&ip, family))
			families |= family == IP_V4 ? RESOLVER_IPV4 : RESOLVER_IPV6;
	}
	freeifaddrs(list);
	return families;
}
