/* The least relay on io_uring: how little a TCP proxy can cost whose reads, writes and waits share one system call.
 *
 * Multishot accept, multishot receive into a ring of 4 kB buffers (few of them posted, refilled from the most recently used ones),
 * one send in flight per socket, one submission per turn together with the wait. No limits, no timeouts, no logs, no handling of
 * errors beyond closing.
 *
 * Usage: floor_uring PORT SERVER_PORT [COUNT]
 * Both on 127.0.0.1; with COUNT so many servers in turn, 127.1.0.0 and on. Prints "ready". Descriptors: ulimit -n.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_SERVER = 127 << 24 | 1 << 16 };
enum { SQ = 2048, CQ = 16384, BACKLOG = 4096, GROUP = 0 };
enum { BUFFER_BYTES = 4096, BUFFERS = 8192, POSTED = 128, GATHER = 16, NONE = UINT16_MAX };
enum kind { ACCEPT, RECV, SEND, CLOSE };

/* One socket: what is to be sent to it is a list of buffers, the first `in_flight` of which the kernel has. */
struct end {
	int peer;
	bool eof, fin_wanted;
	uint16_t first, last, in_flight;
	int next_hungry;
};

/* What a send of several buffers needs while it is in flight. */
struct gather {
	struct msghdr message;
	struct iovec parts[GATHER];
};

static struct end *ends;
static struct gather *gathers;
static struct io_uring ring;
static struct io_uring_buf_ring *posted_ring;
static char *buffers;
static struct {
	uint16_t next;
	uint32_t length;
} chain[BUFFERS];
static uint16_t free_list = NONE; /* last in, first out: warm in the cache */
static unsigned posted;
static int hungry = -1; /* descriptors whose receive ended for want of buffers */
static struct sockaddr_in server;
static uint32_t servers = 1, turn;

static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	while (sqe == NULL) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

/* After the preparation, which clears it. */
static void tag(struct io_uring_sqe *sqe, enum kind kind, int fd)
{
	sqe->user_data = (uint64_t)kind << 32 | (uint32_t)fd;
}

static void receive(int fd)
{
	struct io_uring_sqe *sqe = next_sqe();
	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	tag(sqe, RECV, fd);
}

static void put_buffer(uint16_t id)
{
	chain[id].next = free_list;
	free_list = id;
}

static void refill(void)
{
	unsigned count = 0;
	for (; posted < POSTED && free_list != NONE; posted++, count++) {
		uint16_t id = free_list;
		free_list = chain[id].next;
		io_uring_buf_ring_add(posted_ring, buffers + (size_t)id * BUFFER_BYTES, BUFFER_BYTES, id, POSTED - 1, (int)count);
	}
	if (count > 0)
		io_uring_buf_ring_advance(posted_ring, (int)count);
	if (posted == 0)
		return;
	for (int fd = hungry; fd >= 0; fd = ends[fd].next_hungry)
		receive(fd);
	hungry = -1;
}

static void send_next(int fd)
{
	struct end *end = &ends[fd];
	struct io_uring_sqe *sqe = next_sqe();
	uint16_t id = end->first, count = 0;
	if (chain[id].next == NONE) {
		io_uring_prep_send(sqe, fd, buffers + (size_t)id * BUFFER_BYTES, chain[id].length, MSG_WAITALL | MSG_NOSIGNAL);
		count = 1;
	} else {
		struct gather *gather = &gathers[fd];
		for (; id != NONE && count < GATHER; id = chain[id].next)
			gather->parts[count++] = (struct iovec){ buffers + (size_t)id * BUFFER_BYTES, chain[id].length };
		gather->message = (struct msghdr){ .msg_iov = gather->parts, .msg_iovlen = count };
		io_uring_prep_sendmsg(sqe, fd, &gather->message, MSG_WAITALL | MSG_NOSIGNAL);
	}
	end->in_flight = count;
	tag(sqe, SEND, fd);
}

static void close_when_done(int fd)
{
	struct end *end = &ends[fd], *peer = &ends[end->peer];
	if (!end->eof || !peer->eof || end->first != NONE || peer->first != NONE)
		return;
	int fds[2] = { fd, end->peer };
	for (int i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe = next_sqe();
		io_uring_prep_close(sqe, fds[i]);
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
		tag(sqe, CLOSE, fds[i]);
	}
}

static void end_of_input(int fd, bool broken)
{
	struct end *end = &ends[fd], *peer = &ends[end->peer];
	end->eof = true;
	if (broken)
		shutdown(end->peer, SHUT_RDWR);
	else if (peer->first != NONE)
		peer->fin_wanted = true;
	else if (!peer->eof)
		shutdown(end->peer, SHUT_WR);
	close_when_done(fd);
}

