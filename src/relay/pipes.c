#include "relay/pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"

#define RETRY_NS NS_PER_S
enum {
	ALL_PIPES = 96,         /* of all workers: 24 MB of the 64, so that two generations and other programs have room */
	FEWEST = 1,             /* for each worker all the same, */
	DESCRIPTORS_A_PIPE = 32 /* but not more than a sixteenth of its descriptors */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

unsigned pipes_share(unsigned workers, uint64_t descriptors, uint64_t bytes)
{
	unsigned count = ALL_PIPES / (workers ? workers : 1);
	if (count < FEWEST)
		count = FEWEST;
	return (unsigned)least(count, least(descriptors / DESCRIPTORS_A_PIPE, bytes / PIPE_BYTES));
}

static void push(struct pipe **list, struct pipe *pipe)
{
	pipe->next = *list;
	*list = pipe;
}

static struct pipe *pop(struct pipe **list)
{
	struct pipe *pipe = *list;
	*list = pipe->next;
	return pipe;
}

static void close_both(struct pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	pipe->in = pipe->out = -1;
}

int pipes_init(struct pipes *pipes, unsigned count)
{
	*pipes = (struct pipes){ .count = count };
	if (count == 0)
		return 0;
	pipes->all = calloc(count, sizeof *pipes->all);
	if (!pipes->all)
		return -ENOMEM;
	for (unsigned i = count; i-- > 0;) {
		pipes->all[i].in = pipes->all[i].out = -1;
		push(&pipes->closed, &pipes->all[i]);
	}
	return 0;
}

void pipes_fini(struct pipes *pipes)
{
	for (unsigned i = 0; i < pipes->count; i++)
		if (pipes->all[i].in >= 0)
			close_both(&pipes->all[i]);
	free(pipes->all);
	*pipes = (struct pipes){ 0 };
}

/* As large as it may be: an unprivileged user who has many pipes is given the usual 64 kB, and in the end too little to be of use. */
static bool open_pipe(struct pipe *pipe)
{
	int ends[2];
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		return false;
	pipe->out = ends[0];
	pipe->in = ends[1];
	int bytes = fcntl(pipe->in, F_SETPIPE_SZ, PIPE_BYTES);
	if (bytes < 0)
		bytes = fcntl(pipe->in, F_GETPIPE_SZ);
	if (bytes < PIPE_BYTES_LEAST) {
		close_both(pipe);
		return false;
	}
	pipe->bytes = (uint32_t)bytes;
	return true;
}

struct pipe *pipes_take(struct pipes *pipes, uint64_t now_ns)
{
	if (likely(pipes->idle))
		return pop(&pipes->idle);
	if (!pipes->closed || pipes->useless || now_ns < pipes->retry_ns)
		return NULL;
	if (!open_pipe(pipes->closed)) {
		pipes->retry_ns = now_ns + RETRY_NS;
		return NULL;
	}
	return pop(&pipes->closed);
}

void pipes_give_back(struct pipes *pipes, struct pipe *pipe, bool empty)
{
	if (likely(empty) && !pipes->useless) {
		push(&pipes->idle, pipe);
		return;
	}
	close_both(pipe);
	push(&pipes->closed, pipe);
}

void pipes_disable(struct pipes *pipes)
{
	pipes->useless = true;
	while (pipes->idle)
		pipes_give_back(pipes, pop(&pipes->idle), true);
}
