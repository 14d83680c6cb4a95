/* Master and worker talk over one SOCK_SEQPACKET pair each: small fixed messages, with a descriptor where one is due. An end
 * of file means that the other side is gone. Non-blocking, CLOEXEC. */
#ifndef AEGIS_OS_CHANNEL_H
#define AEGIS_OS_CHANNEL_H

#include <stdint.h>

#include "base/attr.h"

struct channel_message {
	uint32_t kind; /* meaning is the users' */
	uint32_t value;
	uint64_t value_ns;
};

/* 0 and both ends, or a negative errno. */
must_check int channel_pair(int out[2]);

/* fd -1 = none; it stays the caller's. 0, or a negative errno (-EAGAIN: the other side does not read; -EPIPE: gone). */
must_check int channel_send(int channel, const struct channel_message *message, int fd);

/* 0, -EAGAIN when nothing waits, -EPIPE at the end of file, or another negative errno. *fd becomes the caller's, -1 = none. */
must_check int channel_receive(int channel, struct channel_message *message, int *fd);

#endif
