#include "relay/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define ABORT_LOOK_NS (5 * NS_PER_MS)
#define ABORT_LOOK_MOST_NS (500 * NS_PER_MS)
#define ABORT_STALL_NS (10 * NS_PER_S) /* the other side takes nothing for so long: give up on what it is owed */

static struct relay *relay_of(struct relay_side *side, enum side which)
{
	return container_of(side, struct relay, side[which]);
}

/* Wait for what can make progress, and for nothing else. 0, or a negative errno when the kernel has no room for a watch. */
static int watch(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct relay_side *side = &relay->side[which];
		bool read = !side->dry && !relay->side[other_side(which)].blocked;
		int events = (read ? LOOP_READ : 0) | (side->blocked ? LOOP_WRITE : 0);
		if (events == 0 && side->dry)
			loop_io_stop(relay->engine->loop, &side->io); /* it is readable for good now */
		else if (loop_io_set(relay->engine->loop, &side->io, side->fd, events))
			return -ENOMEM;
	}
	return 0;
}

/* The same; without room for a watch the session is over. */
static void set_interest(struct relay *relay)
{
	if (watch(relay))
		relay->engine->session->done(relay, RELAY_NO_MEMORY, SIDE_CLIENT);
}

static void drop_held(struct relay *relay, struct relay_side *side)
{
	if (side->held)
		buffers_give_back(&relay->engine->buffers, side->held);
	side->held = NULL;
	side->blocked = false;
}

/* What the kernel has not delivered yet; nothing when it never will. */
static int unsent_bytes(int fd)
{
	struct pollfd look = { .fd = fd };
	int unsent = 0;
	if (poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLHUP)))
		return 0;
	return ioctl(fd, SIOCOUTQ, &unsent) == 0 ? unsent : 0;
}

/* A side is gone, and all that it sent was given to the other side's kernel: when that has sent it, the RST may follow. */
static void begin_abort(struct relay *relay, enum side by)
{
	struct relay_side *other = &relay->side[other_side(by)];
	loop_io_stop(relay->engine->loop, &relay->side[by].io);
	loop_io_stop(relay->engine->loop, &other->io);
	relay->aborting = true;
	relay->abort_owed = other->reset ? 0 : unsent_bytes(other->fd);
	if (relay->abort_owed == 0) {
		relay->engine->session->done(relay, relay->side[by].lost ? RELAY_LOST : RELAY_RESET, by);
		return;
	}
	uint64_t now_ns = loop_now_ns(relay->engine->loop);
	relay->abort_stalled_ns = now_ns + ABORT_STALL_NS;
	relay->abort_look_ns = ABORT_LOOK_NS;
	relay->engine->session->tick_at(relay, now_ns + relay->abort_look_ns);
}

void relay_tick(struct relay *relay, uint64_t now_ns)
{
	if (!relay->aborting)
		return;
	enum side by = relay->side[SIDE_CLIENT].reset ? SIDE_CLIENT : SIDE_SERVER;
	int owed = unsent_bytes(relay->side[other_side(by)].fd);
	if (owed == 0 || (owed >= relay->abort_owed && now_ns >= relay->abort_stalled_ns)) {
		relay->engine->session->done(relay, relay->side[by].lost ? RELAY_LOST : RELAY_RESET, by);
		return;
	}
	if (owed < relay->abort_owed) {
		relay->abort_owed = owed;
		relay->abort_stalled_ns = now_ns + ABORT_STALL_NS;
		relay->abort_look_ns = ABORT_LOOK_NS;
	} else if (relay->abort_look_ns < ABORT_LOOK_MOST_NS) {
		relay->abort_look_ns *= 2;
	}
	relay->engine->session->tick_at(relay, now_ns + relay->abort_look_ns);
}

/* Everything that came from both sides is with the other one. */
static bool all_delivered(const struct relay *relay)
{
	const struct relay_side *client = &relay->side[SIDE_CLIENT], *server = &relay->side[SIDE_SERVER];
	return client->eof && server->eof && !client->held && !server->held;
}

