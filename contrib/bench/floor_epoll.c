/* The least relay on epoll: how little a TCP proxy can cost that accepts, dials, copies both ways and passes on a half-close.
 *
 * No limits, no timeouts, no logs, no handling of errors beyond closing: what a real proxy spends above this
 * is its own. Both sockets are registered once, edge-triggered, and never again. With -s a direction that carries much is moved
 * through a pipe (splice) instead of being copied. With -k a connection to a server is kept when the client has gone, for the next one,
 * without a look at what was said on it.
 *
 * Usage: floor_epoll [-k] [-s] [-b BYTES] PORT SERVER_PORT [COUNT]
 * Both on 127.0.0.1; with COUNT so many servers in turn, 127.1.0.0 and on. Prints "ready". Descriptors: ulimit -n.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_SERVER = 127 << 24 | 1 << 16 };
enum { EVENTS = 512, BACKLOG = 4096, PIPE_BYTES = 256 << 10, PROMOTE_BYTES = 256 << 10 };

/* One socket and the direction that is read from it. */
struct end {
	bool open, front, hup, eof;
	int peer;   /* of a kept one the next kept one, or -1 */
	char *held; /* what the peer's socket did not take */
	size_t held_at, held_end;
	size_t moved;
	int pipe[2]; /* 0, 0 while the direction is copied */
	size_t piped;
};

static struct end *ends;
static char *scratch;
static size_t scratch_bytes = 64 << 10;
static bool use_splice, keep;
static int kept = -1;
static int epoll;
static struct sockaddr_in server;
static uint32_t servers = 1, turn;

static void close_both(struct end *end, int fd)
{
	int fds[2] = { fd, end->peer };
	for (int i = 0; i < 2; i++) {
		struct end *one = &ends[fds[i]];
		free(one->held);
		if (one->pipe[1] != 0) {
			close(one->pipe[0]);
			close(one->pipe[1]);
		}
		*one = (struct end){ 0 };
		close(fds[i]);
	}
}

static void end_of_input(struct end *end, int fd)
{
	end->eof = true;
	if (keep && end->front && !ends[end->peer].eof) {
		int back = end->peer;
		*end = (struct end){ 0 };
		close(fd);
		ends[back].open = false;
		ends[back].peer = kept;
		kept = back;
		return;
	}
	if (ends[end->peer].eof)
		close_both(end, fd);
	else
		shutdown(end->peer, SHUT_WR);
}

/* Copy what is there. The short read of an edge-triggered socket says that it is empty; if its FIN is there as well, that is the end. */
static void copy(struct end *end, int fd)
{
	for (;;) {
		ssize_t got = recv(fd, scratch, scratch_bytes, 0);
		if (got < 0 && errno == EAGAIN)
			return;
		if (got < 0) {
			close_both(end, fd);
			return;
		}
		if (got > 0) {
			ssize_t sent = send(end->peer, scratch, (size_t)got, MSG_NOSIGNAL);
			if (sent < 0 && errno != EAGAIN) {
				close_both(end, fd);
				return;
			}
			sent = sent < 0 ? 0 : sent;
			end->moved += (size_t)got;
			if (sent < got) {
				end->held = malloc((size_t)(got - sent));
				memcpy(end->held, scratch + sent, (size_t)(got - sent));
				end->held_at = 0;
				end->held_end = (size_t)(got - sent);
				return;
			}
		}
		if (got == 0 || ((size_t)got < scratch_bytes && end->hup)) {
			end_of_input(end, fd);
			return;
		}
		if ((size_t)got < scratch_bytes)
			return;
	}
}

