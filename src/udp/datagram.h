/* Datagrams in batches: received with recvmmsg(2) and UDP_GRO, sent with sendmmsg(2) and UDP_SEGMENT (GSO).
 *
 * Process: a worker. Each of the features is tried once (datagram_probe()); without them one system call moves one datagram.
 *
 * A parcel is what the kernel hands over at once: one datagram, or, with UDP_GRO, several of one size (the last may be shorter) that a
 * sender gave to its kernel, or that the network card received, in a row.
 *
 * Memory: buffers of 64 kB each, of which only what datagrams fill is ever touched; it can be given back.
 */
#ifndef AEGIS_UDP_DATAGRAM_H
#define AEGIS_UDP_DATAGRAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/attr.h"

enum { DATAGRAM_BATCH = 64, DATAGRAM_BUFFER_BYTES = 65536 };

/* What works here. */
struct datagram_features {
	bool batches; /* recvmmsg, sendmmsg */
	bool gro;     /* UDP_GRO */
	bool gso;     /* UDP_SEGMENT */
	char why[80]; /* where one does not: which, and why */
};
void datagram_probe(struct datagram_features *out);

/* --- receiving --------------------------------------------------------------------------------------------------------------- */

/* The address of ours that a datagram was sent to, or is to leave from; IPv4 as an IPv6 one. All zero: not known, or not asked. */
struct local_address {
	struct in6_addr address;
	uint32_t interface; /* of link-local addresses; else 0 */
	uint32_t to_all;    /* 1: it was sent to a broadcast or multicast address, and this is the one of ours to answer from */
};

struct parcel {
	const char *bytes;
	uint32_t length;
	uint16_t segment; /* each datagram has so many bytes but the last; 0 = there is one */
};

static inline uint32_t parcel_datagrams(const struct parcel *parcel)
{
	return parcel->segment ? (parcel->length + parcel->segment - 1) / parcel->segment : 1;
}

/* Buffers to receive into, each with what came with its parcel. */
struct batch {
	struct mmsghdr headers[DATAGRAM_BATCH];
	struct iovec iovs[DATAGRAM_BATCH];
	struct sockaddr_in6 peers[DATAGRAM_BATCH]; /* IPv4 or IPv6 */
	char (*controls)[128];
	char *memory;
	uint32_t n;       /* filled */
	uint32_t largest; /* parcel since the memory was last looked at */
	bool touched;     /* much of the memory was, before */
	bool one_by_one;  /* recvmmsg does not work */
};

/* addresses: those of peers are wanted, which connected sockets have no need of. 0 or a negative errno; the memory is only reserved. */
must_check int batch_init(struct batch *batch, const struct datagram_features *features, bool addresses);
void batch_fini(struct batch *batch);

/* Receive up to `most` parcels behind those that it holds, or as many as there is room for. The number (0 = nothing there), or a negative
 * errno: one that an earlier datagram met with on its way, or of the socket. */
must_check int batch_receive(struct batch *batch, int fd, uint32_t most);
/* The same for one, from a socket without UDP_GRO, without its address: cheaper. There is room. */
must_check int batch_receive_one(struct batch *batch, int fd);
static inline uint32_t batch_room(const struct batch *batch)
{
	return DATAGRAM_BATCH - batch->n;
}
/* What the parcel at index is; local may be NULL. */
void batch_parcel(const struct batch *batch, uint32_t index, struct parcel *out, struct local_address *local);
/* The parcels are dealt with: their buffers are free. */
void batch_clear(struct batch *batch);
/* Give memory back that was not needed since the last call; only when it is clear. To be called now and then. */
void batch_trim(struct batch *batch);

/* --- sending ----------------------------------------------------------------------------------------------------------------- */

/* How it went. */
struct sending {
	uint32_t sent; /* datagrams */
	uint64_t sent_bytes;
	uint32_t full;        /* dropped: the kernel's buffer is full, or it has no memory */
	uint32_t too_large;   /* dropped: larger than what the way takes */
	uint32_t returned;    /* of these: not one of this box, but one that was sent before, as a router said meanwhile */
	uint32_t unreachable; /* dropped: no way there, or not allowed */
	bool unsplit;         /* the kernel would not split what was given to it at once: better not to try again with this peer */
};

/* Messages to be sent by one socket. Their bytes stay where they are until they are sent. */
struct outbox {
	struct mmsghdr headers[DATAGRAM_BATCH];
	struct iovec iovs[DATAGRAM_BATCH];
	struct sockaddr_in6 peers[DATAGRAM_BATCH];
	struct out_parcel {
		uint32_t datagrams, bytes;
		uint16_t segment;      /* the size of its datagrams; */
		bool closed;           /* the last one is shorter, so that none can follow */
		uint8_t control_bytes; /* without what UDP_SEGMENT needs */
	} parcels[DATAGRAM_BATCH];
	char (*controls)[128];
	uint32_t n, n_iovs;
	uint32_t first; /* that is not sent yet */
	bool gso;
	bool one_by_one; /* sendmmsg does not work */
};

/* 0 or -ENOMEM. */
must_check int outbox_init(struct outbox *outbox, const struct datagram_features *features);
void outbox_fini(struct outbox *outbox);
static inline bool outbox_is_full(const struct outbox *outbox)
{
	return outbox->n_iovs == DATAGRAM_BATCH;
}
static inline bool outbox_is_empty(const struct outbox *outbox)
{
	return outbox->n_iovs == 0;
}
/* One more, behind the last one: to the peer, or to where the socket is connected (NULL); from the local address
 * (NULL: whatever the kernel takes). same: to where the last one went, from there, and the kernel may split them. Not when it is full. */
void outbox_add(
        struct outbox *outbox, const struct parcel *parcel, const struct sockaddr_in6 *peer, const struct local_address *local, bool same);
/* Send all, in order; then it is empty. What cannot be sent is dropped, but for a connected socket: an error that an earlier datagram met
 * with ends it with that error (a negative errno), and what was not sent stays. 0 otherwise. *out is added to. */
must_check int outbox_send(struct outbox *outbox, int fd, bool connected, struct sending *out);
/* What goes in front of a datagram, and with it is one. */
struct datagram_head {
	const void *bytes;
	uint32_t length;
	bool each; /* in front of every one; else of the first that the kernel takes, and then length is 0 */
};
/* outbox_send() of a connected socket, with a head that is not counted among the bytes. Those that get one go one by one. */
must_check int outbox_send_headed(struct outbox *outbox, int fd, struct datagram_head *head, struct sending *out);
/* Drop what is in it. Returns how many datagrams. */
uint32_t outbox_drop(struct outbox *outbox);

#endif
