#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "udp/datagram.h"

static bool has_option(int fd, int option, int value)
{
	return setsockopt(fd, SOL_UDP, option, &value, sizeof value) == 0;
}

void datagram_probe(struct datagram_features *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int batches_error = 0, gro_error = 0, gso_error = 0;
	*out = (struct datagram_features){ .batches = false };
	if (fd < 0) {
		(void)snprintf(out->why, sizeof out->why, "no UDP: %s", strerror(errno));
		return;
	}
	/* Nothing comes, and nothing goes. */
	struct mmsghdr header = { .msg_hdr = { .msg_iovlen = 0 } };
	out->batches = recvmmsg(fd, &header, 1, MSG_DONTWAIT, NULL) == 0 || errno == EAGAIN;
	batches_error = errno;
	out->batches = out->batches && sendmmsg(fd, &header, 0, MSG_DONTWAIT) == 0;
	batches_error = out->batches ? 0 : batches_error == EAGAIN ? errno : batches_error;
	out->gro = has_option(fd, UDP_GRO, 1);
	gro_error = errno;
	out->gso = has_option(fd, UDP_SEGMENT, 1200);
	gso_error = errno;
	if (!out->batches)
		(void)snprintf(out->why, sizeof out->why, "recvmmsg, sendmmsg: %s", strerror(batches_error));
	else if (!out->gro)
		(void)snprintf(out->why, sizeof out->why, "UDP_GRO: %s", strerror(gro_error));
	else if (!out->gso)
		(void)snprintf(out->why, sizeof out->why, "UDP_SEGMENT: %s", strerror(gso_error));
	close(fd);
}
