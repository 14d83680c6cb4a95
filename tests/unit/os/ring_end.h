/* A ring under test, and what its ports have heard. To be included by one file of a test program. */
#ifndef AEGIS_TESTS_RING_END_H
#define AEGIS_TESTS_RING_END_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/ring.h"

enum { PATIENCE_TURNS = 200 };
#define TURN_NS INT64_C(50000000)

static struct ring *ring;

/* What a port has heard, by operation. */
struct end {
	struct ring_port port;
	int fd;
	int calls[RING_OPS], result[RING_OPS];
	unsigned flags[RING_OPS];
	bool ended[RING_OPS];
	char bytes[512];
	size_t length;
	bool keep;   /* the buffers, in kept */
	bool again;  /* receive again after -ENOBUFS */
	int peer;    /* what the peer has when the cancel of a receive is told: see peer_end */
	int peer_fd; /* -1 = do not look */
	unsigned kept[16];
	int kept_count;
	int fds[128]; /* accepted */
};

static inline void on_end(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer_id)
{
	struct end *end = container_of(port, struct end, port);
	assert_true(op < RING_OPS);
	assert_false(end->ended[op]);
	if (op == RING_ACCEPT && result >= 0)
		end->fds[end->calls[op]] = result;
	end->calls[op]++;
	end->result[op] = result;
	end->flags[op] = flags;
	end->ended[op] = !(flags & RING_MORE);
	if (op == RING_RECV && result > 0) {
		assert_true(flags & RING_BUFFER);
		assert_true(end->length + (size_t)result <= sizeof end->bytes);
		memcpy(end->bytes + end->length, ring_buffer(ring, buffer_id), (size_t)result);
		end->length += (size_t)result;
	}
	if (flags & RING_BUFFER && end->keep)
		end->kept[end->kept_count++] = buffer_id;
	else if (flags & RING_BUFFER)
		ring_buffer_give_back(ring, buffer_id);
	if (op == RING_RECV && result == -ENOBUFS && end->again) {
		end->ended[RING_RECV] = false;
		ring_recv(ring, port, end->fd, false);
	}
	if (op == RING_RECV && result == -ECANCELED && end->peer_fd >= 0) {
		char byte;
		end->peer = recv(end->peer_fd, &byte, 1, MSG_DONTWAIT) < 0 ? -errno : 0;
	}
}

static inline struct end end_of(int fd)
{
	return (struct end){ .port.fn = on_end, .fd = fd, .peer_fd = -1, .peer = 1 };
}

static inline int wait_turn(int64_t timeout_ns)
{
	int count = ring_wait(ring, timeout_ns, NULL, NULL);
	assert_true(count >= 0);
	return count;
}

/* Turns until the operation has ended. */
static inline void await_end(struct end *end, enum ring_op op)
{
	for (int i = 0; i < PATIENCE_TURNS && !end->ended[op]; i++)
		wait_turn(TURN_NS);
	assert_true(end->ended[op]);
}

static inline void await_calls(struct end *end, enum ring_op op, int calls)
{
	for (int i = 0; i < PATIENCE_TURNS && end->calls[op] < calls; i++)
		wait_turn(TURN_NS);
	assert_int_equal(end->calls[op], calls);
}

static inline void make_ring(unsigned entries, unsigned completions, unsigned buffers, unsigned buffer_bytes)
{
	const struct ring_shape shape = {
		.entries = entries, .completions = completions, .buffers = buffers, .buffer_bytes = buffer_bytes
	};
	char why[128] = "";
	ring = ring_new(&shape, why, sizeof why);
	if (!ring)
		fail_msg("%s", why);
	assert_int_equal(ring_sums(ring)->completed, 0);
	assert_int_equal(ring_buffers_free(ring), buffers);
}

static inline int set_up(void **state)
{
	(void)state;
	make_ring(64, 256, 16, 256);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	ring_free(ring);
	ring = NULL;
	return 0;
}

static inline void open_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static inline int listen_on_loopback(struct sockaddr_in *name)
{
	socklen_t length = sizeof *name;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	*name = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)name, sizeof *name), 0);
	assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)name, &length), 0);
	return fd;
}

static inline int connect_to(const struct sockaddr_in *name)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)name, sizeof *name), 0);
	return fd;
}

/* The same over TCP, where a FIN is a packet. fds[0] does not block. */
static inline void open_tcp_pair(int fds[2])
{
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name);
	fds[1] = connect_to(&name);
	fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fds[0] >= 0);
	close(listener);
}

/* 0: the peer has closed; -EAGAIN: nothing; 1: bytes. */
static inline int peer_end(int fd)
{
	char byte;
	ssize_t count = recv(fd, &byte, 1, MSG_DONTWAIT);
	return count < 0 ? -errno : (int)count;
}

static inline int count_descriptors(void)
{
	int count = 0;
	DIR *directory = opendir("/proc/self/fd");
	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* Or the reason, as the last line of output. */
static inline bool ring_can_be_made(void)
{
	char why[128];
	if (ring_probe(why, sizeof why))
		return true;
	printf("no io_uring here: %s\n", why);
	return false;
}

#endif
