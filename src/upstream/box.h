/* A box: where workers leave idle connections to a server for each other. The kernel holds them: a pair of connected sockets through which
 * descriptors are passed, both ends with every worker. Nobody waits for anybody, and what lies in it outlives a worker that dies.
 *
 * Process: the master makes it (master/boxes.h), workers inherit it.
 */
#ifndef AEGIS_UPSTREAM_BOX_H
#define AEGIS_UPSTREAM_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct box {
	int put_fd, take_fd; /* -1: no box */
};

struct boxed {
	uint32_t address;  /* a hash of what it is connected to */
	uint32_t framing;  /* enum pool_framing: what proved that it owes nothing */
	uint64_t since_ns; /* idle since, on the clock that all processes share */
};

/* 0 or a negative errno. */
must_check int box_open(struct box *out);
void box_close(struct box *box);

/* 0, then the box has a copy of fd; or a negative errno (-EAGAIN: full, -ETOOMANYREFS: too many descriptors are under way). */
must_check int box_put(const struct box *box, const struct boxed *boxed, int fd);
/* The one that lies there longest, with its descriptor; -EAGAIN when it is empty. */
must_check int box_take(const struct box *box, struct boxed *out, int *fd);
/* How many are in it. */
uint32_t box_count(const struct box *box);

#endif
