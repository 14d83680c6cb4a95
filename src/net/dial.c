#include "net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/options.h"

int dial_open(const struct addr *addr, const struct tcp_config *tcp)
{
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	options_set_dialled(fd, addr->sa.sa_family, tcp);
	return fd;
}

/* --- from where ------------------------------------------------------------------------------------------------------------ */

/* Without the port: the same client may have several connections to one server, and each finds its own. */
static void take_client(const struct sockaddr_in6 *client, struct addr *out)
{
	*out = (struct addr){ 0 };
	if (client->sin6_family == AF_INET)
		addr_from_sockaddr(out, (const struct sockaddr *)client, sizeof(struct sockaddr_in));
	else if (client->sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&client->sin6_addr)) {
		out->length = sizeof out->in;
		out->in.sin_family = AF_INET;
		memcpy(&out->in.sin_addr, &client->sin6_addr.s6_addr[12], sizeof out->in.sin_addr);
	} else if (client->sin6_family == AF_INET6)
		addr_from_sockaddr(out, (const struct sockaddr *)client, sizeof *client);
	if (out->length)
		addr_set_port(out, 0);
}

const struct dial_source *dial_source(const struct upstream_config *upstream, const struct sockaddr_in6 *client, struct dial_source *out)
{
	if (upstream->source_kind == SOURCE_ANY || (upstream->source_kind == SOURCE_CLIENT && !client))
		return NULL;
	out->transparent = upstream->source_kind == SOURCE_CLIENT;
	if (out->transparent)
		take_client(client, &out->addr);
	else
		out->addr = upstream->source_addr;
	return out;
}

static int set_transparent(int fd, sa_family_t family)
{
	static const int on = 1;
	bool ipv6 = family == AF_INET6;
	int error = setsockopt(fd, ipv6 ? SOL_IPV6 : SOL_IP, ipv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on, sizeof on);
	return error < 0 ? -errno : 0;
}

int dial_bind(int fd, sa_family_t family, const struct dial_source *source)
{
	static const int on = 1;
	if (!source)
		return 0;
	if (!source->addr.length || source->addr.sa.sa_family != family)
		return -EPROTOTYPE;
	int error = source->transparent ? set_transparent(fd, family) : 0;
	/* Or else bind() would take a port that no other connection could have, to whatever server: 28 000 in all. */
	if (!error && setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0)
		error = -errno;
	if (!error && bind(fd, &source->addr.sa, source->addr.length) < 0)
		error = errno == EADDRNOTAVAIL ? -ENONET : -errno;
	return error;
}

static void explain(const struct upstream_config *upstream, int error, char *why, size_t why_size)
{
	const char *name = upstream->name;
	if (error == -EPERM)
		snprintf(why, why_size,
		        "upstream %s: source = \"client\" takes the capability CAP_NET_RAW; start Aegis as root, or give it that one "
		        "(systemd: CapabilityBoundingSet=CAP_NET_RAW, and without User=root AmbientCapabilities=CAP_NET_RAW)",
		        name);
	else if (error == -ENONET)
		snprintf(why, why_size,
		        "upstream %s: source = \"%s\" is not an address of this machine; set one that it has, or the sysctl "
		        "net.%s.ip_nonlocal_bind=1 for one that comes and goes",
		        name, upstream->source, upstream->source_addr.sa.sa_family == AF_INET ? "ipv4" : "ipv6");
	else
		snprintf(why, why_size, "upstream %s: source = \"%s\" cannot be used: %s", name, upstream->source, strerror(-error));
}

/* What any client may have; where there is no IPv6 on this machine, no client has it either. */
static int try_transparent(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 ? -errno : set_transparent(fd, AF_INET);
	if (fd >= 0)
		close(fd);
	return error;
}

static int try_address(const struct addr *addr)
{
	const struct dial_source source = { .addr = *addr };
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 ? -errno : dial_bind(fd, addr->sa.sa_family, &source);
	if (fd >= 0)
		close(fd);
	return error;
}

int dial_source_check(const struct upstream_config *upstream, char *why, size_t why_size)
{
	int error = upstream->source_kind == SOURCE_CLIENT    ? try_transparent()
	            : upstream->source_kind == SOURCE_ADDRESS ? try_address(&upstream->source_addr)
	                                                      : 0;
	if (error)
		explain(upstream, error, why, why_size);
	return error;
}

/* --- connecting ------------------------------------------------------------------------------------------------------------ */

int dial_connect(int fd, const struct addr *addr)
{
	int error = connect(fd, &addr->sa, addr->length) < 0 ? errno : 0;
	/* On the loopback the handshake is over when connect() returns, although it says EINPROGRESS: asking once more saves a
	 * turn of the loop. Elsewhere it says EALREADY. */
	if (error == EINPROGRESS)
		error = connect(fd, &addr->sa, addr->length) < 0 ? errno : 0;
	if (error == 0 || error == EISCONN)
		return 0;
	return error == EALREADY ? -EINPROGRESS : -error;
}

int dial_result(int fd)
{
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return -errno;
	return -error;
}
