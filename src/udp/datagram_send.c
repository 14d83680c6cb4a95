/* Sending datagrams: outboxes. */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "udp/datagram.h"

/* What the kernel takes at once to split: so many datagrams, and as much as one could be large. */
enum { SPLIT_MOST = 64, SPLIT_BYTES_MOST = 65000 };

/* --- filling the box --------------------------------------------------------------------------------------------------------- */

int outbox_init(struct outbox *outbox, const struct datagram_features *features)
{
	*outbox = (struct outbox){ .gso = features->gso, .one_by_one = !features->batches };
	outbox->controls = aligned_alloc(CACHE_LINE_BYTES, DATAGRAM_BATCH * sizeof *outbox->controls);
	return outbox->controls ? 0 : -ENOMEM;
}

void outbox_fini(struct outbox *outbox)
{
	free(outbox->controls);
	*outbox = (struct outbox){ 0 };
}

/* Room for one more in the control part of a parcel. */
static void *add_control(struct msghdr *header, char *controls, int level, int type, size_t size)
{
	struct cmsghdr *control = (void *)(controls + header->msg_controllen);
	memset(control, 0, CMSG_SPACE(size));
	control->cmsg_level = level;
	control->cmsg_type = type;
	control->cmsg_len = CMSG_LEN(size);
	header->msg_control = controls;
	header->msg_controllen += CMSG_SPACE(size);
	return CMSG_DATA(control);
}

static void add_pktinfo(struct msghdr *header, char *controls, sa_family_t family, const struct local_address *local)
{
	if (family == AF_INET) {
		struct in_pktinfo info = { .ipi_ifindex = 0 };
		memcpy(&info.ipi_spec_dst, &local->address.s6_addr[12], sizeof info.ipi_spec_dst);
		memcpy(add_control(header, controls, IPPROTO_IP, IP_PKTINFO, sizeof info), &info, sizeof info);
	} else {
		struct in6_pktinfo info = { .ipi6_addr = local->address, .ipi6_ifindex = local->interface };
		memcpy(add_control(header, controls, IPPROTO_IPV6, IPV6_PKTINFO, sizeof info), &info, sizeof info);
	}
}

static uint16_t size_of(const struct parcel *parcel)
{
	return parcel->segment ? parcel->segment : (uint16_t)parcel->length;
}

/* Several datagrams of one size can go together, and a shorter one behind them. */
static bool goes_with(const struct out_parcel *last, const struct parcel *parcel, uint32_t datagrams)
{
	uint16_t size = size_of(parcel);
	bool fits = size == last->segment || (datagrams == 1 && size < last->segment);
	return fits && size > 0 && !last->closed && last->datagrams + datagrams <= SPLIT_MOST &&
	       last->bytes + parcel->length <= SPLIT_BYTES_MOST;
}

static void set_segment(struct outbox *outbox, uint32_t index)
{
	struct msghdr *header = &outbox->headers[index].msg_hdr;
	struct out_parcel *last = &outbox->parcels[index];
	if (!outbox->gso || last->datagrams < 2 || header->msg_controllen > last->control_bytes)
		return;
	memcpy(add_control(header, outbox->controls[index], SOL_UDP, UDP_SEGMENT, sizeof last->segment), &last->segment,
	        sizeof last->segment);
}

static void begin_parcel(
        struct outbox *outbox, const struct parcel *parcel, const struct sockaddr_in6 *peer, const struct local_address *local)
{
	uint32_t index = outbox->n++;
	struct msghdr *header = &outbox->headers[index].msg_hdr;
	*header = (struct msghdr){ .msg_iov = &outbox->iovs[outbox->n_iovs] };
	if (peer) {
		outbox->peers[index] = *peer;
		header->msg_name = &outbox->peers[index];
		header->msg_namelen = peer->sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof *peer;
		if (local)
			add_pktinfo(header, outbox->controls[index], peer->sin6_family, local);
	}
	outbox->parcels[index] = (struct out_parcel){ .segment = size_of(parcel), .control_bytes = (uint8_t)header->msg_controllen };
}

