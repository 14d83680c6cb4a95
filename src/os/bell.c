#include "os/bell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int bells_open(struct bells *out, uint32_t n)
{
	struct bells bells = { .fds = calloc(n, sizeof *bells.fds) };
	if (!bells.fds)
		return -ENOMEM;
	while (bells.n < n) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			int error = -errno;
			bells_close(&bells);
			return error;
		}
		bells.fds[bells.n++] = fd;
	}
	*out = bells;
	return 0;
}

int bells_add(struct bells *bells, int fd)
{
	int *fds = realloc(bells->fds, (bells->n + 1) * sizeof *fds);
	if (!fds)
		return -ENOMEM;
	bells->fds = fds;
	fds[bells->n++] = fd;
	return 0;
}

void bells_close(struct bells *bells)
{
	while (bells->n > 0)
		close(bells->fds[--bells->n]);
	free(bells->fds);
	*bells = (struct bells){ 0 };
}

int bell_fd(const struct bells *bells, uint32_t which)
{
	return bells->fds[which % bells->n];
}

void bell_ring(const struct bells *bells, uint32_t which)
{
	/* It counts to 2^64 - 2, which takes longer than the machine lasts; nothing else can fail. */
	int error = eventfd_write(bell_fd(bells, which), 1);
	(void)error;
}

void bells_ring_all(const struct bells *bells)
{
	for (uint32_t i = 0; i < bells->n; i++)
		bell_ring(bells, i);
}
