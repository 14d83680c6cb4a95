#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/demo.h"

enum { BACKLOG = 4096, ACCEPTS_PER_EVENT = 64 };
/* How long accepting rests when descriptors or memory are used up. */
static const uint64_t accept_pause_ns = 100 * NS_PER_MS;

struct demo_listener {
	struct loop_io io;
	struct loop_timer pause;
	struct demo *demo;
	const struct service *service;
	struct demo_listener *next;
	int fd;
	struct addr addr;
};

void conn_wait(struct conn *conn, int events)
{
	ensure(loop_io_set(conn->demo->loop, &conn->io, conn->fd, events) == 0); /* a demo has no plan for a kernel without memory */
}

void conn_close(struct conn *conn, bool reset)
{
	struct demo *demo = conn->demo;
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	/* Where this fails the peer gets an ordinary end instead, which is all that can be done. */
	if (reset)
		(void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	loop_io_stop(demo->loop, &conn->io);
	loop_timer_stop(demo->loop, &conn->timer);
	close(conn->fd);
	if (conn->service->fini != NULL)
		conn->service->fini(conn);
	*conn->link = conn->next;
	if (conn->next != NULL)
		conn->next->link = conn->link;
	free(conn);
}

ssize_t conn_read(struct conn *conn, void *bytes, size_t size)
{
	ssize_t got;
	do
		got = recv(conn->fd, bytes, size, 0);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

ssize_t conn_send(struct conn *conn, struct iovec *iov, int n)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t sent;
	do
		sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t conn_send_bytes(struct conn *conn, const void *bytes, size_t size)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
	return conn_send(conn, &iov, 1);
}

static void on_conn(struct loop_io *io, int events)
{
	(void)events;
	struct conn *conn = container_of(io, struct conn, io);
	conn->service->run(conn);
}

static void on_conn_timer(struct loop_timer *timer)
{
	conn_close(container_of(timer, struct conn, timer), false);
}

static void conn_start(struct demo_listener *listener, int fd, const struct addr *peer)
{
	struct demo *demo = listener->demo;
	struct conn *conn = calloc(1, listener->service->conn_bytes);
	if (conn == NULL) {
		close(fd);
		return;
	}
	int on = 1;
	/* Only a matter of speed, and not there on unix sockets. */
	if (peer->sa.sa_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	conn->demo = demo;
	conn->service = listener->service;
	conn->fd = fd;
	conn->peer = *peer;
	conn->next = demo->conns;
	conn->link = &demo->conns;
	if (conn->next != NULL)
		conn->next->link = &conn->next;
	demo->conns = conn;
	loop_io_init(&conn->io, on_conn);
	loop_timer_init(&conn->timer, on_conn_timer);
	conn->service->run(conn);
}

/* True where the connection was lost before it was taken: the next one may be fine. */
static bool is_passing(int error)
{
	return error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM;
}

static void on_listener(struct loop_io *io, int events)
{
	(void)events;
	struct demo_listener *listener = container_of(io, struct demo_listener, io);
	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		struct sockaddr_storage name = { .ss_family = listener->addr.sa.sa_family };
		socklen_t length = sizeof name;
		int fd = accept4(listener->fd, (struct sockaddr *)&name, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && is_passing(errno))
			continue;
		if (fd < 0 && errno != EAGAIN) {
			loop_io_stop(listener->demo->loop, &listener->io);
			loop_timer_start(listener->demo->loop, &listener->pause, accept_pause_ns);
		}
		if (fd < 0)
			return;
		struct addr peer;
		addr_from_sockaddr(&peer, (struct sockaddr *)&name, length);
		conn_start(listener, fd, &peer);
	}
}

static void on_pause_over(struct loop_timer *timer)
{
	struct demo_listener *listener = container_of(timer, struct demo_listener, pause);
	ensure(loop_io_set(listener->demo->loop, &listener->io, listener->fd, LOOP_READ) ==
	        0); /* a demo has no plan for a kernel without memory */
}

int demo_listen(struct demo *demo, const struct service *service, const char *address)
{
	struct addr addr;
	int fd = demo_bind(address, SOCK_STREAM, &addr);
	if (fd < 0)
		return fd;
	int rc = 0;
	struct demo_listener *listener = calloc(1, sizeof *listener);
	if (listener == NULL)
		rc = -ENOMEM;
	else if (listen(fd, BACKLOG) < 0)
		rc = -errno;
	if (rc < 0) {
		fprintf(stderr, "aegis-demo: cannot listen on %s: %s\n", address, strerror(-rc));
		free(listener);
		close(fd);
		return rc;
	}
	listener->demo = demo;
	listener->service = service;
	listener->fd = fd;
	listener->addr = addr;
	listener->next = demo->listeners;
	demo->listeners = listener;
	loop_timer_init(&listener->pause, on_pause_over);
	loop_io_init(&listener->io, on_listener);
	ensure(loop_io_set(demo->loop, &listener->io, fd, LOOP_READ) == 0); /* a demo has no plan for a kernel without memory */
	char text[ADDR_TEXT_SIZE];
	printf("%s %s\n", service->name, addr_format(&addr, text, sizeof text));
	return 0;
}

void demo_close_all(struct demo *demo)
{
	while (demo->listeners != NULL) {
		struct demo_listener *listener = demo->listeners;
		demo->listeners = listener->next;
		loop_io_stop(demo->loop, &listener->io);
		loop_timer_stop(demo->loop, &listener->pause);
		close(listener->fd);
		if (listener->addr.sa.sa_family == AF_UNIX && listener->addr.un.sun_path[0] != '\0')
			unlink(listener->addr.un.sun_path);
		free(listener);
	}
	while (demo->conns != NULL)
		conn_close(demo->conns, false);
}