static void on_receive(int fd, const struct io_uring_cqe *cqe)
{
	struct end *end = &ends[fd], *peer = &ends[end->peer];
	if (cqe->res > 0) {
		uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
		posted--;
		chain[id].next = NONE;
		chain[id].length = (uint32_t)cqe->res;
		if (peer->first != NONE)
			chain[peer->last].next = id;
		else
			peer->first = id;
		peer->last = id;
		if (peer->in_flight == 0)
			send_next(end->peer);
	} else if (cqe->res != -ENOBUFS) {
		end_of_input(fd, cqe->res < 0);
		return;
	}
	if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
		end->next_hungry = hungry;
		hungry = fd;
	}
}

static void on_sent(int fd, int result)
{
	struct end *end = &ends[fd];
	for (; end->in_flight > 0; end->in_flight--) {
		uint16_t id = end->first;
		end->first = chain[id].next;
		put_buffer(id);
	}
	if (result < 0) {
		shutdown(fd, SHUT_RDWR);
		shutdown(end->peer, SHUT_RDWR);
	}
	if (end->first != NONE) {
		send_next(fd);
		return;
	}
	if (end->fin_wanted && !end->eof)
		shutdown(fd, SHUT_WR);
	close_when_done(fd);
}

static void on_accept(int front)
{
	int back = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	if (servers > 1)
		server.sin_addr.s_addr = htonl(FIRST_SERVER + turn++ % servers);
	setsockopt(back, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (back < 0 || (connect(back, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)) {
		close(front);
		close(back);
		return;
	}
	ends[front] = (struct end){ .first = NONE, .peer = back };
	ends[back] = (struct end){ .first = NONE, .peer = front };
	receive(front);
	receive(back);
}

static void accept_on(int listener)
{
	struct io_uring_sqe *sqe = next_sqe();
	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, 0);
	tag(sqe, ACCEPT, listener);
}

static void on_completion(const struct io_uring_cqe *cqe)
{
	int fd = (int)(uint32_t)cqe->user_data;
	enum kind kind = (enum kind)(cqe->user_data >> 32);
	if (kind == RECV)
		on_receive(fd, cqe);
	else if (kind == SEND)
		on_sent(fd, cqe->res);
	else if (kind == ACCEPT && cqe->res >= 0)
		on_accept(cqe->res);
	if (kind == ACCEPT && (cqe->flags & IORING_CQE_F_MORE) == 0)
		accept_on(fd);
}

static int listen_on(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what is accepted inherits it */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0) {
		perror("floor_uring");
		exit(2);
	}
	return fd;
}

static void make_ring(void)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
		                                   IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
		.cq_entries = CQ };
	if (io_uring_queue_init_params(SQ, &ring, &params) < 0 || io_uring_register_ring_fd(&ring) < 0 ||
	        posix_memalign((void **)&posted_ring, 4096, POSTED * sizeof(struct io_uring_buf)) != 0 ||
	        posix_memalign((void **)&buffers, 4096, (size_t)BUFFERS * BUFFER_BYTES) != 0) {
		fputs("floor_uring: no ring here\n", stderr);
		exit(2);
	}
	struct io_uring_buf_reg reg = { .ring_addr = (uint64_t)(uintptr_t)posted_ring, .ring_entries = POSTED, .bgid = GROUP };
	io_uring_buf_ring_init(posted_ring);
	if (io_uring_register_buf_ring(&ring, &reg, 0) < 0)
		exit(2);
	for (unsigned id = BUFFERS; id-- > 0;)
		put_buffer((uint16_t)id);
	refill();
}

int main(int argc, char **argv)
{
	if (argc < 3 || argc > 4)
		return 1;
	size_t descriptors = (size_t)sysconf(_SC_OPEN_MAX);
	ends = calloc(descriptors, sizeof *ends);
	gathers = calloc(descriptors, sizeof *gathers);
	server = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	if (argc == 4)
		servers = (uint32_t)atoi(argv[3]);
	make_ring();
	accept_on(listen_on(atoi(argv[1])));
	puts("ready");
	fflush(stdout);
	for (;;) {
		io_uring_submit_and_wait(&ring, 1);
		struct io_uring_cqe *cqe;
		unsigned head, count = 0;
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			on_completion(cqe);
			count++;
		}
		io_uring_cq_advance(&ring, count);
		refill();
	}
}
