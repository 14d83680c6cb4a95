#include "control/ip_set.h"

#include <arpa/inet.h>
#include <string.h>

bool ip_from_sockaddr(const struct sockaddr *sa, socklen_t length, struct ip *out, enum ip_family *family)
{
	struct addr addr;
	addr_from_sockaddr(&addr, sa, length);
	*out = (struct ip){ .scope = 0 };
	if (addr.sa.sa_family == AF_INET && length >= sizeof addr.in) {
		memcpy(out->bytes, &addr.in.sin_addr, sizeof addr.in.sin_addr);
		*family = IP_V4;
		return true;
	}
	if (addr.sa.sa_family == AF_INET6 && length >= sizeof addr.in6) {
		memcpy(out->bytes, &addr.in6.sin6_addr, sizeof addr.in6.sin6_addr);
		out->scope = addr.in6.sin6_scope_id;
		*family = IP_V6;
		return true;
	}
	return false;
}

void ip_to_addr(const struct ip *ip, enum ip_family family, uint16_t port, struct addr *out)
{
	memset(out, 0, sizeof *out);
	if (family == IP_V4) {
		out->length = sizeof out->in;
		out->in.sin_family = AF_INET;
		memcpy(&out->in.sin_addr, ip->bytes, sizeof out->in.sin_addr);
	} else {
		out->length = sizeof out->in6;
		out->in6.sin6_family = AF_INET6;
		memcpy(&out->in6.sin6_addr, ip->bytes, sizeof out->in6.sin6_addr);
		out->in6.sin6_scope_id = ip->scope;
	}
	addr_set_port(out, port);
}

bool ip_is_server(const struct ip *ip, enum ip_family family)
{
	static const struct ip broadcast = { .bytes = { 255, 255, 255, 255 } };
	if (family == IP_V4)
		return ip->bytes[0] != 0 && (ip->bytes[0] & 0xf0) != 0xe0 && memcmp(ip->bytes, broadcast.bytes, 4) != 0;
	struct in6_addr in6;
	memcpy(&in6, ip->bytes, sizeof in6);
	if (IN6_IS_ADDR_V4MAPPED(&in6)) {
		struct ip inside = { .scope = 0 };
		memcpy(inside.bytes, ip->bytes + 12, 4);
		return ip_is_server(&inside, IP_V4);
	}
	return !IN6_IS_ADDR_UNSPECIFIED(&in6) && !IN6_IS_ADDR_MULTICAST(&in6) && (ip->scope || !IN6_IS_ADDR_LINKLOCAL(&in6));
}

char *ip_format(const struct ip *ip, enum ip_family family, char out[static IP_TEXT_SIZE])
{
	if (!inet_ntop(family == IP_V4 ? AF_INET : AF_INET6, ip->bytes, out, IP_TEXT_SIZE))
		out[0] = '\0';
	size_t length = strlen(out);
	if (ip->scope)
		(void)snprintf(out + length, IP_TEXT_SIZE - length, "%%%u", ip->scope);
	return out;
}

static int compare(const struct ip *a, const struct ip *b)
{
	int bytes = memcmp(a->bytes, b->bytes, sizeof a->bytes);
	return bytes ? bytes : (a->scope > b->scope) - (a->scope < b->scope);
}

bool ip_set_has(const struct ip_set *set, const struct ip *ip)
{
	for (uint32_t i = 0; i < set->n; i++)
		if (compare(&set->ips[i], ip) == 0)
			return true;
	return false;
}

void ip_set_add(struct ip_set *set, const struct ip *ip)
{
	uint32_t at = 0;
	while (at < set->n && compare(&set->ips[at], ip) < 0)
		at++;
	if (at == SERVER_MAX_ADDRESSES || (at < set->n && compare(&set->ips[at], ip) == 0))
		return;
	if (set->n < SERVER_MAX_ADDRESSES)
		set->n++;
	memmove(&set->ips[at + 1], &set->ips[at], (set->n - 1 - at) * sizeof set->ips[0]);
	set->ips[at] = *ip;
}

bool ip_set_equal(const struct ip_set *a, const struct ip_set *b)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++)
		if (compare(&a->ips[i], &b->ips[i]) != 0)
			return false;
	return true;
}

void ip_pick_add(struct ip_pick *pick, const struct ip *ip)
{
	ip_set_add(ip_set_has(pick->known, ip) ? &pick->kept : &pick->others, ip);
}

struct ip_set ip_pick_result(const struct ip_pick *pick)
{
	struct ip_set result = pick->kept;
	for (uint32_t i = 0; i < pick->others.n && result.n < SERVER_MAX_ADDRESSES; i++)
		ip_set_add(&result, &pick->others.ips[i]);
	return result;
}
