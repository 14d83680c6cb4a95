#include "net/bind.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/sockets.h"

enum { WHO_SIZE = 128 };

int bind_fail(int error, char *why, size_t why_size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(why, why_size, format, args);
	va_end(args);
	return error;
}

bool bind_both_families(const char *address)
{
	return address[0] == '*' || address[0] == ':';
}

int bind_to(int fd, const struct addr *addr)
{
	return bind(fd, &addr->sa, addr->length) < 0 ? -errno : 0;
}

/* SO_REUSEADDR is for what a TCP connection leaves behind; with UDP it would let anybody in who sets it, too. */
int bind_make(const struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int on = 1, off = 0, type = protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(addr->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int failed = 0;
	if (addr->sa.sa_family != AF_UNIX && protocol != PROTOCOL_UDP)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (!failed && use == PORT_SHARED)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (!failed && addr->sa.sa_family == AF_INET6)
		failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof on);
	if (!failed)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

int bind_open(const struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int fd = bind_make(addr, protocol, both, use);
	int error = fd < 0 ? fd : bind_to(fd, addr);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

struct search {
	struct socket_owner owner;
	bool found;
};

static bool on_socket(void *arg, const struct socket_owner *owner)
{
	struct search *search = arg;
	if (sockets_is_owned_by("", owner->inode, getpid()))
		return false; /* shared with our own, which is in nobody's way */
	*search = (struct search){ *owner, true };
	return true;
}

static int explain_busy(const struct addr *addr, enum protocol protocol, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE], who[WHO_SIZE];
	struct search search = { .found = false };
	int error = 0;
	for (int tries = 0; !error && !search.found && tries < SOCKETS_TRIES; tries++)
		error = protocol == PROTOCOL_UDP ? sockets_bound_udp("", addr, false, on_socket, &search)
		                                 : sockets_listening("", addr, false, on_socket, &search);
	addr_format(addr, text, sizeof text);
	if (error || !search.found)
		return bind_fail(-EADDRINUSE, why, why_size, "cannot listen on %s: someone else listens there; `ss -%s` shows who", text,
		        protocol == PROTOCOL_UDP ? "lunp" : "ltnp");
	return bind_fail(-EADDRINUSE, why, why_size, "cannot listen on %s: someone else listens there, %s", text,
	        sockets_name_owner("", &search.owner, who, sizeof who));
}

int bind_explain(int error, const struct addr *addr, enum protocol protocol, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text, sizeof text);
	switch (-error) {
	case EADDRINUSE:
		return explain_busy(addr, protocol, why, why_size);
	case EACCES:
		if (addr_port(addr) > 0 && addr_port(addr) < 1024)
			return bind_fail(error, why, why_size,
			        "cannot listen on %s: permission denied; ports below 1024 need root, or `setcap cap_net_bind_service=+ep` "
			        "on the program, or a port above",
			        text);
		break;
	case EADDRNOTAVAIL:
		return bind_fail(
		        error, why, why_size, "cannot listen on %s: this machine has no such address; `ip addr` shows those it has", text);
	case EAFNOSUPPORT:
		return bind_fail(error, why, why_size,
		        "cannot listen on %s: this machine has no IPv6; write the address as *:%u to use what there is", text,
		        addr_port(addr));
	default:
		break;
	}
	return bind_fail(error, why, why_size, "cannot listen on %s: %s", text, strerror(-error));
}

int bind_probe(struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int fd = bind_open(addr, protocol, both, use);
	if (fd == -EAFNOSUPPORT && both) {
		struct addr v4 = { .length = sizeof v4.in, .in = { .sin_family = AF_INET, .sin_port = addr->in6.sin6_port } };
		*addr = v4;
		fd = bind_open(addr, protocol, false, use);
	}
	if (fd < 0)
		return fd;
	addr->length = sizeof *addr - offsetof(struct addr, sa);
	int error = getsockname(fd, &addr->sa, &addr->length) < 0 ? -errno : 0;
	close(fd);
	return error;
}

bool bind_is_stale_path(const struct addr *addr)
{
	struct stat st;
	if (lstat(addr->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool refused = connect(fd, &addr->sa, addr->length) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}