/* After any change: pass a FIN on when all before it is delivered, see whether it is over, wait for the rest. */
static void settle(struct relay *relay)
{
	if (all_delivered(relay)) {
		relay->engine->session->done(relay, RELAY_FINISHED, SIDE_CLIENT); /* closing passes on the FIN that is still due */
		return;
	}
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct relay_side *side = &relay->side[which];
		struct relay_side *other = &relay->side[other_side(which)];
		if (side->reset && side->dry && (other->reset || !other->held)) {
			begin_abort(relay, which);
			return;
		}
		if (side->eof && !other->held && !other->fin_sent && !other->reset) {
			other->fin_sent = true;
			(void)shutdown(other->fd, SHUT_WR); /* an error here is a reset, which the next read tells */
		}
	}
	set_interest(relay);
}

/* Reading from or sending to a side failed. */
static void side_failed(struct relay *relay, enum side which, int error, bool reading)
{
	struct relay_side *side = &relay->side[which];
	if (error == ENOBUFS || error == ENOMEM) {
		relay->engine->session->done(relay, RELAY_NO_MEMORY, which);
		return;
	}
	if (!side->reset)
		side->lost = error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN;
	side->reset = true;
	side->dry = side->dry || reading; /* what arrived before the RST can still be read */
	drop_held(relay, side);
	settle(relay);
}

