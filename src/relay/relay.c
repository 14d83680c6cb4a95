#include "relay/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "relay/mover.h"

enum { ABORT_LOOK_US = 5 * 1000, ABORT_LOOK_MOST_US = 500 * 1000 };
enum { ABORT_STALL_US = 10 * 1000 * 1000 }; /* the other side takes nothing for so long: give up on what it is owed */

const struct relay_mover *const relay_movers[N_MOVERS] = {
	[MOVER_EPOLL] = &epoll_mover, [MOVER_URING] = &uring_mover, [MOVER_TLS] = &tls_mover
};

static const struct relay_mover *mover_of(const struct relay *relay)
{
	return relay_movers[relay->mover];
}

void relay_over(struct relay *relay, enum relay_end end, enum side by)
{
	relay->engine->session->done(relay, end, by);
}

/* --- a RST waits until the other side has what it is due --------------------------------------------------------------------- */

/* What it makes records of, and has not passed on to TCP. */
static int held_by_kernel(const struct relay *relay, enum side which)
{
	const struct relay_side *side = &relay->side[which];
	uint64_t look_again_ns;
	int held = relay_is_in_kernel(side) ? tls_stream_held(side->tls, loop_now_ns(relay->engine->loop), &look_again_ns) : 0;
	return held > 0 ? held : 0;
}

/* What the kernel has not delivered yet; nothing when it never will. */
static int unsent_bytes(const struct relay *relay, enum side which)
{
	int fd = relay->side[which].conn->fd;
	struct pollfd look = { .fd = fd };
	int unsent = 0;
	if (poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLHUP)))
		return 0;
	if (ioctl(fd, SIOCOUTQ, &unsent))
		unsent = 0;
	return unsent + held_by_kernel(relay, which);
}

static void look_again(struct relay *relay, uint64_t now_ns)
{
	relay->engine->session->tick_at(relay, now_ns + relay->abort_look_us * NS_PER_US);
}

/* A side is gone, and all that it sent was given to the other side's kernel: when that has sent it, the RST may follow. */
static bool begin_abort(struct relay *relay, enum side by)
{
	struct relay_side *other = &relay->side[other_side(by)];
	relay->abort_owed = other->reset ? 0 : unsent_bytes(relay, other_side(by));
	if (relay->abort_owed == 0) {
		relay_over(relay, relay->side[by].end, by);
		return false;
	}
	mover_of(relay)->quiet(relay);
	relay->aborting = true;
	relay->abort_still_us = 0;
	relay->abort_look_us = ABORT_LOOK_US;
	look_again(relay, loop_now_ns(relay->engine->loop));
	return false;
}

void relay_tick(struct relay *relay, uint64_t now_ns)
{
	if (!relay->aborting) {
		const struct relay_mover *mover = mover_of(relay);
		bool goes_on = (!mover || !mover->tick || mover->tick(relay)) && relay_settle(relay);
		(void)goes_on;
		return;
	}
	enum side by = relay->side[SIDE_CLIENT].reset ? SIDE_CLIENT : SIDE_SERVER;
	int owed = unsent_bytes(relay, other_side(by));
	relay->abort_still_us += relay->abort_look_us;
	if (owed == 0 || (owed >= relay->abort_owed && relay->abort_still_us >= ABORT_STALL_US)) {
		relay_over(relay, relay->side[by].end, by);
		return;
	}
	if (owed < relay->abort_owed) {
		relay->abort_owed = owed;
		relay->abort_still_us = 0;
		relay->abort_look_us = ABORT_LOOK_US;
	} else if (relay->abort_look_us < ABORT_LOOK_MOST_US) {
		relay->abort_look_us *= 2;
	}
	look_again(relay, now_ns);
}

void relay_resume(struct relay *relay)
{
	if (!relay->aborting)
		mover_of(relay)->resume(relay);
}

/* --- the ends ---------------------------------------------------------------------------------------------------------------- */

/* Everything that came from both sides is with the other one. */
static bool all_delivered(const struct relay *relay)
{
	const struct relay_side *client = &relay->side[SIDE_CLIENT], *server = &relay->side[SIDE_SERVER];
	return client->eof && server->eof && !client->owed && !server->owed;
}

/* All that a side sent before its FIN is delivered. True when the relay goes on. */
static bool pass_end(struct relay *relay, enum side from)
{
	struct relay_side *other = &relay->side[other_side(from)];
	enum relay_ending ending = relay->framed ? relay->engine->session->ending(relay, from) : ENDING_PASS;
	if (ending != ENDING_PASS)
		return ending != ENDING_OVER;
	other->fin_sent = true;
	return mover_of(relay)->end(relay, other_side(from));
}

bool relay_send_fin(struct relay *relay, enum side to)
{
	(void)shutdown(relay->side[to].conn->fd, SHUT_WR); /* an error here is a reset, which the next read tells */
	return true;
}

/* Both sides have ended, and everything is delivered. Closing passes on the FINs that are still due, but not what TLS says before them.
 * True when the relay goes on. */
static bool part(struct relay *relay)
{
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct relay_side *side = &relay->side[which];
		if (likely(!side->secured) || side->fin_sent)
			continue;
		side->fin_sent = true;
		if (!mover_of(relay)->end(relay, which))
			return false;
	}
	if (unlikely(!all_delivered(relay)))
		return true; /* there was no room for it */
	relay_over(relay, RELAY_FINISHED, SIDE_CLIENT);
	return false;
}