static void move_by_pipe(struct end *end, int fd)
{
	for (;;) {
		ssize_t got =
		        end->piped >= PIPE_BYTES ? -1 : splice(fd, NULL, end->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (got > 0)
			end->piped += (size_t)got;
		if (got == 0 && end->piped == 0) {
			end_of_input(end, fd);
			return;
		}
		if (end->piped == 0)
			return; /* EAGAIN with an empty pipe: the socket is empty */
		ssize_t sent = splice(end->pipe[0], NULL, end->peer, NULL, end->piped, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (sent < 0 && errno != EAGAIN) {
			close_both(end, fd);
			return;
		}
		if (sent < 0)
			return; /* the peer is full: it will say when it is not */
		end->piped -= (size_t)sent;
	}
}

static void pump(int fd)
{
	struct end *end = &ends[fd];
	if (!end->open || end->eof || end->held != NULL)
		return;
	if (use_splice && end->pipe[1] == 0 && end->moved > PROMOTE_BYTES && pipe2(end->pipe, O_NONBLOCK) == 0)
		fcntl(end->pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
	if (end->pipe[1] != 0)
		move_by_pipe(end, fd);
	else
		copy(end, fd);
}

/* The peer's socket has room again. */
static void flush(int fd)
{
	struct end *end = &ends[fd];
	if (!end->open)
		return;
	if (end->held != NULL) {
		ssize_t sent = send(end->peer, end->held + end->held_at, end->held_end - end->held_at, MSG_NOSIGNAL);
		if (sent < 0)
			return;
		end->held_at += (size_t)sent;
		if (end->held_at < end->held_end)
			return;
		free(end->held);
		end->held = NULL;
		pump(fd);
	} else if (end->piped > 0) {
		pump(fd);
	}
}

static void watch(int fd, int peer, bool front)
{
	ends[fd] = (struct end){ .open = true, .front = front, .peer = peer };
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd };
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static bool take(int listener)
{
	int front = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	if (front < 0)
		return false;
	if (kept >= 0) {
		int back = kept;
		kept = ends[back].peer;
		ends[back] = (struct end){ .open = true, .peer = front };
		watch(front, back, true);
		return true;
	}
	int back = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	if (servers > 1)
		server.sin_addr.s_addr = htonl(FIRST_SERVER + turn++ % servers);
	setsockopt(back, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (back < 0 || (connect(back, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)) {
		close(front);
		close(back);
		return true;
	}
	watch(back, front, false);
	watch(front, back, true);
	return true;
}

static void on_event(const struct epoll_event *event)
{
	int fd = event->data.fd;
	struct end *end = &ends[fd];
	if (!end->open)
		return;
	end->hup |= (event->events & EPOLLRDHUP) != 0;
	if ((event->events & EPOLLERR) != 0) {
		close_both(end, fd);
		return;
	}
	if ((event->events & EPOLLOUT) != 0)
		flush(end->peer);
	if ((event->events & (EPOLLIN | EPOLLRDHUP)) != 0)
		pump(fd);
}

static int listen_on(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what is accepted inherits it */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0) {
		perror("floor_epoll");
		exit(2);
	}
	return fd;
}

int main(int argc, char **argv)
{
	for (int option; (option = getopt(argc, argv, "ksb:")) != -1;) {
		if (option == 's')
			use_splice = true;
		else if (option == 'k')
			keep = true;
		else if (option == 'b')
			scratch_bytes = (size_t)atol(optarg);
		else
			return 1;
	}
	if (argc - optind < 2 || argc - optind > 3)
		return 1;
	signal(SIGPIPE, SIG_IGN); /* splice() knows no MSG_NOSIGNAL */
	ends = calloc((size_t)sysconf(_SC_OPEN_MAX), sizeof *ends);
	scratch = malloc(scratch_bytes);
	int listener = listen_on(atoi(argv[optind]));
	server = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[optind + 1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	if (argc - optind == 3)
		servers = (uint32_t)atoi(argv[optind + 2]);
	epoll = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	puts("ready");
	fflush(stdout);
	static struct epoll_event events[EVENTS];
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.fd != listener) {
				on_event(&events[i]);
				continue;
			}
			/* One a turn while turns are short: asking until EAGAIN costs more than the wait that comes anyway. */
			for (int tries = 1 + count / 32; tries > 0 && take(listener); tries--)
				;
		}
	}
}
