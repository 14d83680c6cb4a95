#include "upstream/box.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "os/channel.h"

int box_open(struct box *out)
{
	int ends[2];
	int error = channel_pair(ends);
	if (!error)
		*out = (struct box){ .put_fd = ends[0], .take_fd = ends[1] };
	return error;
}

void box_close(struct box *box)
{
	if (box->put_fd >= 0)
		close(box->put_fd);
	if (box->take_fd >= 0)
		close(box->take_fd);
	*box = (struct box){ -1, -1 };
}

int box_put(const struct box *box, const struct boxed *boxed, int fd)
{
	struct channel_message message = { .kind = boxed->framing, .value = boxed->address, .value_ns = boxed->since_ns };
	return channel_send(box->put_fd, &message, fd);
}

int box_take(const struct box *box, struct boxed *out, int *fd)
{
	struct channel_message message;
	int passed;
	int error = channel_receive(box->take_fd, &message, &passed);
	if (error)
		return error;
	if (passed < 0)
		return -EPROTO; /* there was no room for a descriptor: it is closed */
	*out = (struct boxed){ .address = message.value, .framing = message.kind, .since_ns = message.value_ns };
	*fd = passed;
	return 0;
}

uint32_t box_count(const struct box *box)
{
	int waiting = 0;
	if (ioctl(box->take_fd, FIONREAD, &waiting) < 0 || waiting < 0)
		return 0;
	return (uint32_t)waiting / (uint32_t)sizeof(struct channel_message);
}