/* It was reset, and had said before, so that nobody else could have, that nothing more comes: what it sent is whole. That is how clients of
 * TLS 1.3 look that only send: the ticket that they did not read makes a RST of their FIN. */
static bool is_complete(const struct relay_side *side)
{
	return side->secured && side->eof;
}

bool relay_settle(struct relay *relay)
{
	if (relay->aborting)
		return false;
	if (all_delivered(relay))
		return part(relay);
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++) {
		struct relay_side *side = &relay->side[which];
		struct relay_side *other = &relay->side[other_side(which)];
		if (side->reset && side->dry && !is_complete(side) && (other->reset || !other->owed))
			return begin_abort(relay, which);
		if (side->eof && !other->owed && !other->fin_sent && !other->reset && !pass_end(relay, which))
			return false;
	}
	return true;
}

static enum relay_end end_of(int error)
{
	switch (error) {
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EINVAL: /* the kernel tells what its route said last, which may be one that drops or forbids all */
	case EACCES:
		return RELAY_LOST;
	case ECONNABORTED:
		return RELAY_CUT_OFF;
	case EBADMSG:
		return RELAY_BROKEN;
	default:
		return RELAY_RESET;
	}
}

/* Reading from or sending to a side failed. */
static bool side_failed(struct relay *relay, enum side which, int error, bool reading)
{
	struct relay_side *side = &relay->side[which];
	if (error == ENOBUFS || error == ENOMEM) {
		relay_over(relay, RELAY_NO_MEMORY, which);
		return false;
	}
	if (!side->reset)
		side->end = end_of(error) & 7U;
	if (!reading && side->secured)
		side->eof = false; /* but something was to be sent to it */
	side->reset = true;
	side->dry = side->dry || reading; /* what arrived before the RST can still be read */
	mover_of(relay)->drop(relay, which);
	side->blocked = false;
	return relay_settle(relay);
}

bool relay_send_failed(struct relay *relay, enum side to, int error)
{
	return side_failed(relay, to, error, false);
}

bool relay_input_ended(struct relay *relay, enum side from, int error)
{
	struct relay_side *source = &relay->side[from];
	if (error)
		return side_failed(relay, from, error, true);
	source->dry = true;
	if (from == SIDE_SERVER && !relay->side[SIDE_CLIENT].eof)
		relay->server_first = true;
	source->eof = !source->reset || source->secured; /* after a failed send the kernel tells a reset as an end of input */
	return relay_settle(relay);
}

/* --- from start to stop ------------------------------------------------------------------------------------------------------ */

void relay_owe(struct relay *relay, struct relay_engine *engine, enum side to, char *buffer, uint32_t count)
{
	struct relay_side *side = &relay->side[to];
	ensure(count <= RELAY_BUFFER_BYTES && !side->held);
	*buffers_rest(&engine->buffers, buffer) = (struct buffer_rest){ .end = count };
	relay->engine = engine;
	side->held = buffer;
	side->owed = count;
}

void relay_engine_hold_back(struct relay_engine *engine)
{
	if (engine->conns->ring)
		ring_hold_back(engine->conns->ring, !relay_engine_ring_is_open(engine));
}

void relay_engine_before_sleep(struct relay_engine *engine)
{
	struct conns *conns = engine->conns;
	if (!conns->ring)
		return;
	relay_engine_hold_back(engine);
	if (likely(relay_engine_ring_is_open(engine)))
		conns_feed_starved(conns);
	else
		conns_tell_starved(conns); /* readers who stand still may keep it closed for hours */
}

static void side_init(struct relay_side *side, struct conn *conn)
{
	*side = (struct relay_side){ .conn = conn,
		.quickack = side->quickack,
		.secured = side->secured,
		.held = side->held,
		.owed = side->owed,
		.tls = side->secured ? side->tls : NULL };
}

static bool is_with_ring(const struct conn *conn)
{
	return conn->by_completion && (conn_busy(conn) || conn->input != CONN_NO_BUFFER);
}

int relay_start(struct relay *relay, struct relay_engine *engine, struct conn *client, struct conn *server)
{
	relay->engine = engine;
	relay->aborting = false;
	relay->leaving = false;
	relay->server_first = false;
	relay->calm = 0;
	side_init(&relay->side[SIDE_CLIENT], client);
	side_init(&relay->side[SIDE_SERVER], server);
	if (!relay_is_secured(relay))
		return relay_move_with(relay, engine->conns->ring ? MOVER_URING : MOVER_EPOLL);
	/* what the ring is doing has to end first */
	return relay_move_with(relay, is_with_ring(client) || is_with_ring(server) ? MOVER_URING : MOVER_TLS);
}

void relay_stop(struct relay *relay)
{
	if (!relay->engine)
		return;
	if (relay->mover)
		mover_of(relay)->stop(relay);
	for (enum side which = SIDE_CLIENT; which <= SIDE_SERVER; which++)
		buffers_give_back_list(&relay->engine->buffers, &relay->side[which].held);
	relay->engine = NULL;
	relay->mover = MOVER_NONE;
}

bool relay_owes(const struct relay *relay, enum side to)
{
	const struct relay_side *from = &relay->side[other_side(to)];
	int unread = 0;
	if (relay->aborting)
		return !relay->side[to].reset;
	if (from->secured && tls_stream_holds(from->tls))
		return true;
	return relay->side[to].owed || held_by_kernel(relay, to) ||
	       (!from->dry && ioctl(from->conn->fd, FIONREAD, &unread) == 0 && unread > 0);
}
