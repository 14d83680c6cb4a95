#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/demo.h"

static int parse(const char *address, struct addr *out)
{
	struct endpoint endpoint;
	const char *why = "it cannot be used";
	int rc = endpoint_parse(address, &endpoint, &why);
	if (rc == 0 && endpoint.kind != ENDPOINT_ADDRESS) {
		rc = -EINVAL;
		why = "use a numeric address such as 127.0.0.1:8080 or [::1]:8080, or unix:/path";
	}
	if (rc < 0) {
		fprintf(stderr, "aegis-demo: %s: %s\n", address, why);
		return rc;
	}
	*out = endpoint.addr;
	return 0;
}

static bool is_path(const struct addr *addr)
{
	return addr->sa.sa_family == AF_UNIX && addr->un.sun_path[0] != '\0';
}

/* Remove a socket file that nobody listens on any more; anything else stays and lets bind() fail. */
static void remove_dead_socket(const struct addr *addr, int type)
{
	struct stat status;
	if (!is_path(addr) || lstat(addr->un.sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, &addr->sa, addr->length) < 0 && errno == ECONNREFUSED)
		unlink(addr->un.sun_path);
	close(fd);
}

int demo_bind(const char *address, int type, struct addr *bound)
{
	struct addr addr;
	int rc = parse(address, &addr);
	if (rc < 0)
		return rc;
	int fd = socket(addr.sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		goto failed;
	int on = 1, off = 0;
	if (addr.sa.sa_family != AF_UNIX && type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		goto failed;
	if (addr.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr.in6.sin6_addr) &&
	        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
		goto failed;
	remove_dead_socket(&addr, type);
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	if (bind(fd, &addr.sa, addr.length) < 0 || getsockname(fd, (struct sockaddr *)&name, &length) < 0)
		goto failed;
	addr_from_sockaddr(bound, (struct sockaddr *)&name, length);
	return fd;

failed:
	rc = -errno;
	fprintf(stderr, "aegis-demo: cannot bind %s: %s\n", address, strerror(-rc));
	if (fd >= 0)
		close(fd);
	return rc;
}
