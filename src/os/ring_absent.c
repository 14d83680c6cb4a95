/* Built without liburing: no ring is ever made, so that the rest is there for the linker only. */
#include "os/ring.h"

#include <errno.h>

struct ring *ring_new(const struct ring_shape *shape, char *why, size_t why_size)
{
	(void)shape;
	snprintf(why, why_size, "built without liburing");
	return NULL;
}

bool ring_probe(char *why, size_t why_size)
{
	return ring_new(NULL, why, why_size) != NULL;
}

void ring_free(struct ring *ring)
{
	ensure(!ring);
}

enum { THERE_IS_A_RING = 0 };

/* clang-format off */
#define UNUSED __attribute__((unused))
#define NEVER { ensure(THERE_IS_A_RING); }
#define NEVER_VALUE(value) { ensure(THERE_IS_A_RING); return value; }

int ring_wait(UNUSED struct ring *ring, UNUSED int64_t timeout_ns, UNUSED void (*woke)(void *arg), UNUSED void *arg) NEVER_VALUE(-ENOSYS)
void ring_recv(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd, UNUSED bool poll_first) NEVER
void ring_send(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd, UNUSED const void *bytes, UNUSED size_t count) NEVER
void ring_send_what_fits(
        UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd, UNUSED const void *bytes, UNUSED size_t count) NEVER
void ring_connect(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd, UNUSED const struct sockaddr *addr,
	UNUSED socklen_t length) NEVER
void ring_accept(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd) NEVER
void ring_poll(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED int fd, UNUSED unsigned poll_mask,
	UNUSED bool multishot) NEVER
void ring_close(UNUSED struct ring *ring, UNUSED int fd) NEVER
void ring_cancel(UNUSED struct ring *ring, UNUSED struct ring_port *port, UNUSED enum ring_op op) NEVER
void ring_shutdown(UNUSED struct ring *ring, UNUSED int fd, UNUSED int how) NEVER
char *ring_buffer(UNUSED const struct ring *ring, UNUSED unsigned buffer_id) NEVER_VALUE(NULL)
void ring_buffer_give_back(UNUSED struct ring *ring, UNUSED unsigned buffer_id) NEVER
unsigned ring_buffers_free(UNUSED const struct ring *ring) NEVER_VALUE(0)
unsigned ring_buffers(UNUSED const struct ring *ring) NEVER_VALUE(0)
void ring_trim(UNUSED struct ring *ring) NEVER
void ring_hold_back(UNUSED struct ring *ring, UNUSED bool hold_back) NEVER
bool ring_holds(UNUSED const struct ring *ring, UNUSED const struct ring_port *port, UNUSED enum ring_op op) NEVER_VALUE(false)
const struct ring_sums *ring_sums(UNUSED const struct ring *ring) NEVER_VALUE(NULL)
