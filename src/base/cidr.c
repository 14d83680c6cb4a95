#include "base/cidr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/text.h"

enum { IPV4_BITS = 32, IPV6_BITS = 128, MAPPED_BITS = 96, LONGEST_ADDRESS = INET6_ADDRSTRLEN };

static uint8_t family_bits(uint8_t family)
{
	return family == AF_INET ? IPV4_BITS : family == AF_INET6 ? IPV6_BITS : 0;
}

/* Digits only, without a leading zero, which in some places means octal. */
static bool parse_bits(const char *s, uint32_t max, uint8_t *out)
{
	uint32_t value = 0;

	if (*s == '\0' || (s[0] == '0' && s[1] != '\0'))
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9')
			return false;
		value = value * 10 + (uint32_t)(*s - '0');
		if (value > max)
			return false;
	}
	*out = (uint8_t)value;
	return true;
}

/* True when something was set there. */
static bool clear_beyond_prefix(struct cidr *cidr)
{
	uint8_t found = 0;
	uint32_t length = family_bits(cidr->family) / 8;

	for (uint32_t i = cidr->bits / 8; i < length; i++) {
		uint32_t beyond = i == cidr->bits / 8 ? 0xffU >> cidr->bits % 8 : 0xff;
		found |= (uint8_t)(cidr->bytes[i] & beyond);
		cidr->bytes[i] = (uint8_t)(cidr->bytes[i] & ~beyond);
	}
	return found != 0;
}

static void unmap(struct cidr *cidr)
{
	static const uint8_t mapped[MAPPED_BITS / 8] = { [10] = 0xff, [11] = 0xff };

	if (cidr->family != AF_INET6 || cidr->bits < MAPPED_BITS || memcmp(cidr->bytes, mapped, sizeof mapped) != 0)
		return;
	cidr->family = AF_INET;
	cidr->bits -= MAPPED_BITS;
	memmove(cidr->bytes, cidr->bytes + sizeof mapped, IPV4_BITS / 8);
	memset(cidr->bytes + IPV4_BITS / 8, 0, sizeof cidr->bytes - IPV4_BITS / 8);
}

static const char *why_no_address(const char *s)
{
	if (*s == '\0')
		return "the address is missing";
	if (*s == '[')
		return "an IPv6 address stands without brackets here";
	if (strchr(s, '%') != NULL)
		return "an interface ('%') cannot be named here";
	return "this is not an IP address";
}

/* The address in front of the slash. */
static const char *parse_address(const char *s, size_t length, struct cidr *out)
{
	char address[LONGEST_ADDRESS];

	if (length >= sizeof address)
		return "this is not an IP address";
	memcpy(address, s, length);
	address[length] = '\0';
	if (inet_pton(AF_INET, address, out->bytes) == 1)
		out->family = AF_INET;
	else if (inet_pton(AF_INET6, address, out->bytes) == 1)
		out->family = AF_INET6;
	else
		return why_no_address(address);
	out->bits = family_bits(out->family);
	return NULL;
}

static const char *parse(const char *s, struct cidr *out)
{
	const char *slash = strchrnul(s, '/');
	const char *problem;

	if (*s == '\0')
		return "it is empty";
	if (strcmp(s, "all") == 0) {
		out->family = AF_UNSPEC;
		return NULL;
	}
	if ((problem = parse_address(s, (size_t)(slash - s), out)) != NULL)
		return problem;
	if (*slash == '\0' || parse_bits(slash + 1, out->bits, &out->bits))
		return NULL;
	return out->family == AF_INET ? "the length of the prefix is not a number from 0 to 32"
	                              : "the length of the prefix is not a number from 0 to 128";
}

/* The beginning of it is enough where s is far too long. */
static void explain(const char *s, const char *problem, char *why, size_t size)
{
	struct text text = text_of(why, size);
	char beginning[CIDR_TEXT_SIZE];
	bool whole = text_copy(beginning, sizeof beginning, s);

	text_add_printable(&text, beginning);
	text_add(&text, "%s: %s", whole ? "" : "...", problem);
}

int cidr_parse(const char *s, struct cidr *out, char *why, size_t size)
{
	struct cidr cidr = { 0 };
	const char *problem = parse(s, &cidr);

	if (problem != NULL) {
		explain(s, problem, why, size);
		return -EINVAL;
	}
	bool beyond = clear_beyond_prefix(&cidr);
	unmap(&cidr);
	if (beyond) {
		char meant[CIDR_TEXT_SIZE];
		struct text text = text_of(why, size);
		text_add(&text, "%s: bits beyond the prefix are set; did you mean %s?", s, cidr_format(&cidr, meant, sizeof meant));
		return -EINVAL;
	}
	*out = cidr;
	return 0;
}

char *cidr_format(const struct cidr *cidr, char *out, size_t size)
{
	struct text text = text_of(out, size);
	char address[INET6_ADDRSTRLEN] = "all";

	if (cidr->family != AF_UNSPEC)
		inet_ntop(cidr->family, cidr->bytes, address, sizeof address);
	text_add(&text, "%s", address);
	if (cidr->bits < family_bits(cidr->family))
		text_add(&text, "/%u", cidr->bits);
	return out;
}

bool cidr_of(const struct sockaddr *sa, struct cidr *out)
{
	struct cidr cidr = { .family = (uint8_t)sa->sa_family };

	if (sa->sa_family == AF_INET)
		memcpy(cidr.bytes, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, IPV4_BITS / 8);
	else if (sa->sa_family == AF_INET6)
		memcpy(cidr.bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, IPV6_BITS / 8);
	else
		return false;
	cidr.bits = family_bits(cidr.family);
	unmap(&cidr);
	*out = cidr;
	return true;
}

uint32_t cidr_common_bits(const struct cidr *a, const struct cidr *b)
{
	uint32_t limit = a->bits < b->bits ? a->bits : b->bits;

	if (a->family != b->family)
		return 0;
	for (uint32_t at = 0; at < limit; at += 64) {
		uint64_t left, right;
		memcpy(&left, a->bytes + at / 8, sizeof left);
		memcpy(&right, b->bytes + at / 8, sizeof right);
		if (left != right) {
			uint32_t common = at + (uint32_t)__builtin_clzll(be64toh(left ^ right));
			return common < limit ? common : limit;
		}
	}
	return limit;
}

bool cidr_contains(const struct cidr *outer, const struct cidr *inner)
{
	if (outer->family == AF_UNSPEC)
		return true;
	return outer->family == inner->family && cidr_common_bits(outer, inner) == outer->bits;
}
