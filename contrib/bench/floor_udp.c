/* The least UDP relay: how little a proxy can cost that gives each client a socket of its own to the server, and copies both ways.
 *
 * No limits, no timeouts, no logs, no handling of errors: what a real proxy spends above this is its own. What is there is taken by
 * recvmmsg() and sent on by sendmmsg(): datagrams of one client in a row by one call, and the answers of all servers in a turn by one
 * call. With -g the kernel puts datagrams together (UDP_GRO), and they go on in one piece (UDP_SEGMENT). With -1 every datagram is taken
 * by recvmsg() and sent by send(), as a program does that knows no batches.
 *
 * Usage: floor_udp [-1] [-g] [-w WORKERS] PORT SERVER_PORT
 * Both on 127.0.0.1. Descriptors: ulimit -n.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, EVENTS = 64, ANSWERS = 16, BYTES = 65536, TABLE = 1 << 18, LISTENER_BUFFER_BYTES = 4 << 20, ROUNDS = 16 };

struct control {
	_Alignas(struct cmsghdr) unsigned char bytes[CMSG_SPACE(sizeof(int))];
};

/* Some datagrams: as they were taken, and as they are sent on. */
struct batch {
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_in names[BATCH];
	struct control controls[BATCH];
	unsigned char (*bytes)[BYTES];
};

struct session {
	struct sockaddr_in client;
	int fd; /* 0 = the place is free */
};

static struct session *table;
static struct batch in, out;
static int epoll, listener;
static unsigned batch = BATCH, answers_each = ANSWERS, workers = 1;
static bool use_segments;
static struct sockaddr_in server;

static struct session *find(const struct sockaddr_in *client)
{
	uint64_t key = ((uint64_t)client->sin_addr.s_addr << 16 | client->sin_port) * 0x9e3779b97f4a7c15;
	uint32_t at = (uint32_t)(key >> 46) % TABLE;
	while (table[at].fd != 0 &&
	        (table[at].client.sin_addr.s_addr != client->sin_addr.s_addr || table[at].client.sin_port != client->sin_port))
		at = (at + 1) % TABLE;
	return &table[at];
}

static void begin(struct session *session, const struct sockaddr_in *client)
{
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint64_t)(session - table) };
	if (use_segments)
		setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		perror("floor_udp");
		exit(3);
	}
	*session = (struct session){ .client = *client, .fd = fd };
}

static void prepare(struct batch *some, unsigned first, unsigned n, bool named)
{
	for (unsigned i = first; i < first + n; i++) {
		some->iov[i] = (struct iovec){ some->bytes[i], BYTES };
		some->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &some->iov[i], .msg_iovlen = 1 };
		if (named) {
			some->messages[i].msg_hdr.msg_name = &some->names[i];
			some->messages[i].msg_hdr.msg_namelen = sizeof some->names[i];
		}
		if (use_segments) {
			some->messages[i].msg_hdr.msg_control = &some->controls[i];
			some->messages[i].msg_hdr.msg_controllen = sizeof some->controls[i];
		}
	}
}

static int receive(int fd, struct batch *some, unsigned first, unsigned n)
{
	if (n > 1)
		return recvmmsg(fd, some->messages + first, n, 0, NULL);
	ssize_t got = recvmsg(fd, &some->messages[first].msg_hdr, 0);
	some->messages[first].msg_len = got < 0 ? 0 : (unsigned)got;
	return got < 0 ? -1 : 1;
}

/* What was taken, ready to be sent on to a client, or on a connected socket. */
static void turn_round(struct batch *some, unsigned i, struct sockaddr_in *name)
{
	struct msghdr *header = &some->messages[i].msg_hdr;
	struct cmsghdr *control = CMSG_FIRSTHDR(header);
	some->iov[i].iov_len = some->messages[i].msg_len;
	header->msg_name = name;
	header->msg_namelen = name != NULL ? sizeof *name : 0;
	if (control != NULL && control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
		int size;
		memcpy(&size, CMSG_DATA(control), sizeof size);
		uint16_t segment = (uint16_t)size;
		control->cmsg_type = UDP_SEGMENT;
		control->cmsg_len = CMSG_LEN(sizeof segment);
		memcpy(CMSG_DATA(control), &segment, sizeof segment);
	}
}

static void send_all(int fd, struct mmsghdr *messages, unsigned n)
{
	if (n == 1) {
		sendmsg(fd, &messages[0].msg_hdr, 0);
		return;
	}
	for (int sent; n > 0; messages += sent, n -= (unsigned)sent)
		if ((sent = sendmmsg(fd, messages, n, 0)) <= 0)
			sent = 1;
}

static bool from_clients(void)
{
	prepare(&in, 0, batch, true);
	int got = receive(listener, &in, 0, batch);
	for (int i = 0, next; i < got; i = next) {
		struct session *session = find(&in.names[i]);
		if (session->fd == 0)
			begin(session, &in.names[i]);
		for (next = i; next < got && in.names[next].sin_port == in.names[i].sin_port &&
		               in.names[next].sin_addr.s_addr == in.names[i].sin_addr.s_addr;
		        next++)
			turn_round(&in, (unsigned)next, NULL);
		send_all(session->fd, in.messages + i, (unsigned)(next - i));
	}
	return got == (int)batch;
}

/* Collect the answers of a turn, and send them when there is no room for more. */
static unsigned from_server(struct session *session, unsigned held)
{
	unsigned n = batch - held < answers_each ? batch - held : answers_each;
	prepare(&out, held, n, false);
	int got = receive(session->fd, &out, held, n);
	for (int i = 0; i < got; i++)
		turn_round(&out, held + (unsigned)i, &session->client);
	held += got > 0 ? (unsigned)got : 0;
	if (batch - held >= answers_each)
		return held;
	send_all(listener, out.messages, held);
	return 0;
}

static void take_options(int argc, char **argv)
{
	for (int option; (option = getopt(argc, argv, "1gw:")) != -1;) {
		if (option == '1')
			batch = answers_each = 1;
		else if (option == 'g')
			use_segments = true;
		else if (option == 'w')
			workers = (unsigned)atoi(optarg);
		else
			exit(1);
	}
	if (argc - optind != 2)
		exit(1);
}

static int bind_listener(int port)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, bytes = LISTENER_BUFFER_BYTES;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	if (use_segments)
		setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		perror("floor_udp");
		exit(2);
	}
	return fd;
}

int main(int argc, char **argv)
{
	take_options(argc, argv);
	for (unsigned i = 1; i < workers; i++) {
		if (fork() > 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		break;
	}
	table = calloc(TABLE, sizeof *table);
	in.bytes = malloc(BATCH * sizeof *in.bytes);
	out.bytes = malloc(BATCH * sizeof *out.bytes);
	listener = bind_listener(atoi(argv[optind]));
	server = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[optind + 1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	epoll = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = UINT64_MAX };
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	static struct epoll_event events[EVENTS];
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);
		unsigned held = 0;
		for (int i = 0; i < count; i++) {
			if (events[i].data.u64 != UINT64_MAX)
				held = from_server(&table[events[i].data.u64], held);
			else
				for (int rounds = batch > 1 ? 1 : ROUNDS; rounds > 0 && from_clients(); rounds--)
					;
		}
		if (held > 0)
			send_all(listener, out.messages, held);
	}
}
