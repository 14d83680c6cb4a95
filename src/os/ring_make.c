/* A ring is made: what the kernel must be able to do, the queues and buffers, and what the ring may be asked from then on. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "os/region.h"
#include "os/ring_own.h"
#include "os/ring_refusal.h"
#include "os/ring_trial.h"

static const uint8_t opcodes[] = { IORING_OP_RECV, IORING_OP_SEND, IORING_OP_CONNECT, IORING_OP_ACCEPT, IORING_OP_POLL_ADD, IORING_OP_CLOSE,
	IORING_OP_ASYNC_CANCEL };

static const unsigned features = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS |
                                 IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;

static int check_kernel(struct ring *ring, const struct io_uring_params *params)
{
	if ((params->features & features) != features)
		return -EINVAL;
	struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->io);
	int error = probe ? 0 : -ENOMEM;
	for (size_t i = 0; probe && i < ARRAY_LEN(opcodes); i++)
		if (!io_uring_opcode_supported(probe, opcodes[i]))
			error = -EINVAL;
	io_uring_free_probe(probe);
	return error;
}

static void map_queues(struct ring *ring, const struct io_uring_params *params)
{
	const struct io_uring_sq *sq = &ring->io.sq;
	const struct io_uring_cq *cq = &ring->io.cq;
	ring->sq_head = sq->khead;
	ring->sq_tail = sq->ktail;
	ring->sq_flags = sq->kflags;
	ring->sqes = sq->sqes;
	ring->sq_entries = params->sq_entries;
	ring->sq_mask = params->sq_entries - 1;
	ring->tail = *sq->ktail;
	ring->cq_head = cq->khead;
	ring->cq_tail = cq->ktail;
	ring->cqes = cq->cqes;
	ring->cq_mask = params->cq_entries - 1;
	/* Operations are handed over in their order in the queue. A newer liburing has the kernel leave the detour out. */
	for (unsigned i = 0; sq->array && i < ring->sq_entries; i++)
		sq->array[i] = i;
}

static uint64_t page_up(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	return (bytes + page - 1) / page * page;
}

/* The buffers, and behind them the queue in which they are posted. */
static int make_buffers(struct ring *ring, const struct ring_shape *shape)
{
	uint64_t bytes = page_up((uint64_t)shape->buffers * shape->buffer_bytes);
	uint64_t region_bytes = bytes + page_up(shape->buffers * sizeof(struct io_uring_buf));
	void *region;
	int error = region_reserve(region_bytes, &region);
	if (error)
		return error;
	ring->buffers = region;
	ring->region_bytes = region_bytes;
	ring->post = (void *)(ring->buffers + bytes);
	ring->buffer_count = shape->buffers;
	ring->buffer_bytes = shape->buffer_bytes;
	ring->idle = calloc(shape->buffers, sizeof *ring->idle);
	ring->touched = calloc(shape->buffers, sizeof *ring->touched);
	if (!ring->idle || !ring->touched)
		return -ENOMEM;
	for (unsigned id = shape->buffers; id-- > 0;)
		ring->idle[ring->idle_count++] = (uint16_t)id;
	ring->window = RING_POSTED_LEAST < shape->buffers ? RING_POSTED_LEAST : shape->buffers;
	struct io_uring_buf_reg queue_of_buffers = {
		.ring_addr = (uintptr_t)ring->post, .ring_entries = shape->buffers, .bgid = RING_BUFFER_GROUP
	};
	return io_uring_register_buf_ring(&ring->io, &queue_of_buffers, 0);
}

/* From now on only what is used here can be asked of this ring. A kernel that cannot do it does without. */
static void restrict_ring(struct ring *ring)
{
	struct io_uring_restriction allow[ARRAY_LEN(opcodes) + 2];
	memset(allow, 0, sizeof allow);
	for (size_t i = 0; i < ARRAY_LEN(opcodes); i++) {
		allow[i].opcode = IORING_RESTRICTION_SQE_OP;
		allow[i].sqe_op = opcodes[i];
	}
	allow[ARRAY_LEN(opcodes)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	allow[ARRAY_LEN(opcodes)].sqe_flags = IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
	allow[ARRAY_LEN(opcodes) + 1].opcode = IORING_RESTRICTION_REGISTER_OP;
	allow[ARRAY_LEN(opcodes) + 1].register_op = IORING_UNREGISTER_RING_FDS; /* by io_uring_queue_exit() */
	(void)io_uring_register((unsigned)ring->io.ring_fd, IORING_REGISTER_RESTRICTIONS, allow, ARRAY_LEN(allow));
}

/* Disabled until all is there, as that is when restrictions can be made. */
static int make_queues_of(struct ring *ring, unsigned entries, unsigned completions, struct io_uring_params *params)
{
	*params = (struct io_uring_params){ .cq_entries = completions,
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP |
		         IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED };
	int error = io_uring_queue_init_params(entries, &ring->io, params);
	if (error < 0)
		ring->io.ring_fd = -1;
	return error;
}

/* Since Linux 6.13 one call completes 40 operations that waited at most, and the kernel says so two versions later. What it has for
 * completions is memory from the start. */
static int make_queues(struct ring *ring, const struct ring_shape *shape, struct io_uring_params *params)
{
	int error = make_queues_of(ring, shape->entries, shape->completions, params);
	if (error < 0 || params->features & IORING_FEAT_NO_IOWAIT || shape->at_once <= shape->completions)
		return error;
	io_uring_queue_exit(&ring->io);
	return make_queues_of(ring, shape->entries, shape->at_once, params);
}

/* Everything up to the first operation. */
static int set_up(struct ring *ring, const struct ring_shape *shape)
{
	struct io_uring_params params;
	int error = make_queues(ring, shape, &params);
	if (error < 0)
		return error;
	map_queues(ring, &params);
	error = check_kernel(ring, &params);
	if (error == 0)
		error = make_buffers(ring, shape);
	if (error < 0)
		return error;
	if (params.features & IORING_FEAT_NO_IOWAIT) /* else the time asleep looks like waiting for a disk */
		ring->enter_flags |= IORING_ENTER_NO_IOWAIT;
	if (io_uring_register_ring_fd(&ring->io) == 1)
		ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
	restrict_ring(ring);
	return io_uring_register(
	        (unsigned)ring->io.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0); /* liburing 2.3 does not export its function */
}

struct ring *ring_new(const struct ring_shape *shape, char *why, size_t why_size)
{
	unsigned buffers = shape->buffers;
	ensure(buffers > 0 && buffers <= 32768 && (buffers & (buffers - 1)) == 0 && shape->buffer_bytes > 0);
	struct ring *ring = calloc(1, sizeof *ring);
	if (!ring) {
		ring_refusal_here(ENOMEM, why, why_size);
		return NULL;
	}
	ring->io.ring_fd = -1;
	int error = set_up(ring, shape);
	if (error < 0)
		ring_refusal_here(-error, why, why_size);
	if (error < 0 || !ring_trial(ring, why, why_size)) {
		ring_free(ring);
		return NULL;
	}
	memset(&ring->sums, 0, sizeof ring->sums);
	return ring;
}

bool ring_probe(char *why, size_t why_size)
{
	static const struct ring_shape small = { .entries = 8, .completions = 32, .buffers = 8, .buffer_bytes = 512 };
	struct ring *ring = ring_new(&small, why, why_size);
	ring_free(ring);
	return ring != NULL;
}
