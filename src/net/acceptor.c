#include "net/acceptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

enum { BURST_MAX = 64, FULL_TURNS = 4 }; /* a longer burst costs a call for nothing when there is no more */

#define PAUSE_FULL_NS (5 * NS_PER_MS)     /* no room: another worker may make some at any time */
#define PAUSE_FAILED_NS (100 * NS_PER_MS) /* out of descriptors or memory */

enum { SWEEP_MAX = 65536 }; /* when stopping: a flood must not keep us accepting */

/* Paused sockets are watched again when the timer fires; a longer pause that is under way is for these, too. */
static void pause_one(struct acceptor *acceptor, struct accept_socket *socket)
{
	loop_io_stop(acceptor->loop, &socket->io);
	if (!loop_timer_active(&acceptor->resume))
		loop_timer_start(acceptor->loop, &acceptor->resume, PAUSE_FULL_NS);
}

static void pause_all(struct acceptor *acceptor, uint64_t for_ns)
{
	for (uint32_t i = 0; i < acceptor->n_sockets; i++)
		loop_io_stop(acceptor->loop, &acceptor->sockets[i].io);
	loop_timer_start(acceptor->loop, &acceptor->resume, for_ns);
}

static void watch_all(struct acceptor *acceptor)
{
	for (uint32_t i = 0; i < acceptor->n_sockets; i++)
		if (loop_io_set(acceptor->loop, &acceptor->sockets[i].io, acceptor->sockets[i].fd, LOOP_READ)) {
			acceptor->owner->paused(acceptor, acceptor->sockets[i].listener, ENOMEM);
			pause_all(acceptor, PAUSE_FAILED_NS);
			return;
		}
}

/* Errors of the connection, which is gone, and not of the socket (accept(2)): go on with the next one. */
static bool connection_failed(int error)
{
	return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM || error == ENETDOWN || error == ENOPROTOOPT ||
	       error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH || error == EOPNOTSUPP || error == ENETUNREACH;
}

enum accept_outcome { ACCEPTED, NOTHING_THERE, CONNECTION_GONE, MUST_PAUSE };

static enum accept_outcome accept_one(struct accept_socket *socket)
{
	struct acceptor *acceptor = socket->acceptor;
	struct sockaddr_in6 peer;
	socklen_t length = sizeof peer;
	enum admission admission = acceptor->owner->admit(acceptor, socket->listener);
	if (admission != ADMITTED) {
		acceptor->owner->paused(acceptor, socket->listener, 0);
		if (admission == LISTENER_FULL)
			pause_one(acceptor, socket); /* the other listeners go on */
		else
			pause_all(acceptor, PAUSE_FULL_NS);
		return MUST_PAUSE;
	}
	peer.sin6_family = AF_UNSPEC;
	int fd = accept4(socket->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (likely(fd >= 0)) {
		if (peer.sin6_family != AF_INET && peer.sin6_family != AF_INET6)
			memset(&peer, 0, sizeof peer);
		acceptor->owner->accepted(acceptor, socket->listener, fd, &peer);
		return ACCEPTED;
	}
	int error = errno;
	acceptor->owner->not_accepted(acceptor, socket->listener);
	if (error == EAGAIN)
		return NOTHING_THERE;
	if (error == EINVAL) { /* not listening, or no longer: epoll would tell of it for ever */
		loop_io_stop(acceptor->loop, &socket->io);
		return NOTHING_THERE;
	}
	if (connection_failed(error))
		return CONNECTION_GONE;
	acceptor->owner->paused(acceptor, socket->listener, error);
	pause_all(acceptor, PAUSE_FAILED_NS);
	return MUST_PAUSE;
}

static void on_acceptable(struct loop_io *io, int events)
{
	struct accept_socket *socket = container_of(io, struct accept_socket, io);
	(void)events;
	for (uint32_t i = 0; i < socket->burst; i++) {
		enum accept_outcome outcome = accept_one(socket);
		if (outcome == MUST_PAUSE)
			return;
		if (outcome == NOTHING_THERE) {
			socket->burst = i > 1 ? i : 1;
			socket->full = 0;
			return;
		}
	}
	if (++socket->full < FULL_TURNS || socket->burst == BURST_MAX)
		return;
	socket->burst *= 2;
	socket->full = 0;
}

static void on_resume(struct loop_timer *timer)
{
	struct acceptor *acceptor = container_of(timer, struct acceptor, resume);
	if (acceptor->running)
		watch_all(acceptor);
}

void acceptor_init(
        struct acceptor *acceptor, struct loop *loop, const struct acceptor_owner *owner, struct accept_socket *sockets, uint32_t n_sockets)
{
	*acceptor = (struct acceptor){ .loop = loop, .owner = owner, .sockets = sockets, .n_sockets = n_sockets };
	loop_timer_init(&acceptor->resume, on_resume);
	for (uint32_t i = 0; i < n_sockets; i++) {
		sockets[i].acceptor = acceptor;
		sockets[i].burst = 1;
		loop_io_init(&sockets[i].io, on_acceptable);
	}
}

void acceptor_start(struct acceptor *acceptor)
{
	acceptor->running = true;
	watch_all(acceptor);
}

void acceptor_stop(struct acceptor *acceptor, bool sweep)
{
	if (!acceptor->running)
		return;
	acceptor->running = false;
	loop_timer_stop(acceptor->loop, &acceptor->resume);
	for (uint32_t i = 0; i < acceptor->n_sockets; i++)
		loop_io_stop(acceptor->loop, &acceptor->sockets[i].io);
	for (uint32_t i = 0; sweep && i < acceptor->n_sockets; i++) {
		enum accept_outcome outcome = ACCEPTED;
		for (uint32_t j = 0; j < SWEEP_MAX && (outcome == ACCEPTED || outcome == CONNECTION_GONE); j++)
			outcome = accept_one(&acceptor->sockets[i]);
	}
	loop_timer_stop(acceptor->loop, &acceptor->resume);
}
