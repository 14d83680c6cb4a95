#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>

#include "base/text.h"

enum { LABEL_MAX = 63, HOST_MAX = 253 }; /* RFC 1035 */

/* Digits only, at most max. */
static bool parse_number(const char *s, unsigned long max, unsigned long *out)
{
	unsigned long value = 0;

	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9')
			return false;
		value = value * 10 + (unsigned long)(*s - '0');
		if (value > max)
			return false;
	}
	*out = value;
	return true;
}

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A host name: labels of letters, digits, '-' and '_', the last one not a number (that would be a mistyped IPv4 address). */
static const char *why_no_host_name(const char *s)
{
	size_t label = 0;
	bool digits_only = true;

	if (strlen(s) > HOST_MAX)
		return "the host name is longer than 253 letters";
	for (; *s != '\0'; s++) {
		if (*s == '.') {
			if (label == 0)
				return "the host name has an empty part";
			if (s[1] != '\0') {
				label = 0;
				digits_only = true;
			}
			continue;
		}
		if (!is_letter_or_digit(*s) && *s != '-' && *s != '_')
			return "the host has a character that is neither a letter, a digit, '-', '_' nor '.'";
		if (label == 0 && *s == '-')
			return "a part of the host name starts with '-'";
		if (++label > LABEL_MAX)
			return "a part of the host name is longer than 63 letters";
		digits_only &= *s >= '0' && *s <= '9';
	}
	if (label == 0)
		return "the host is missing";
	return digits_only ? "this is not an IPv4 address" : NULL;
}

static void set_in6(struct addr *out, const struct in6_addr *ip, uint16_t port)
{
	out->length = sizeof out->in6;
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_addr = *ip;
	out->in6.sin6_port = htons(port);
}

static bool parse_scope(const char *s, uint32_t *out)
{
	unsigned long number;

	if (parse_number(s, UINT32_MAX, &number))
		*out = (uint32_t)number;
	else
		*out = if_nametoindex(s);
	return *out != 0;
}

/* What stands between the brackets: an IPv6 address, with "%interface" where it is link-local. */
static const char *parse_in6(const char *s, uint16_t port, struct endpoint *out)
{
	char ip[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	uint32_t scope = 0;
	const char *percent = strchrnul(s, '%');
	size_t length = (size_t)(percent - s);

	if (length >= sizeof ip)
		return "this is not an IPv6 address";
	memcpy(ip, s, length);
	ip[length] = '\0';
	if (inet_pton(AF_INET6, ip, &in6) != 1)
		return "this is not an IPv6 address";
	if (*percent == '%' && !parse_scope(percent + 1, &scope))
		return "there is no such network interface after the '%'";
	out->kind = ENDPOINT_ADDRESS;
	set_in6(&out->addr, &in6, port);
	out->addr.in6.sin6_scope_id = scope;
	return NULL;
}

/* host is without the port and its colon. */
static const char *parse_host(char *host, uint16_t port, struct endpoint *out)
{
	size_t length = strlen(host);

	if (length == 0 || strcmp(host, "*") == 0) {
		out->kind = ENDPOINT_ADDRESS;
		set_in6(&out->addr, &in6addr_any, port);
		return NULL;
	}
	if (host[0] == '[') {
		if (host[length - 1] != ']')
			return "the ']' is missing";
		host[length - 1] = '\0';
		return parse_in6(host + 1, port, out);
	}
	if (strchr(host, ':') != NULL)
		return "an IPv6 address needs brackets, like [::1]:80";
	if (inet_pton(AF_INET, host, &out->addr.in.sin_addr) == 1) {
		out->kind = ENDPOINT_ADDRESS;
		out->addr.length = sizeof out->addr.in;
		out->addr.in.sin_family = AF_INET;
		out->addr.in.sin_port = htons(port);
		return NULL;
	}
	const char *why = why_no_host_name(host);
	if (why != NULL)
		return why;
	out->kind = ENDPOINT_NAME;
	out->port = port;
	ensure(text_copy(out->name, sizeof out->name, host));
	return NULL;
}

static const char *parse_host_port(const char *s, struct endpoint *out)
{
	char host[HOST_NAME_SIZE + 2];
	const char *colon = strrchr(s, ':');
	const char *bracket = strrchr(s, ']');
	unsigned long port;

	if (s[0] == '\0')
		return "it is empty";
	if (colon == NULL || (bracket != NULL && colon < bracket))
		return parse_number(s, UINT16_MAX, &port) ? "a port alone is written with a colon, like :80" : "the port is missing";
	if (colon[1] == '\0')
		return "the port is missing";
	if (!parse_number(colon + 1, UINT16_MAX, &port))
		return "the port is not a number from 0 to 65535";
	size_t length = (size_t)(colon - s);
	if (length >= sizeof host)
		return "the host name is longer than 253 letters";
	memcpy(host, s, length);
	host[length] = '\0';
	return parse_host(host, (uint16_t)port, out);
}

static const char *parse_unix(const char *path, struct endpoint *out)
{
	size_t length = strlen(path);
	bool abstract = path[0] == '@';

	if (path[0] != '/' && !abstract)
		return "a unix socket is written unix:/path or unix:@name";
	if (length < 2)
		return "the path is missing";
	if (length >= sizeof out->addr.un.sun_path)
		return "the path of a unix socket is longer than 107 bytes";
	for (const char *p = path; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return "the path has a control character";
	out->kind = ENDPOINT_ADDRESS;
	out->addr.un.sun_family = AF_UNIX;
	memcpy(out->addr.un.sun_path, path, length);
	out->addr.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (abstract)
		out->addr.un.sun_path[0] = '\0';
	else
		out->addr.length++; /* the NUL counts, unix(7) */
	return NULL;
}

static const char *parse_fd(const char *s, struct endpoint *out)
{
	unsigned long fd;

	if (!parse_number(s, INT_MAX, &fd))
		return "the descriptor is not a number";
	out->kind = ENDPOINT_FD;
	out->fd = (int)fd;
	return NULL;
}

/* The rules for FileDescriptorName= in systemd.socket(5). */
static const char *parse_systemd(const char *s, struct endpoint *out)
{
	size_t length = strlen(s);

	if (length == 0)
		return "the name of the systemd socket is missing";
	if (length > 255)
		return "the name of the systemd socket is longer than 255 letters";
	for (const char *p = s; *p != '\0'; p++)
		if (*p < 0x20 || *p == 0x7f || *p == ':')
			return "the name of the systemd socket has a character that systemd does not allow";
	out->kind = ENDPOINT_SYSTEMD;
	ensure(text_copy(out->name, sizeof out->name, s));
	return NULL;
}

static const char *after(const char *s, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(s, prefix, length) == 0 ? s + length : NULL;
}

int endpoint_parse(const char *s, struct endpoint *out, const char **why)
{
	struct endpoint endpoint = { .kind = ENDPOINT_NONE };
	const char *rest, *problem;

	if ((rest = after(s, "unix:")) != NULL)
		problem = parse_unix(rest, &endpoint);
	else if ((rest = after(s, "fd:")) != NULL)
		problem = parse_fd(rest, &endpoint);
	else if ((rest = after(s, "systemd:")) != NULL)
		problem = parse_systemd(rest, &endpoint);
	else
		problem = parse_host_port(s, &endpoint);
	if (problem != NULL) {
		*why = problem;
		return -EINVAL;
	}
	*out = endpoint;
	return 0;
}

static void format_in4(const void *ip, uint16_t port, struct text *text)
{
	char host[INET_ADDRSTRLEN] = "?";

	inet_ntop(AF_INET, ip, host, sizeof host);
	text_add(text, "%s:%u", host, port);
}

static void format_in6(const struct sockaddr_in6 *in6, struct text *text)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		format_in4(&in6->sin6_addr.s6_addr[12], ntohs(in6->sin6_port), text);
		return;
	}
	inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
	text_add(text, "[%s", host);
	if (in6->sin6_scope_id != 0)
		text_add(text, "%%%u", in6->sin6_scope_id);
	text_add(text, "]:%u", ntohs(in6->sin6_port));
}

