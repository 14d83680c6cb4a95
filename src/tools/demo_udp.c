#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/demo.h"

enum { DATAGRAM_BYTES = 65536, BATCH = 16 };

struct udp_echo {
	struct loop_io io;
	struct demo *demo;
	struct udp_echo *next;
	int fd;
	unsigned char bytes[BATCH][DATAGRAM_BYTES];
};

/* Answer what came; what the kernel does not take is lost, as datagrams may be. */
static void on_datagrams(struct loop_io *io, int events)
{
	(void)events;
	struct udp_echo *echo = container_of(io, struct udp_echo, io);
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec iov[BATCH];
	struct sockaddr_storage names[BATCH];
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ .iov_base = echo->bytes[i], .iov_len = DATAGRAM_BYTES };
		messages[i].msg_hdr =
		        (struct msghdr){ .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	int got = recvmmsg(echo->fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < got; i++)
		iov[i].iov_len = messages[i].msg_len;
	for (int done = 0; done < got;) {
		int sent = sendmmsg(echo->fd, messages + done, (unsigned)(got - done), 0);
		/* An error is about the first of them. */
		done += sent > 0 ? sent : 1;
	}
}

int demo_udp(struct demo *demo, const char *address)
{
	struct addr addr;
	int fd = demo_bind(address, SOCK_DGRAM, &addr);
	if (fd < 0)
		return fd;
	struct udp_echo *echo = addr.sa.sa_family == AF_UNIX ? NULL : calloc(1, sizeof *echo);
	if (echo == NULL) {
		bool local = addr.sa.sa_family == AF_UNIX;
		fprintf(stderr, "aegis-demo: udp %s: %s\n", address, local ? "use host:port" : strerror(ENOMEM));
		if (local && addr.un.sun_path[0] != '\0')
			unlink(addr.un.sun_path);
		close(fd);
		return local ? -EINVAL : -ENOMEM;
	}
	echo->demo = demo;
	echo->fd = fd;
	echo->next = demo->udp_echoes;
	demo->udp_echoes = echo;
	loop_io_init(&echo->io, on_datagrams);
	ensure(loop_io_set(demo->loop, &echo->io, fd, LOOP_READ) == 0); /* a demo has no plan for a kernel without memory */
	char text[ADDR_TEXT_SIZE];
	printf("udp %s\n", addr_format(&addr, text, sizeof text));
	return 0;
}

void demo_udp_close_all(struct demo *demo)
{
	while (demo->udp_echoes != NULL) {
		struct udp_echo *echo = demo->udp_echoes;
		demo->udp_echoes = echo->next;
		loop_io_stop(demo->loop, &echo->io);
		close(echo->fd);
		free(echo);
	}
}
