/* Receiving datagrams: batches. */
#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "os/region.h"
#include "udp/datagram.h"

/* Buffers do not begin at the same place of a page, or all of them would share few lines of the CPU's cache. */
enum { BUFFER_STRIDE = DATAGRAM_BUFFER_BYTES + 5 * CACHE_LINE_BYTES };
enum { CONTROL_BYTES = 128, LARGE = 4096 };

static_assert(CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(struct in6_pktinfo)) <= CONTROL_BYTES,
        "room for what comes with a parcel");

static void *buffer_at(const struct batch *batch, uint32_t index)
{
	return batch->memory + (size_t)index * BUFFER_STRIDE;
}

static void make_ready(struct batch *batch, uint32_t index)
{
	struct msghdr *header = &batch->headers[index].msg_hdr;
	header->msg_namelen = header->msg_name ? sizeof batch->peers[index] : 0;
	header->msg_controllen = CONTROL_BYTES;
	header->msg_flags = 0;
}

int batch_init(struct batch *batch, const struct datagram_features *features, bool addresses)
{
	void *memory;
	*batch = (struct batch){ .one_by_one = !features->batches };
	batch->controls = aligned_alloc(CACHE_LINE_BYTES, DATAGRAM_BATCH * sizeof *batch->controls);
	if (!batch->controls)
		return -ENOMEM;
	int error = region_reserve((uint64_t)DATAGRAM_BATCH * BUFFER_STRIDE, &memory);
	if (error) {
		batch_fini(batch);
		return error;
	}
	batch->memory = memory;
	for (uint32_t i = 0; i < DATAGRAM_BATCH; i++) {
		batch->iovs[i] = (struct iovec){ .iov_base = buffer_at(batch, i), .iov_len = DATAGRAM_BUFFER_BYTES };
		batch->headers[i].msg_hdr = (struct msghdr){ .msg_name = addresses ? &batch->peers[i] : NULL,
			.msg_iov = &batch->iovs[i],
			.msg_iovlen = 1,
			.msg_control = batch->controls[i] };
		make_ready(batch, i);
	}
	return 0;
}

void batch_fini(struct batch *batch)
{
	if (batch->memory)
		region_close(batch->memory, (uint64_t)DATAGRAM_BATCH * BUFFER_STRIDE);
	free(batch->controls);
	*batch = (struct batch){ 0 };
}

static int receive_one_by_one(struct mmsghdr *headers, int fd, uint32_t most)
{
	uint32_t n = 0;
	for (; n < most; n++) {
		ssize_t length = recvmsg(fd, &headers[n].msg_hdr, MSG_DONTWAIT);
		if (length < 0)
			break;
		headers[n].msg_len = (unsigned)length;
	}
	return n > 0 ? (int)n : -1;
}

int batch_receive(struct batch *batch, int fd, uint32_t most)
{
	struct mmsghdr *headers = &batch->headers[batch->n];
	uint32_t room = batch_room(batch);
	most = most < room ? most : room;
	int n = batch->one_by_one ? receive_one_by_one(headers, fd, most) : recvmmsg(fd, headers, most, MSG_DONTWAIT, NULL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		if (unlikely(headers[i].msg_len > batch->largest))
			batch->largest = headers[i].msg_len;
	batch->n += (uint32_t)n;
	return n;
}

int batch_receive_one(struct batch *batch, int fd)
{
	struct mmsghdr *header = &batch->headers[batch->n];
	ssize_t length = recv(fd, batch->iovs[batch->n].iov_base, DATAGRAM_BUFFER_BYTES, MSG_DONTWAIT);
	if (length < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	header->msg_len = (unsigned)length;
	header->msg_hdr.msg_controllen = 0;
	if (unlikely(header->msg_len > batch->largest))
		batch->largest = header->msg_len;
	batch->n++;
	return 1;
}

/* With a socket for both families it comes behind what IPv6 says, which knows no address to answer from where it was sent to all. */
static void take_pktinfo4(const struct cmsghdr *control, struct local_address *local)
{
	struct in_pktinfo info;
	memcpy(&info, CMSG_DATA(control), sizeof info);
	*local = (struct local_address){ .to_all = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr };
	local->address.s6_addr[10] = local->address.s6_addr[11] = 0xff;
	memcpy(&local->address.s6_addr[12], &info.ipi_spec_dst, sizeof info.ipi_spec_dst);
}

/* Nothing can be sent from a multicast address. */
static void take_pktinfo6(const struct cmsghdr *control, struct local_address *local)
{
	struct in6_pktinfo info;
	memcpy(&info, CMSG_DATA(control), sizeof info);
	*local = (struct local_address){ .to_all = IN6_IS_ADDR_MULTICAST(&info.ipi6_addr) };
	if (local->to_all)
		return;
	local->address = info.ipi6_addr;
	local->interface = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? info.ipi6_ifindex : 0;
}

static void take_control(struct cmsghdr *control, struct parcel *parcel, struct local_address *local)
{
	if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
		int size;
		memcpy(&size, CMSG_DATA(control), sizeof size);
		parcel->segment = size > 0 && (uint32_t)size < parcel->length ? (uint16_t)size : 0;
	} else if (local && control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
		take_pktinfo4(control, local);
	} else if (local && control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
		take_pktinfo6(control, local);
	}
}

void batch_parcel(const struct batch *batch, uint32_t index, struct parcel *out, struct local_address *local)
{
	const struct mmsghdr *header = &batch->headers[index];
	struct msghdr *inner = (struct msghdr *)&header->msg_hdr;
	*out = (struct parcel){ .bytes = batch->iovs[index].iov_base, .length = header->msg_len };
	if (local)
		*local = (struct local_address){ 0 };
	if (inner->msg_controllen == 0)
		return;
	for (struct cmsghdr *control = CMSG_FIRSTHDR(inner); control; control = CMSG_NXTHDR(inner, control))
		take_control(control, out, local);
}

void batch_clear(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->n; i++)
		make_ready(batch, i);
	batch->n = 0;
}

void batch_trim(struct batch *batch)
{
	bool large = batch->largest > LARGE;
	if (batch->n > 0)
		return;
	if (!large && batch->touched)
		region_discard(batch->memory, (uint64_t)DATAGRAM_BATCH * BUFFER_STRIDE);
	batch->touched = large;
	batch->largest = 0;
}
