#include "udp/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "udp/udp.h"

/* A message has a few parcels, or a single one that is as large as there are. */
enum { MESSAGE_BYTES = 32768, INBOX_BYTES = DATAGRAM_BUFFER_BYTES + sizeof(struct transfer_letter), MESSAGES_A_TURN = 32 };

static_assert(sizeof(struct transfer_letter) == 88, "no bytes that nobody sets");

/* What to do with what came: it is for us, for whom it may concern, or nobody wants it any more. */
enum purpose { PURPOSE_OWN, PURPOSE_INHERITED, PURPOSE_DROP };

static void on_inbox(struct loop_io *io, int events);

int transfer_init(struct udp *udp, const struct udp_post *post)
{
	struct transfer *transfer = &udp->transfer;
	*transfer = (struct transfer){ .flows = post->flows, .self = post->self, .inbox = post->inbox };
	loop_io_init(&transfer->io, on_inbox);
	if (!post->flows)
		return 0;
	transfer->others = calloc(post->n_others + 1, sizeof *transfer->others);
	transfer->bytes = malloc(INBOX_BYTES);
	if (!transfer->others || !transfer->bytes)
		return -ENOMEM;
	memcpy(transfer->others, post->others, post->n_others * sizeof *transfer->others);
	transfer->n_others = post->n_others;
	return 0;
}

void transfer_fini(struct udp *udp)
{
	free(udp->transfer.others);
	free(udp->transfer.bytes);
}

/* --- sending ----------------------------------------------------------------------------------------------------------------- */

static struct udp_owner *find_owner(struct transfer *transfer, uint32_t id)
{
	for (uint32_t i = 0; i < transfer->n_others; i++)
		if (transfer->others[i].id == id)
			return transfer->others[i].fd >= 0 ? &transfer->others[i] : NULL;
	return NULL;
}

void transfer_find(struct udp *udp, uint64_t hash, struct transfer_found *out)
{
	struct transfer *transfer = &udp->transfer;
	struct flows_found found;
	*out = (struct transfer_found){ .owner = NULL };
	if (!transfer->flows || !flows_find(transfer->flows, hash, &found))
		return;
	bool another = found.lives && found.owner != transfer->self;
	out->owner = another ? find_owner(transfer, found.owner) : NULL;
	out->server = found.server;
	out->died = !found.lives;
	out->lives = another && !out->owner;
}

void transfer_add(struct udp *udp, struct udp_owner *owner, const struct arrival *arrival, const struct parcel *parcels)
{
	struct transfer *transfer = &udp->transfer;
	for (uint32_t i = 0; i < arrival->n; i++) {
		struct transfer_item *item = &transfer->items[transfer->n++];
		*item = (struct transfer_item){ .owner = owner, .arrival = *arrival, .parcel = parcels[arrival->index + i] };
		item->arrival.index = 0;
		item->arrival.n = 1;
	}
}

static void write_letter(const struct udp_socket *socket, const struct transfer_item *item, struct transfer_letter *letter)
{
	*letter = (struct transfer_letter){ .listener = socket->listener_hash,
		.key = item->arrival.key,
		.peer = *item->arrival.peer,
		.length = item->parcel.length,
		.segment = item->parcel.segment };
	letter->key.listener = 0;
}

/* One message for the owner of the first item, with as many of the others for him as there is room for. Returns how many datagrams; *taken
 * has the items. */
static uint32_t fill(struct udp_socket *socket, uint32_t first, struct msghdr *message, uint32_t *taken, uint32_t *n_taken)
{
	struct transfer *transfer = &socket->udp->transfer;
	struct udp_owner *owner = transfer->items[first].owner;
	uint32_t bytes = 0, datagrams = 0, n = 0;
	for (uint32_t i = first; i < transfer->n; i++) {
		struct transfer_item *item = &transfer->items[i];
		if (item->owner != owner)
			continue;
		if (n > 0 && bytes + item->parcel.length > MESSAGE_BYTES)
			break; /* none may overtake it */
		write_letter(socket, item, &transfer->letters[n]);
		message->msg_iov[2 * n] = (struct iovec){ .iov_base = &transfer->letters[n], .iov_len = sizeof transfer->letters[n] };
		message->msg_iov[2 * n + 1] =
		        (struct iovec){ .iov_base = (void *)(uintptr_t)item->parcel.bytes, .iov_len = item->parcel.length };
		bytes += item->parcel.length + (uint32_t)sizeof transfer->letters[n];
		datagrams += parcel_datagrams(&item->parcel);
		taken[n++] = i;
	}
	message->msg_iovlen = 2 * (size_t)n;
	*n_taken = n;
	return datagrams;
}

static bool is_dead(int error)
{
	return error == EPIPE || error == ECONNREFUSED || error == ECONNRESET || error == ENOTCONN;
}

static void bury(struct transfer *transfer, struct udp_owner *owner)
{
	flows_leave(transfer->flows, owner->id);
	close(owner->fd);
	owner->fd = -1;
}

/* What was for an owner that is dead: here or, where another one knows the client meanwhile, there. */
static void take_back(struct udp_socket *socket, struct transfer_item *items, uint32_t n, const struct udp_owner *owner)
{
	for (uint32_t i = 0; i < n; i++)
		if (items[i].owner == owner)
			udp_pass_on(socket, &items[i].arrival, &items[i].parcel, false);
}

