#include "net/dial.h"

#include <errno.h>
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