/* Send bytes to a side. The number taken, 0 when it has no room, -1 when the session may be over. */
static ssize_t send_to(struct relay *relay, enum side to, const char *bytes, size_t count)
{
	struct relay_side *side = &relay->side[to];
	if (side->reset)
		return (ssize_t)count; /* dropped: nobody is there to take it */
	ssize_t sent = send(side->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (likely(sent >= 0))
		return sent;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	side_failed(relay, to, errno, false);
	return -1;
}

/* What a read brought is sent on. True when more may be read at once. */
static bool deliver(struct relay *relay, enum side from, size_t count)
{
	struct buffers *buffers = &relay->engine->buffers;
	enum side to = other_side(from);
	relay->engine->session->bytes(relay, from, count);
	ssize_t sent = send_to(relay, to, buffers->scratch, count);
	if (sent < 0)
		return false;
	if (likely((size_t)sent == count))
		return true;
	struct relay_side *target = &relay->side[to];
	target->held = buffers_keep_scratch(buffers);
	target->held_at = (uint32_t)sent;
	target->held_end = (uint32_t)count;
	target->blocked = true;
	set_interest(relay);
	return false;
}

/* The same without a scratch buffer: the bytes were only peeked at; take from the kernel just what was sent. */
static bool deliver_peeked(struct relay *relay, enum side from, size_t count)
{
	char *peek = relay->engine->buffers.peek;
	counter_add(relay->engine->buffer_exhausted, 1);
	ssize_t sent = send_to(relay, other_side(from), peek, count);
	if (sent < 0)
		return false;
	if (sent > 0) {
		ssize_t taken = recv(relay->side[from].fd, peek, (size_t)sent, MSG_DONTWAIT);
		if (taken != sent) { /* what was sent cannot be taken back */
			side_failed(relay, from, EPROTO, true);
			return false;
		}
		relay->engine->session->bytes(relay, from, (size_t)sent);
	}
	if ((size_t)sent == count)
		return true;
	relay->side[other_side(from)].blocked = true;
	set_interest(relay);
	return false;
}

/* A read brought the end of input or an error. */
static void end_of_input(struct relay *relay, enum side from, ssize_t count)
{
	struct relay_side *source = &relay->side[from];
	if (count < 0) {
		side_failed(relay, from, errno, true);
		return;
	}
	source->dry = true;
	source->eof = !source->reset; /* after a failed send the kernel tells a reset as an end of input */
	settle(relay);
}

static void pump(struct relay *relay, enum side from)
{
	struct relay_side *source = &relay->side[from];
	struct buffers *buffers = &relay->engine->buffers;
	for (size_t moved = 0; moved < RELAY_TURN_BYTES;) {
		bool peeking = unlikely(!buffers->scratch);
		ssize_t count = recv(source->fd, peeking ? buffers->peek : buffers->scratch, RELAY_BUFFER_BYTES,
		        MSG_DONTWAIT | (peeking ? MSG_PEEK : 0));
		if (unlikely(count <= 0)) {
			if (count == 0 || (errno != EAGAIN && errno != EINTR))
				end_of_input(relay, from, count);
			return;
		}
		if (source->quickack)
			(void)setsockopt(source->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
		bool more = peeking ? deliver_peeked(relay, from, (size_t)count) : deliver(relay, from, (size_t)count);
		if (!more || count < RELAY_BUFFER_BYTES)
			return; /* the socket is empty, or the loop tells that it is not */
		moved += (size_t)count;
	}
}

/* The socket of a side has room again. True when the relay goes on. */
static bool flush(struct relay *relay, enum side to)
{
	struct relay_side *side = &relay->side[to];
	if (side->held) {
		ssize_t sent = send_to(relay, to, side->held + side->held_at, side->held_end - side->held_at);
		if (sent < 0)
			return false;
		side->held_at += (uint32_t)sent;
		if (side->held_at < side->held_end)
			return true;
	}
	drop_held(relay, side);
	settle(relay);
	return false; /* the loop tells what can be read now */
}

static void on_side(struct relay *relay, enum side which, int events)
{
	struct relay_side *side = &relay->side[which];
	if ((events & LOOP_WRITE) && side->blocked && !flush(relay, which))
		return;
	if ((events & LOOP_READ) && !side->dry && !relay->side[other_side(which)].blocked)
		pump(relay, which);
}

static void on_client(struct loop_io *io, int events)
{
	on_side(relay_of(container_of(io, struct relay_side, io), SIDE_CLIENT), SIDE_CLIENT, events);
}

static void on_server(struct loop_io *io, int events)
{
	on_side(relay_of(container_of(io, struct relay_side, io), SIDE_SERVER), SIDE_SERVER, events);
}

static void side_init(struct relay_side *side, int fd, loop_io_fn *fn)
{
	bool watched = side->io.fn && side->io.fd == fd; /* while it was connecting */
	*side = (struct relay_side){ .io = side->io, .fd = fd, .quickack = side->quickack };
	if (watched)
		loop_io_hand_over(&side->io, fn);
	else
		loop_io_init(&side->io, fn);
}

int relay_start(struct relay *relay, struct relay_engine *engine, int client_fd, int server_fd)
{
	relay->engine = engine;
	relay->aborting = false;
	side_init(&relay->side[SIDE_CLIENT], client_fd, on_client);
	side_init(&relay->side[SIDE_SERVER], server_fd, on_server);
	return watch(relay);
}

void relay_stop(struct relay *relay)
{
	if (!relay->engine)
		return;
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		loop_io_forget(relay->engine->loop, &relay->side[which].io);
		drop_held(relay, &relay->side[which]);
	}
	relay->engine = NULL;
}

bool relay_owes(const struct relay *relay, enum side to)
{
	const struct relay_side *from = &relay->side[other_side(to)];
	int unread = 0;
	if (relay->aborting)
		return !relay->side[to].reset;
	return relay->side[to].held || (!from->dry && ioctl(from->fd, FIONREAD, &unread) == 0 && unread > 0);
}

bool relay_holds(const struct relay *relay)
{
	return relay->side[SIDE_CLIENT].held || relay->side[SIDE_SERVER].held;
}

void relay_abort_fd(int fd)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1, .l_linger = 0 }, sizeof(struct linger));
	close(fd);
}
