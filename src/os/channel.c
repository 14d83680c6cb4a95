#include "os/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* More than Aegis ever sends at once, so that a message with several is recognised and all of them are closed. */
enum { MAX_DESCRIPTORS = 8 };

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
};

int channel_pair(int out[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out) < 0)
		return -errno;
	return 0;
}

int channel_send(int channel, const struct channel_message *message, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { 0 };
	if (fd >= 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof fd);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
	}
	ssize_t sent;
	do
		sent = sendmsg(channel, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return 0;
}

/* Collect what was passed into fds; the number of them. */
static size_t take_descriptors(struct msghdr *header, int fds[MAX_DESCRIPTORS])
{
	size_t count = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n && count < MAX_DESCRIPTORS; i++)
			memcpy(&fds[count++], CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
	}
	return count;
}

int channel_receive(int channel, struct channel_message *message, int *fd)
{
	struct channel_message received;
	struct iovec iov = { .iov_base = &received, .iov_len = sizeof received };
	union control control;
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	ssize_t length;
	/* ECONNRESET: the other side closed before it had read all of ours. That is told once, ahead of what it had said, which comes then.
	 */
	do
		length = recvmsg(channel, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (length < 0 && (errno == EINTR || errno == ECONNRESET));
	if (length < 0)
		return -errno;

	int fds[MAX_DESCRIPTORS];
	size_t count = take_descriptors(&header, fds);
	if (length == (ssize_t)sizeof received && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && count <= 1) {
		*message = received;
		*fd = count ? fds[0] : -1;
		return 0;
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return length == 0 && count == 0 ? -EPIPE : -EPROTO;
}