/* Any process can choose the path of its socket, so it is not trusted to be printable. */
static void format_unix(const struct addr *addr, struct text *text)
{
	size_t length = (size_t)addr->length - offsetof(struct sockaddr_un, sun_path);
	const char *path = addr->un.sun_path;

	text_add(text, "unix:");
	for (size_t i = 0; i < length; i++) {
		if (i == 0 && path[0] == '\0')
			text_add(text, "@");
		else if (path[i] == '\0' && path[0] != '\0')
			break;
		else
			text_add(text, "%c", path[i] < 0x20 || path[i] == 0x7f ? '?' : path[i]);
	}
}

char *addr_format(const struct addr *addr, char *out, size_t size)
{
	struct text text = text_of(out, size);

	if (addr->length == 0)
		text_add(&text, "-");
	else if (addr->sa.sa_family == AF_INET)
		format_in4(&addr->in.sin_addr, ntohs(addr->in.sin_port), &text);
	else if (addr->sa.sa_family == AF_INET6)
		format_in6(&addr->in6, &text);
	else
		format_unix(addr, &text);
	return out;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	if (a->length == 0 || b->length == 0)
		return a->length == b->length;
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	if (a->sa.sa_family == AF_INET6)
		return a->in6.sin6_port == b->in6.sin6_port && a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
		       IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
	return a->length == b->length &&
	       memcmp(a->un.sun_path, b->un.sun_path, (size_t)a->length - offsetof(struct sockaddr_un, sun_path)) == 0;
}

bool addr_is_any(const struct addr *addr)
{
	if (addr->length == 0)
		return false;
	if (addr->sa.sa_family == AF_INET)
		return addr->in.sin_addr.s_addr == htonl(INADDR_ANY);
	return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr);
}

bool addr_is_loopback(const struct addr *addr)
{
	if (addr->length == 0)
		return false;
	if (addr->sa.sa_family == AF_INET)
		return ntohl(addr->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	if (addr->sa.sa_family != AF_INET6)
		return false;
	const struct in6_addr *in6 = &addr->in6.sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
}

uint16_t addr_port(const struct addr *addr)
{
	if (addr->length == 0)
		return 0;
	if (addr->sa.sa_family == AF_INET)
		return ntohs(addr->in.sin_port);
	return addr->sa.sa_family == AF_INET6 ? ntohs(addr->in6.sin6_port) : 0;
}

void addr_set_port(struct addr *addr, uint16_t port)
{
	if (addr->length == 0)
		return;
	if (addr->sa.sa_family == AF_INET)
		addr->in.sin_port = htons(port);
	else if (addr->sa.sa_family == AF_INET6)
		addr->in6.sin6_port = htons(port);
}

void addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t length)
{
	memset(out, 0, sizeof *out);
	if (length < sizeof(sa_family_t))
		return;
	if (sa->sa_family == AF_INET && length >= sizeof out->in)
		length = sizeof out->in;
	else if (sa->sa_family == AF_INET6 && length >= sizeof out->in6)
		length = sizeof out->in6;
	else if (sa->sa_family != AF_UNIX)
		return;
	if (length > sizeof out->un)
		length = sizeof out->un; /* a path of 108 bytes has no NUL and its length counts one more */
	memcpy(&out->un, sa, length);
	out->length = length;
}
