#include "proto/proxy_write.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21, UNIX_PATH = PROXY_V2_UNIX / 2 };
enum { FAMILY_INET = 0x10, FAMILY_INET6 = 0x20, FAMILY_UNIX = 0x30, OF_STREAM = 0x01, OF_DATAGRAMS = 0x02 };

static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == UNIX_PATH, "a path as the system has it");

/* --- both ends in one family --------------------------------------------------------------------------------------------------- */

static bool is_inet(const struct addr *addr)
{
	return addr->length && (addr->sa.sa_family == AF_INET || addr->sa.sa_family == AF_INET6);
}

static bool is_unix(const struct addr *addr)
{
	return addr->length && addr->sa.sa_family == AF_UNIX;
}

static sa_family_t family_of(const struct proxy_ends *ends)
{
	if (!ends->known)
		return AF_UNSPEC;
	if (is_inet(&ends->source) && is_inet(&ends->destination))
		return AF_INET6;
	return is_unix(&ends->source) && is_unix(&ends->destination) ? AF_UNIX : AF_UNSPEC;
}

static struct in6_addr wide(const struct addr *addr)
{
	struct in6_addr out = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	if (addr->sa.sa_family == AF_INET6)
		return addr->in6.sin6_addr;
	memcpy(&out.s6_addr[12], &addr->in.sin_addr, sizeof addr->in.sin_addr);
	return out;
}

/* The addresses of an AF_INET6 pair; both can be written as IPv4: true. */
static bool widen(const struct proxy_ends *ends, struct in6_addr *source, struct in6_addr *destination)
{
	*source = wide(&ends->source);
	*destination = wide(&ends->destination);
	return IN6_IS_ADDR_V4MAPPED(source) && IN6_IS_ADDR_V4MAPPED(destination);
}

/* --- version 1 ----------------------------------------------------------------------------------------------------------------- */

size_t proxy_write_v1(const struct proxy_ends *ends, char out[PROXY_V1_MOST])
{
	char line[2 * INET6_ADDRSTRLEN + 32] = "PROXY UNKNOWN\r\n", source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
	struct in6_addr from, to;
	if (family_of(ends) == AF_INET6 && !ends->datagrams) {
		bool narrow = widen(ends, &from, &to);
		int family = narrow ? AF_INET : AF_INET6;
		(void)inet_ntop(family, narrow ? &from.s6_addr[12] : from.s6_addr, source, sizeof source);
		(void)inet_ntop(family, narrow ? &to.s6_addr[12] : to.s6_addr, destination, sizeof destination);
		(void)snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n", narrow ? '4' : '6', source, destination,
		        addr_port(&ends->source), addr_port(&ends->destination));
	}
	size_t length = strlen(line);
	ensure(length <= PROXY_V1_MOST);
	memcpy(out, line, length);
	return length;
}

/* --- version 2 ----------------------------------------------------------------------------------------------------------------- */

/* What stands in front of the TLVs, in a place of PROXY_V2_BARE_MOST zeros. Returns where it ends. */
static uint8_t *put_inet(const struct proxy_ends *ends, uint8_t *family, uint8_t *at)
{
	const uint16_t ports[] = { htons(addr_port(&ends->source)), htons(addr_port(&ends->destination)) };
	struct in6_addr from, to;
	size_t skip = widen(ends, &from, &to) ? 12 : 0, bytes = sizeof from - skip;
	*family = skip ? FAMILY_INET : FAMILY_INET6;
	memcpy(at, &from.s6_addr[skip], bytes);
	memcpy(at + bytes, &to.s6_addr[skip], bytes);
	memcpy(at + 2 * bytes, ports, sizeof ports);
	return at + 2 * bytes + sizeof ports;
}

static void put_path(const struct addr *addr, uint8_t *at)
{
	size_t length = addr->length > offsetof(struct sockaddr_un, sun_path) ? addr->length - offsetof(struct sockaddr_un, sun_path) : 0;
	memcpy(at, addr->un.sun_path, length < UNIX_PATH ? length : UNIX_PATH);
}

static size_t put_ends(const struct proxy_ends *ends, uint8_t bare[PROXY_V2_BARE_MOST])
{
	sa_family_t family = family_of(ends);
	uint8_t *end = bare + PROXY_V2_HEAD;
	memset(bare, 0, PROXY_V2_BARE_MOST);
	memcpy(bare, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_BYTES);
	bare[12] = family == AF_UNSPEC ? COMMAND_LOCAL : COMMAND_PROXY;
	if (family == AF_INET6) {
		end = put_inet(ends, &bare[13], end);
	} else if (family == AF_UNIX) {
		bare[13] = FAMILY_UNIX;
		put_path(&ends->source, end);
		put_path(&ends->destination, end + UNIX_PATH);
		end += PROXY_V2_UNIX;
	}
	if (family != AF_UNSPEC)
		bare[13] |= ends->datagrams ? OF_DATAGRAMS : OF_STREAM;
	return (size_t)(end - bare);
}

static uint8_t *put_tlv(uint8_t *at, uint8_t type, const void *bytes, uint16_t length)
{
	at[0] = type;
	at[1] = (uint8_t)(length >> 8);
	at[2] = (uint8_t)length;
	if (length > 0)
		memcpy(at + PROXY_TLV_HEAD, bytes, length);
	return at + PROXY_TLV_HEAD + length;
}

/* Of all, with zeros in its own place. */
static void put_check_sum(uint8_t *header, uint8_t *at)
{
	uint8_t *end = put_tlv(at, PROXY_TLV_CRC32C, "\0\0\0", 4);
	uint32_t sum = htonl(crc32c(0, header, (size_t)(end - header)));
	memcpy(at + PROXY_TLV_HEAD, &sum, sizeof sum);
}

int proxy_write_v2(const struct proxy_ends *ends, const struct proxy_tlv *tlvs, size_t n, bool check_sum, void *out, size_t size)
{
	uint8_t bare[PROXY_V2_BARE_MOST], *header = out;
	size_t start = put_ends(ends, bare), length = start + (check_sum ? PROXY_CRC_BYTES : 0);
	for (size_t i = 0; i < n; i++)
		length += PROXY_TLV_HEAD + (size_t)tlvs[i].length;
	if (length > size || length - PROXY_V2_HEAD > UINT16_MAX)
		return -EMSGSIZE;
	bare[14] = (uint8_t)((length - PROXY_V2_HEAD) >> 8);
	bare[15] = (uint8_t)(length - PROXY_V2_HEAD);
	memcpy(header, bare, start);
	uint8_t *at = header + start;
	for (size_t i = 0; i < n; i++)
		at = put_tlv(at, tlvs[i].type, tlvs[i].bytes, tlvs[i].length);
	if (check_sum)
		put_check_sum(header, at);
	return (int)length;
}
