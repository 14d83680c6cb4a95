/* Sockets that were handed over: by whoever started us, or by another master. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "net/bind.h"
#include "net/listener_own.h"
#include "os/notify.h"

static int number_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	return getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

static bool is_of_type(int fd, enum protocol protocol)
{
	if (protocol == PROTOCOL_UDP)
		return number_option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP;
	return number_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
}

int listener_adopt_fd(struct listener *listener, int fd, char *why, size_t why_size)
{
	if (!is_of_type(fd, listener->protocol))
		return bind_fail(-EINVAL, why, why_size, "descriptor %d (%s) is not a %s socket; pass one that is bound", fd,
		        listener->address, listener->protocol == PROTOCOL_UDP ? "UDP" : "stream");
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* The original stays open, so that a reload that gives the listener up and one that takes it back find it again. */
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return bind_fail(-errno, why, why_size, "cannot copy descriptor %d (%s): %s", fd, listener->address, strerror(errno));
	int error = 0;
	if (listener->n_fds == 0) {
		listener->bound.length = sizeof listener->bound - offsetof(struct addr, sa);
		if (getsockname(fd, &listener->bound.sa, &listener->bound.length) < 0)
			error = bind_fail(
			        -errno, why, why_size, "descriptor %d (%s) has no address: %s", fd, listener->address, strerror(errno));
	}
	if (!error)
		error = listener_add_fd(listener, copy);
	if (error) {
		close(copy);
		return error;
	}
	listener->per_slot = listener->protocol == PROTOCOL_UDP;
	listener->n_bound = listener->n_fds;
	listener->any_address = listener->per_slot && addr_is_any(&listener->bound);
	return 0;
}

int listener_adopt_systemd(struct listener *listener, const char *name, char *why, size_t why_size)
{
	for (int n = 0;; n++) {
		int fd = notify_socket(name, n);
		if (fd == -ENOENT && n > 0)
			return 0;
		if (fd < 0)
			return bind_fail(fd, why, why_size,
			        "systemd passed no socket named \"%s\" (%d sockets in all); see FileDescriptorName= in the .socket unit",
			        name, notify_socket_count());
		int error = listener_adopt_fd(listener, fd, why, why_size);
		if (error)
			return error;
	}
}

int listener_adopt(const char *name, const char *address, ino_t inode, int fd, struct listener **out)
{
	const char *why;
	struct listener *listener = calloc(1, sizeof *listener);
	if (!listener || !(listener->name = strdup(name)) || !(listener->address = strdup(address))) {
		listener_free(listener);
		return -ENOMEM;
	}
	listener->shared = true;
	listener->original = -1;
	listener->inode = inode;
	int error = endpoint_parse(address, &listener->endpoint, &why);
	listener->protocol = is_of_type(fd, PROTOCOL_UDP) ? PROTOCOL_UDP : PROTOCOL_TCP;
	if (!error && (listener->endpoint.kind != ENDPOINT_ADDRESS || !is_of_type(fd, listener->protocol)))
		error = -EINVAL;
	listener->bound.length = sizeof listener->bound - offsetof(struct addr, sa);
	if (!error && getsockname(fd, &listener->bound.sa, &listener->bound.length) < 0)
		error = -errno;
	listener->per_slot = listener->bound.sa.sa_family != AF_UNIX;
	listener->any_address = listener->protocol == PROTOCOL_UDP && addr_is_any(&listener->bound);
	if (!error)
		error = listener_adopt_more(listener, fd);
	if (error) {
		listener_free(listener);
		return error;
	}
	*out = listener;
	return 0;
}

int listener_adopt_more(struct listener *listener, int fd)
{
	int error = listener_add_fd(listener, fd);
	if (!error && listener->protocol == PROTOCOL_UDP)
		listener->n_bound = listener->n_fds; /* whoever hands them over has bound all */
	return error;
}