void outbox_add(
        struct outbox *outbox, const struct parcel *parcel, const struct sockaddr_in6 *peer, const struct local_address *local, bool same)
{
	uint32_t datagrams = parcel_datagrams(parcel);
	if (!same || !outbox->gso || outbox->n == 0 || !goes_with(&outbox->parcels[outbox->n - 1], parcel, datagrams))
		begin_parcel(outbox, parcel, peer, local);
	struct out_parcel *last = &outbox->parcels[outbox->n - 1];
	outbox->iovs[outbox->n_iovs++] = (struct iovec){ .iov_base = (void *)(uintptr_t)parcel->bytes, .iov_len = parcel->length };
	outbox->headers[outbox->n - 1].msg_hdr.msg_iovlen++;
	last->datagrams += datagrams;
	last->bytes += parcel->length;
	last->closed = last->segment == 0 || parcel->length % last->segment != 0;
	set_segment(outbox, outbox->n - 1);
}

/* --- emptying it ------------------------------------------------------------------------------------------------------------- */

static void clear(struct outbox *outbox)
{
	outbox->n = outbox->n_iovs = outbox->first = 0;
}

uint32_t outbox_drop(struct outbox *outbox)
{
	uint32_t datagrams = 0;
	for (uint32_t i = outbox->first; i < outbox->n; i++)
		datagrams += outbox->parcels[i].datagrams;
	clear(outbox);
	return datagrams;
}

static void count_sent(struct outbox *outbox, uint32_t parcels, struct sending *out)
{
	for (uint32_t i = 0; i < parcels; i++) {
		out->sent += outbox->parcels[outbox->first + i].datagrams;
		out->sent_bytes += outbox->parcels[outbox->first + i].bytes;
	}
	outbox->first += parcels;
}