static void send_message(struct udp_socket *socket, uint32_t first)
{
	struct transfer *transfer = &socket->udp->transfer;
	struct udp_owner *owner = transfer->items[first].owner;
	struct iovec iovs[2 * DATAGRAM_BATCH];
	struct msghdr message = { .msg_iov = iovs };
	uint32_t taken[DATAGRAM_BATCH], n;
	uint32_t datagrams = fill(socket, first, &message, taken, &n);
	if (sendmsg(owner->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		counter_add(&socket->entrance->row->udp_handed_over, datagrams);
	else if (!is_dead(errno))
		counter_add(&socket->entrance->row->udp_drop_hand_over, datagrams);
	else {
		bury(transfer, owner);
		take_back(socket, transfer->items, transfer->n, owner);
		for (uint32_t i = first; i < transfer->n; i++)
			if (transfer->items[i].owner == owner)
				transfer->items[i].owner = NULL;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		transfer->items[taken[i]].owner = NULL;
}

void transfer_send(struct udp_socket *socket)
{
	struct transfer *transfer = &socket->udp->transfer;
	for (uint32_t first = 0; first < transfer->n; first++)
		while (transfer->items[first].owner)
			send_message(socket, first);
	transfer->n = 0;
}

/* --- taking in --------------------------------------------------------------------------------------------------------------- */

static struct udp_socket *socket_of(struct udp *udp, uint64_t listener)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (udp->sockets[i].listener_hash == listener)
			return &udp->sockets[i];
	return NULL;
}

static bool same_sender(const struct transfer_letter *a, const struct transfer_letter *b)
{
	return a->listener == b->listener && flow_key_equal(&a->key, &b->key);
}

/* The letters of a message, and the parcels behind them. Returns how many; less than there are where it is none of ours. */
static uint32_t open_message(const struct transfer *transfer, size_t length, struct transfer_letter *letters, struct parcel *parcels)
{
	uint32_t n = 0;
	for (size_t at = 0; n < DATAGRAM_BATCH && length - at >= sizeof *letters; n++) {
		memcpy(&letters[n], transfer->bytes + at, sizeof *letters);
		at += sizeof *letters;
		if (letters[n].length > length - at)
			break;
		bool several = letters[n].segment > 0 && letters[n].segment < letters[n].length;
		parcels[n] = (struct parcel){
			.bytes = transfer->bytes + at, .length = letters[n].length, .segment = several ? letters[n].segment : 0
		};
		at += letters[n].length;
	}
	return n;
}

static void take_in_run(
        struct udp *udp, const struct transfer_letter *letter, struct parcel *parcels, uint32_t first, uint32_t n, enum purpose purpose)
{
	struct udp_socket *socket = socket_of(udp, letter->listener);
	struct arrival arrival = { .key = letter->key, .peer = &letter->peer, .index = first, .n = n };
	uint32_t datagrams = 0;
	if (!socket)
		return; /* nobody looks for one of that listener here */
	for (uint32_t i = first; i < first + n; i++)
		datagrams += parcel_datagrams(&parcels[i]);
	counter_add(&socket->entrance->row->udp_taken_over, datagrams);
	if (purpose == PURPOSE_DROP || socket->fd < 0) {
		counter_add(&socket->entrance->row->udp_drop_stopping, datagrams);
		return;
	}
	udp_finish_key(socket, &arrival);
	udp_pass_on(socket, &arrival, parcels, purpose == PURPOSE_INHERITED);
	transfer_send(socket);
}

static void take_in(struct udp *udp, size_t length, enum purpose purpose)
{
	struct transfer_letter letters[DATAGRAM_BATCH];
	struct parcel parcels[DATAGRAM_BATCH];
	uint32_t n = open_message(&udp->transfer, length, letters, parcels);
	for (uint32_t first = 0, next; first < n; first = next) {
		for (next = first + 1; next < n && same_sender(&letters[next], &letters[first]); next++)
			;
		take_in_run(udp, &letters[first], parcels, first, next - first, purpose);
	}
}

/* Up to so many messages. True when there may be more. */
static bool receive(struct udp *udp, int inbox, uint32_t most, enum purpose purpose)
{
	struct transfer *transfer = &udp->transfer;
	for (uint32_t i = 0; i < most; i++) {
		ssize_t length = recv(inbox, transfer->bytes, INBOX_BYTES, MSG_DONTWAIT);
		if (length <= 0)
			return false;
		take_in(udp, (size_t)length, purpose);
	}
	return true;
}

static void on_inbox(struct loop_io *io, int events)
{
	struct udp *udp = container_of(io, struct udp, transfer.io);
	(void)events;
	(void)receive(udp, udp->transfer.inbox, MESSAGES_A_TURN, PURPOSE_OWN);
}

int transfer_start(struct udp *udp)
{
	struct transfer *transfer = &udp->transfer;
	return transfer->flows && transfer->inbox >= 0 ? loop_io_set(udp->loop, &transfer->io, transfer->inbox, LOOP_READ) : 0;
}

/* Who sends from here on is told that nobody is there; what was sent before is in it. */
static void shut(struct udp *udp, enum purpose purpose)
{
	struct transfer *transfer = &udp->transfer;
	if (!transfer->flows || transfer->inbox < 0)
		return;
	flows_leave(transfer->flows, transfer->self);
	loop_io_stop(udp->loop, &transfer->io);
	(void)shutdown(transfer->inbox, SHUT_RD);
	while (receive(udp, transfer->inbox, MESSAGES_A_TURN, purpose))
		;
	close(transfer->inbox);
	transfer->inbox = -1;
}

void transfer_stop(struct udp *udp)
{
	shut(udp, PURPOSE_OWN);
}

void transfer_end(struct udp *udp)
{
	shut(udp, PURPOSE_DROP);
}

void transfer_inherit(struct udp *udp, int inbox)
{
	while (udp->transfer.flows && inbox >= 0 && receive(udp, inbox, MESSAGES_A_TURN, PURPOSE_INHERITED))
		;
	if (inbox >= 0)
		close(inbox);
}
