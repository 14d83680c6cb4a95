#include "os/ring.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "os/region.h"
#include "os/ring_own.h"

enum {
	PORT_BITS = RING_PORT_ALIGN - 1, /* the low bits of user_data: the operation; above them the port */
	CALLS_MOST = 4096                /* in one turn */
};
static_assert((int)RING_OPS <= (int)RING_PORT_ALIGN, "an operation fits below a port's address");

/* --- queueing ----------------------------------------------------------------------------------------------------------------- */

/* One system call. What it returns counts the operations that were handed over. */
static int enter(struct ring *ring, unsigned least, unsigned flags, struct io_uring_getevents_arg *arg)
{
	io_uring_smp_store_release(ring->sq_tail, ring->tail);
	unsigned count = ring->tail - io_uring_smp_load_acquire(ring->sq_head);
	int result = io_uring_enter2(
	        (unsigned)ring->io.enter_ring_fd, count, least, flags | ring->enter_flags, (void *)arg, arg ? sizeof *arg : 0);
	ring->sums.enters++;
	if (result > 0)
		ring->sums.submitted += (unsigned)result;
	return result;
}

static bool is_full(const struct ring *ring)
{
	return ring->tail - io_uring_smp_load_acquire(ring->sq_head) >= ring->sq_entries;
}

/* Only when the kernel has no memory at all for operations can this take longer than a system call. */
static void make_room(struct ring *ring)
{
	while (is_full(ring)) {
		int result = enter(ring, 0, 0, NULL);
		ensure(result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR || result == -ENOMEM);
		if (is_full(ring))
			poll(NULL, 0, 1);
	}
}

static struct io_uring_sqe *queue(struct ring *ring, uint8_t opcode, int fd)
{
	if (unlikely(is_full(ring)))
		make_room(ring);
	struct io_uring_sqe *sqe = &ring->sqes[ring->tail++ & ring->sq_mask];
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = opcode;
	sqe->fd = fd;
	return sqe;
}

static uint64_t key_of(const struct ring_port *port, enum ring_op op)
{
	uintptr_t address = (uintptr_t)port;
	ensure(port && (address & PORT_BITS) == 0);
	return address | op;
}

static struct io_uring_sqe *queue_for(struct ring *ring, struct ring_port *port, enum ring_op op, uint8_t opcode, int fd)
{
	struct io_uring_sqe *sqe = queue(ring, opcode, fd);
	sqe->user_data = key_of(port, op);
	return sqe;
}

void ring_recv(struct ring *ring, struct ring_port *port, int fd, bool poll_first)
{
	struct io_uring_sqe *sqe = queue_for(ring, port, RING_RECV, IORING_OP_RECV, fd);
	sqe->ioprio = (uint16_t)(IORING_RECV_MULTISHOT | (poll_first ? IORING_RECVSEND_POLL_FIRST : 0));
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BUFFER_GROUP;
}

static void queue_send(struct ring *ring, struct ring_port *port, int fd, const void *bytes, size_t count, int flags)
{
	struct io_uring_sqe *sqe = queue_for(ring, port, RING_SEND, IORING_OP_SEND, fd);
	sqe->addr = (uintptr_t)bytes;
	sqe->len = count > INT32_MAX ? INT32_MAX : (uint32_t)count;
	sqe->msg_flags = MSG_NOSIGNAL | (uint32_t)flags;
}

void ring_send(struct ring *ring, struct ring_port *port, int fd, const void *bytes, size_t count)
{
	queue_send(ring, port, fd, bytes, count, MSG_WAITALL);
}

void ring_send_what_fits(struct ring *ring, struct ring_port *port, int fd, const void *bytes, size_t count)
{
	queue_send(ring, port, fd, bytes, count, MSG_DONTWAIT);
}

void ring_connect(struct ring *ring, struct ring_port *port, int fd, const struct sockaddr *addr, socklen_t length)
{
	struct io_uring_sqe *sqe = queue_for(ring, port, RING_CONNECT, IORING_OP_CONNECT, fd);
	sqe->addr = (uintptr_t)addr;
	sqe->off = length;
}

void ring_accept(struct ring *ring, struct ring_port *port, int fd)
{
	struct io_uring_sqe *sqe = queue_for(ring, port, RING_ACCEPT, IORING_OP_ACCEPT, fd);
	sqe->ioprio = IORING_ACCEPT_MULTISHOT;
	sqe->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
}

