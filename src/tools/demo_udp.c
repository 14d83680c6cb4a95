/* The UDP service: sends each datagram back, at once or later, once, often or never, with the name in front where that was asked for.
 *
 * A plain echo takes and sends whole batches: what the kernel put together (UDP_GRO) goes back in one piece, to be cut again
 * (UDP_SEGMENT), so that a server does not cost a multiple of what is between it and the client.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/demo.h"

enum { DATAGRAM_BYTES = 65536, BATCH = 16, CONTROL_BYTES = 128, SOCKET_BUFFER_BYTES = 4 << 20, MAX_ANSWERS = 1000 };

struct control {
	_Alignas(struct cmsghdr) unsigned char bytes[CONTROL_BYTES];
};

/* An answer that waits for its time. */
struct delayed {
	struct delayed *next;
	uint64_t due_ns;
	struct sockaddr_storage peer;
	socklen_t peer_length;
	struct control control;
	size_t control_length;
	size_t length;
	unsigned char bytes[];
};

struct udp_echo {
	struct loop_io io;
	struct loop_timer timer;
	struct demo *demo;
	struct udp_echo *next;
	int fd;
	uint64_t delay_ns;
	uint64_t answers;
	bool named;
	struct delayed *first, **end;
	struct sockaddr_storage peers[BATCH];
	struct iovec iov[BATCH];
	struct control controls[BATCH];
	struct mmsghdr messages[BATCH];
	unsigned char bytes[BATCH][DATAGRAM_BYTES];
	unsigned char answer[DEMO_NAME_SIZE + 1 + DATAGRAM_BYTES];
};

/* --- options ---------------------------------------------------------------------- */

static int take_option(struct udp_echo *echo, const char *option)
{
	static const char delay[] = "delay=", answers[] = "answers=";
	const char *number = option + sizeof answers - 1;
	if (strcmp(option, "named") == 0) {
		echo->named = true;
		return 0;
	}
	if (strncmp(option, delay, sizeof delay - 1) == 0)
		return units_parse_duration(option + sizeof delay - 1, &echo->delay_ns);
	if (strncmp(option, answers, sizeof answers - 1) != 0 || *number == '\0' || strlen(number) > 4 ||
	        strspn(number, "0123456789") != strlen(number))
		return -EINVAL;
	echo->answers = strtoul(number, NULL, 10);
	return echo->answers <= MAX_ANSWERS ? 0 : -EINVAL;
}

/* "ADDRESS,option,option": cut off and take what stands behind the address. */
static int take_options(struct udp_echo *echo, char *address)
{
	char *rest = strchr(address, ',');
	if (rest == NULL)
		return 0;
	*rest++ = '\0';
	for (char *state = NULL, *option = strtok_r(rest, ",", &state); option != NULL; option = strtok_r(NULL, ",", &state)) {
		if (take_option(echo, option) == 0)
			continue;
		fprintf(stderr, "aegis-demo: -u: what is \"%s\"? There is delay=TIME (as in 10ms), answers=N (0 to %d) and named\n", option,
		        MAX_ANSWERS);
		return -EINVAL;
	}
	return 0;
}

/* --- answers ---------------------------------------------------------------------- */

/* What came with a datagram, as it goes with the answer: the address that was asked, and the size of the pieces of a whole. */
static size_t answer_control(struct msghdr *header)
{
	size_t length = header->msg_controllen;
	for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL; control = CMSG_NXTHDR(header, control)) {
		if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO)
			((struct in_pktinfo *)(void *)CMSG_DATA(control))->ipi_ifindex = 0;
		if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
			int size = 0;
			memcpy(&size, CMSG_DATA(control), sizeof size);
			uint16_t segment = (uint16_t)size;
			control->cmsg_type = UDP_SEGMENT;
			control->cmsg_len = CMSG_LEN(sizeof segment);
			memcpy(CMSG_DATA(control), &segment, sizeof segment);
		}
	}
	return length;
}

/* What the kernel does not take is lost, as datagrams may be. */
static void send_batch(struct udp_echo *echo, int n)
{
	for (int i = 0; i < n; i++) {
		echo->iov[i].iov_len = echo->messages[i].msg_len;
		echo->messages[i].msg_hdr.msg_controllen = answer_control(&echo->messages[i].msg_hdr);
	}
	for (int done = 0; done < n;) {
		int sent = sendmmsg(echo->fd, echo->messages + done, (unsigned)(n - done), 0);
		/* An error is about the first of them. */
		done += sent > 0 ? sent : 1;
	}
}

static void send_answers(struct udp_echo *echo, struct msghdr *header)
{
	for (uint64_t i = 0; i < echo->answers; i++)
		(void)!sendmsg(echo->fd, header, 0);
}

static void send_later(struct udp_echo *echo, const struct msghdr *header)
{
	const struct iovec *iov = header->msg_iov;
	struct delayed *delayed = malloc(sizeof *delayed + iov->iov_len);
	if (delayed == NULL)
		return;
	*delayed = (struct delayed){ .due_ns = loop_now_ns(echo->demo->loop) + echo->delay_ns,
		.peer_length = header->msg_namelen,
		.control_length = header->msg_controllen,
		.length = iov->iov_len };
	memcpy(&delayed->peer, header->msg_name, header->msg_namelen);
	memcpy(delayed->control.bytes, header->msg_control, header->msg_controllen);
	memcpy(delayed->bytes, iov->iov_base, iov->iov_len);
	if (echo->first == NULL)
		loop_timer_start(echo->demo->loop, &echo->timer, echo->delay_ns);
	*echo->end = delayed;
	echo->end = &delayed->next;
}