static bool is_full(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

/* One of the datagrams of the first parcel is done with, sent or not. */
static void leave_datagram(struct outbox *outbox)
{
	struct out_parcel *parcel = &outbox->parcels[outbox->first];
	struct msghdr *header = &outbox->headers[outbox->first].msg_hdr;
	struct iovec *iov = header->msg_iov;
	size_t length = iov->iov_len < parcel->segment ? iov->iov_len : parcel->segment;
	iov->iov_base = (char *)iov->iov_base + length;
	iov->iov_len -= length;
	parcel->bytes -= (uint32_t)length;
	if (iov->iov_len == 0) {
		header->msg_iov++;
		header->msg_iovlen--;
	}
	if (--parcel->datagrams == 0)
		outbox->first++;
}

static void go_behind(struct datagram_head *head)
{
	if (head && !head->each)
		head->length = 0;
}

/* The first datagram of the first parcel, behind a head (NULL: none). 0 or a negative errno. */
static int send_datagram(const struct outbox *outbox, int fd, struct datagram_head *head, struct sending *out)
{
	const struct out_parcel *parcel = &outbox->parcels[outbox->first];
	struct msghdr header = outbox->headers[outbox->first].msg_hdr;
	struct iovec iovs[2] = { { 0 }, header.msg_iov[0] };
	if (head)
		iovs[0] = (struct iovec){ .iov_base = (void *)(uintptr_t)head->bytes, .iov_len = head->length };
	iovs[1].iov_len = iovs[1].iov_len < parcel->segment ? iovs[1].iov_len : parcel->segment;
	header.msg_iov = head ? iovs : &iovs[1];
	header.msg_iovlen = head ? 2 : 1;
	header.msg_controllen = parcel->control_bytes;
	if (header.msg_controllen == 0)
		header.msg_control = NULL;
	if (sendmsg(fd, &header, MSG_DONTWAIT) < 0)
		return -errno;
	out->sent++;
	out->sent_bytes += iovs[1].iov_len;
	go_behind(head);
	return 0;
}

/* What an earlier datagram met with is told to a later one, which is not sent then. Where that was its size, the kernel knows better now.
 */
static int send_datagram_twice(const struct outbox *outbox, int fd, struct datagram_head *head, struct sending *out)
{
	int error = send_datagram(outbox, fd, head, out);
	return error == -EMSGSIZE || error == -EINTR ? send_datagram(outbox, fd, head, out) : error;
}

/* The same, and it is done with: 0. Or a negative errno for the caller of outbox_send(), and it stays. */
static int pass_datagram(struct outbox *outbox, int fd, bool connected, struct datagram_head *head, struct sending *out)
{
	int error = send_datagram_twice(outbox, fd, head, out);
	if (error && is_full(-error))
		out->full++;
	else if (error == -EMSGSIZE)
		out->too_large++;
	else if (error && connected)
		return error;
	else if (error)
		out->unreachable++;
	leave_datagram(outbox);
	return 0;
}

/* The first parcel, datagram by datagram. 0, or a negative errno for the caller of outbox_send(). */
static int send_one_by_one(struct outbox *outbox, int fd, bool connected, struct sending *out)
{
	int error = 0;
	for (uint32_t left = outbox->parcels[outbox->first].datagrams; left > 0 && !error; left--)
		error = pass_datagram(outbox, fd, connected, NULL, out);
	return error;
}

/* sendmmsg(2) took none of it: what to do with the first parcel. 0 when it is done with, or a negative errno for the caller. */
static int first_failed(struct outbox *outbox, int fd, bool connected, int error, struct sending *out)
{
	bool several = outbox->parcels[outbox->first].datagrams > 1;
	uint32_t dropped = out->full + out->too_large;
	if (is_full(error)) { /* and what comes behind would find the same */
		out->full += outbox_drop(outbox);
		return 0;
	}
	if (several && (error == EMSGSIZE || error == EINVAL || error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT))
		out->unsplit = true;
	else if (connected && error != EMSGSIZE && error != EINTR)
		return -error;
	int left = send_one_by_one(outbox, fd, connected, out);
	bool went = !left && out->full + out->too_large == dropped;
	if (error == EMSGSIZE && !several && went) {
		out->too_large++;
		out->returned++;
	}
	return left;
}

/* How many can go at once: without UDP_SEGMENT a parcel of several datagrams goes by itself. */
static uint32_t run_length(const struct outbox *outbox)
{
	uint32_t n = outbox->n - outbox->first;
	if (outbox->one_by_one)
		return 1;
	for (uint32_t i = 1; !outbox->gso && i < n; i++)
		if (outbox->parcels[outbox->first + i].datagrams > 1)
			return i;
	return n;
}

static int send_first_parcels(struct outbox *outbox, int fd)
{
	struct msghdr *header = &outbox->headers[outbox->first].msg_hdr;
	if (unlikely(!outbox->gso && outbox->parcels[outbox->first].datagrams > 1))
		return errno = EOPNOTSUPP, -1;
	uint32_t n = run_length(outbox);
	if (n > 1)
		return sendmmsg(fd, &outbox->headers[outbox->first], n, MSG_DONTWAIT);
	if (!header->msg_name && header->msg_iovlen == 1 && header->msg_controllen == 0)
		return send(fd, header->msg_iov->iov_base, header->msg_iov->iov_len, MSG_DONTWAIT) < 0 ? -1 : 1;
	return sendmsg(fd, header, MSG_DONTWAIT) < 0 ? -1 : 1;
}

int outbox_send(struct outbox *outbox, int fd, bool connected, struct sending *out)
{
	while (outbox->first < outbox->n) {
		int n = send_first_parcels(outbox, fd);
		if (likely(n > 0)) {
			count_sent(outbox, (uint32_t)n, out);
			continue;
		}
		int error = first_failed(outbox, fd, connected, errno, out);
		if (error)
			return error;
	}
	clear(outbox);
	return 0;
}

int outbox_send_headed(struct outbox *outbox, int fd, struct datagram_head *head, struct sending *out)
{
	while (outbox->first < outbox->n && head->length > 0) {
		int error = pass_datagram(outbox, fd, true, head, out);
		if (error)
			return error;
	}
	return outbox_send(outbox, fd, true, out);
}