void ring_poll(struct ring *ring, struct ring_port *port, int fd, unsigned poll_mask, bool multishot)
{
	struct io_uring_sqe *sqe = queue_for(ring, port, RING_POLL, IORING_OP_POLL_ADD, fd);
	sqe->poll32_events = __io_uring_prep_poll_mask(poll_mask);
	sqe->len = multishot ? IORING_POLL_ADD_MULTI : 0;
}

/* Nobody hears of these: on success the kernel says nothing, and what it says otherwise has no port. */
void ring_close(struct ring *ring, int fd)
{
	queue(ring, IORING_OP_CLOSE, fd)->flags = IOSQE_CQE_SKIP_SUCCESS;
}

void ring_cancel(struct ring *ring, struct ring_port *port, enum ring_op op)
{
	struct io_uring_sqe *sqe = queue(ring, IORING_OP_ASYNC_CANCEL, -1);
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	sqe->addr = key_of(port, op);
}

void ring_shutdown(struct ring *ring, int fd, int how)
{
	(void)ring;
	(void)shutdown(fd, how); /* ENOTCONN: the peer was faster, and its end shows when receiving */
}

/* --- buffers ------------------------------------------------------------------------------------------------------------------ */

char *ring_buffer(const struct ring *ring, unsigned buffer_id)
{
	ensure(buffer_id < ring->buffer_count);
	return ring->buffers + (size_t)buffer_id * ring->buffer_bytes;
}

void ring_buffer_give_back(struct ring *ring, unsigned buffer_id)
{
	ensure(buffer_id < ring->buffer_count && ring->idle_count + ring->posted < ring->buffer_count);
	ring->idle[ring->idle_count++] = (uint16_t)buffer_id;
}

void ring_hold_back(struct ring *ring, bool hold_back)
{
	ring->hold_back = hold_back;
}

unsigned ring_buffers_free(const struct ring *ring)
{
	return ring->hold_back ? 0 : ring->idle_count + ring->posted;
}

unsigned ring_buffers(const struct ring *ring)
{
	return ring->buffer_count;
}

static void post_buffers(struct ring *ring)
{
	if (likely(ring->posted >= ring->window) || ring->idle_count == 0 || ring->hold_back)
		return;
	while (ring->posted < ring->window && ring->idle_count > 0) {
		uint16_t id = ring->idle[--ring->idle_count];
		struct io_uring_buf *entry = &ring->post->bufs[ring->post_tail++ & (ring->buffer_count - 1)];
		entry->addr = (uintptr_t)ring_buffer(ring, id);
		entry->len = ring->buffer_bytes;
		entry->bid = id;
		ring->posted++;
	}
	io_uring_smp_store_release(&ring->post->tail, ring->post_tail);
}

static unsigned window_for(const struct ring *ring)
{
	unsigned window = ring->used_most * 2 > RING_POSTED_LEAST ? ring->used_most * 2 : RING_POSTED_LEAST;
	return window < ring->buffer_count ? window : ring->buffer_count;
}

/* Have twice as many posted as the busiest turn used lately. */
static void follow_use(struct ring *ring)
{
	if (unlikely(ring->used > ring->used_most)) {
		ring->used_most = ring->used;
		if (window_for(ring) > ring->window)
			ring->window = window_for(ring);
	}
	ring->used = 0;
}

/* The free buffers in the order in which they will be used: those that are posted, and then the idle ones. */
static unsigned free_buffer(const struct ring *ring, unsigned n)
{
	if (n < ring->posted)
		return ring->post->bufs[(uint16_t)(ring->post_tail - ring->posted + n) & (ring->buffer_count - 1)].bid;
	return ring->idle[ring->idle_count - 1 - (n - ring->posted)];
}

void ring_trim(struct ring *ring)
{
	bool told = *ring->cq_head == io_uring_smp_load_acquire(ring->cq_tail) &&
	            !(io_uring_smp_load_acquire(ring->sq_flags) & IORING_SQ_CQ_OVERFLOW);
	unsigned needed = ring->used_most * 2;
	ring->window = window_for(ring);
	ring->used_most = 0;
	if (!told)
		return;
	for (unsigned n = needed; n < ring->idle_count + ring->posted; n++) {
		unsigned id = free_buffer(ring, n);
		if (ring->touched[id])
			region_discard(ring_buffer(ring, id), ring->buffer_bytes);
		ring->touched[id] = false;
	}
}