static void on_due(struct loop_timer *timer)
{
	struct udp_echo *echo = container_of(timer, struct udp_echo, timer);
	uint64_t now_ns = loop_now_ns(echo->demo->loop);
	while (echo->first != NULL && echo->first->due_ns <= now_ns) {
		struct delayed *delayed = echo->first;
		struct iovec iov = { .iov_base = delayed->bytes, .iov_len = delayed->length };
		struct msghdr header = { .msg_name = &delayed->peer,
			.msg_namelen = delayed->peer_length,
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = delayed->control.bytes,
			.msg_controllen = delayed->control_length };
		send_answers(echo, &header);
		echo->first = delayed->next;
		free(delayed);
	}
	if (echo->first == NULL)
		echo->end = &echo->first;
	else
		loop_timer_start(echo->demo->loop, timer, echo->first->due_ns - now_ns);
}

/* One datagram, with all that was asked for. */
static void answer_one(struct udp_echo *echo, int i)
{
	struct msghdr *header = &echo->messages[i].msg_hdr;
	size_t name = echo->named ? strlen(echo->demo->name) : 0, at = 0, length = echo->messages[i].msg_len;
	header->msg_controllen = answer_control(header);
	if (echo->named) {
		memcpy(echo->answer, echo->demo->name, name);
		echo->answer[name] = ' ';
		at = name + 1;
	}
	memcpy(echo->answer + at, echo->bytes[i], length);
	struct iovec iov = { .iov_base = echo->answer, .iov_len = at + length };
	struct msghdr answer = *header;
	answer.msg_iov = &iov;
	if (echo->delay_ns > 0)
		send_later(echo, &answer);
	else
		send_answers(echo, &answer);
}

static bool is_plain(const struct udp_echo *echo)
{
	return echo->delay_ns == 0 && echo->answers == 1 && !echo->named;
}

static void on_datagrams(struct loop_io *io, int events)
{
	(void)events;
	struct udp_echo *echo = container_of(io, struct udp_echo, io);
	for (int i = 0; i < BATCH; i++) {
		echo->iov[i] = (struct iovec){ .iov_base = echo->bytes[i], .iov_len = DATAGRAM_BYTES };
		echo->messages[i].msg_hdr = (struct msghdr){ .msg_name = &echo->peers[i],
			.msg_namelen = sizeof echo->peers[i],
			.msg_iov = &echo->iov[i],
			.msg_iovlen = 1,
			.msg_control = echo->controls[i].bytes,
			.msg_controllen = sizeof echo->controls[i].bytes };
	}
	int got = recvmmsg(echo->fd, echo->messages, BATCH, 0, NULL);
	if (got > 0 && is_plain(echo))
		send_batch(echo, got);
	else
		for (int i = 0; i < got; i++)
			answer_one(echo, i);
}

/* --- the socket ------------------------------------------------------------------- */

/* All of it as far as the kernel has it: without, it is only slower, or holds less. */
static void set_options(const struct udp_echo *echo, const struct addr *addr)
{
	int on = 1, bytes = SOCKET_BUFFER_BYTES;
	if (setsockopt(echo->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0) /* net.core.rmem_max is small */
		(void)setsockopt(echo->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	if (is_plain(echo))
		(void)setsockopt(echo->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (!addr_is_any(addr))
		return;
	(void)setsockopt(echo->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	if (addr->sa.sa_family == AF_INET6)
		(void)setsockopt(echo->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

static void echo_free(struct udp_echo *echo)
{
	while (echo->first != NULL) {
		struct delayed *delayed = echo->first;
		echo->first = delayed->next;
		free(delayed);
	}
	if (echo->fd >= 0)
		close(echo->fd);
	free(echo);
}

int demo_udp(struct demo *demo, const char *address)
{
	char own[ADDR_TEXT_SIZE], text[ADDR_TEXT_SIZE];
	struct addr addr;
	struct udp_echo *echo = calloc(1, sizeof *echo);
	if (echo == NULL) {
		fprintf(stderr, "aegis-demo: udp %s: %s\n", address, strerror(ENOMEM));
		return -ENOMEM;
	}
	echo->demo = demo;
	echo->fd = -1;
	echo->answers = 1;
	echo->end = &echo->first;
	int rc = -EINVAL;
	if (!text_copy(own, sizeof own, address) || strncmp(own, "unix:", 5) == 0) {
		fprintf(stderr, "aegis-demo: udp %s: use host:port\n", address);
		goto failed;
	}
	rc = take_options(echo, own);
	if (rc < 0)
		goto failed;
	rc = echo->fd = demo_bind(own, SOCK_DGRAM, &addr);
	if (rc < 0)
		goto failed;
	set_options(echo, &addr);
	echo->next = demo->udp_echoes;
	demo->udp_echoes = echo;
	loop_timer_init(&echo->timer, on_due);
	loop_io_init(&echo->io, on_datagrams);
	ensure(loop_io_set(demo->loop, &echo->io, echo->fd, LOOP_READ) == 0); /* a demo has no plan for a kernel without memory */
	printf("udp %s\n", addr_format(&addr, text, sizeof text));
	return 0;

failed:
	echo_free(echo);
	return rc;
}

void demo_udp_close_all(struct demo *demo)
{
	while (demo->udp_echoes != NULL) {
		struct udp_echo *echo = demo->udp_echoes;
		demo->udp_echoes = echo->next;
		loop_io_stop(demo->loop, &echo->io);
		loop_timer_stop(demo->loop, &echo->timer);
		echo_free(echo);
	}
}
