#include "net/dial.h"

#include <errno.h>
#include <unistd.h>

#include "net/options.h"

int dial_start(const struct addr *addr, const struct tcp_config *tcp, int *fd)
{
	int sock = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	options_set_dialled(sock, addr->sa.sa_family, tcp);
	int error = connect(sock, &addr->sa, addr->length) < 0 ? errno : 0;
	/* On the loopback the handshake is over when connect() returns, although it says EINPROGRESS: asking once more saves a
	 * turn of the loop and two epoll_ctl. Elsewhere it says EALREADY. */
	if (error == EINPROGRESS)
		error = connect(sock, &addr->sa, addr->length) < 0 ? errno : 0;
	if (error == 0 || error == EISCONN) {
		*fd = sock;
		return 0;
	}
	if (error == EALREADY || error == EINPROGRESS) {
		*fd = sock;
		return -EINPROGRESS;
	}
	close(sock);
	return -error;
}

int dial_result(int fd)
{
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return -errno;
	return -error;
}