/* --- the turn ----------------------------------------------------------------------------------------------------------------- */

static void complete(struct ring *ring, const struct io_uring_cqe *cqe)
{
	struct ring_port *port = (struct ring_port *)(uintptr_t)(cqe->user_data & ~(uint64_t)PORT_BITS);
	unsigned op = (unsigned)cqe->user_data & PORT_BITS;
	unsigned flags = cqe->flags & IORING_CQE_F_MORE ? RING_MORE : 0;
	unsigned buffer_id = 0;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		flags |= RING_BUFFER;
		buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
		ring->posted--;
		ring->used++;
		ring->touched[buffer_id] = true;
	}
	if (unlikely(cqe->res == -ENOBUFS) && op == RING_RECV) {
		ring->sums.no_buffers++;
		ring->used++; /* it would have used one */
	}
	port->fn(port, op, cqe->res, flags, buffer_id);
}

/* Call for what is there now. What comes meanwhile is for the next turn: it may have been queued by these calls. */
static int complete_all(struct ring *ring)
{
	unsigned head = *ring->cq_head;
	unsigned tail = io_uring_smp_load_acquire(ring->cq_tail);
	if (tail - head > CALLS_MOST)
		tail = head + CALLS_MOST;
	int count = 0;
	while (head != tail) {
		struct io_uring_cqe cqe = { .user_data = 0 };
		memcpy(&cqe, &ring->cqes[head & ring->cq_mask], sizeof cqe);
		io_uring_smp_store_release(ring->cq_head, ++head);
		if (!cqe.user_data)
			continue;
		complete(ring, &cqe);
		count++;
	}
	ring->sums.completed += (unsigned)count;
	return count;
}

/* Results that say "not now" and not "never". */
static bool is_passing(int result)
{
	return result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY || result == -ENOMEM;
}

int ring_wait(struct ring *ring, int64_t timeout_ns, void (*woke)(void *arg), void *arg)
{
	struct __kernel_timespec timeout = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	struct io_uring_getevents_arg how = { .sigmask_sz = _NSIG / 8, .ts = timeout_ns > 0 ? (uintptr_t)&timeout : 0 };
	post_buffers(ring);
	int result = enter(ring, timeout_ns == 0 ? 0 : 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &how);
	if (woke)
		woke(arg);
	if (unlikely(!is_passing(result)))
		return result;
	if (unlikely(io_uring_smp_load_acquire(ring->sq_flags) & IORING_SQ_CQ_OVERFLOW))
		ring->sums.overflows++;
	int count = complete_all(ring);
	follow_use(ring);
	return count;
}

bool ring_holds(const struct ring *ring, const struct ring_port *port, enum ring_op op)
{
	unsigned tail = io_uring_smp_load_acquire(ring->cq_tail);
	if (unlikely(io_uring_smp_load_acquire(ring->sq_flags) & IORING_SQ_CQ_OVERFLOW))
		return true; /* there is more than can be seen */
	for (unsigned head = *ring->cq_head; head != tail; head++)
		if (ring->cqes[head & ring->cq_mask].user_data == key_of(port, op))
			return true;
	return false;
}

const struct ring_sums *ring_sums(const struct ring *ring)
{
	return &ring->sums;
}

/* --- its end ----------------------------------------------------------------------------------------------------------------- */

/* A closed ring is taken apart by the kernel in its own time, and until then all that is under way keeps its socket. */
static void cancel_all(struct ring *ring)
{
	struct io_uring_sqe *sqe = queue(ring, IORING_OP_ASYNC_CANCEL, -1);
	sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
	struct io_uring_getevents_arg how = { .sigmask_sz = _NSIG / 8 };
	(void)enter(ring, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &how);
	unsigned tail = io_uring_smp_load_acquire(ring->cq_tail);
	for (unsigned head = *ring->cq_head; head != tail; head++) {
		const struct io_uring_cqe *cqe = &ring->cqes[head & ring->cq_mask];
		if ((cqe->user_data & PORT_BITS) == RING_ACCEPT && cqe->res >= 0)
			close(cqe->res);
	}
}

void ring_free(struct ring *ring)
{
	if (!ring)
		return;
	if (ring->io.ring_fd >= 0) {
		if (ring->cqes)
			cancel_all(ring);
		io_uring_queue_exit(&ring->io);
	}
	region_close(ring->buffers, ring->region_bytes);
	free(ring->idle);
	free(ring->touched);
	free(ring);
}
