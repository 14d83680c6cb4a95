#include "tcp/pace.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "tcp/tcp.h"

static const struct bandwidth *bandwidth_of(const struct session *session)
{
	return &session_listener(session)->bandwidth;
}

static uint64_t min_rate(const struct session *session)
{
	return session->visit.entrance->config->min_rate_bytes_per_s;
}

static uint64_t now_ns(const struct session *session)
{
	return loop_now_ns(session_tcp(session)->loop);
}

/* --- beginning and end ------------------------------------------------------------------------------------------------------- */

void pace_begin(struct session *session)
{
	const struct bandwidth *bandwidth = bandwidth_of(session);
	if (likely(!session_listener(session)->paced) || session->pace)
		return;
	struct pace *pace = slab_take(&session_tcp(session)->paces);
	ensure(pace); /* there are as many as sessions */
	for (enum side side = SIDE_CLIENT; side <= SIDE_SERVER; side++)
		lane_init(&pace->from[side], &bandwidth->from[side]);
	client_guard_init(&pace->guard);
	session->pace = pace;
	session->relay.shaped = bandwidth_is_limited(bandwidth);
}

void pace_end(struct session *session)
{
	struct pace *pace = session->pace;
	if (likely(!pace))
		return;
	for (enum side side = SIDE_CLIENT; side <= SIDE_SERVER; side++)
		lane_fini(&pace->from[side], &bandwidth_of(session)->from[side]);
	slab_give_back(&session_tcp(session)->paces, pace);
	session->pace = NULL;
}

/* --- bandwidth --------------------------------------------------------------------------------------------------------------- */

static uint64_t unread_bytes(int fd)
{
	int unread = 0;
	return ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0 ? (uint64_t)unread : 0;
}

static void hold_back(struct session *session, enum side from)
{
	if (from == SIDE_CLIENT)
		client_guard_held_back(&session->pace->guard);
	session_arm(session);
}

bool pace_holds_back(const struct session *session, enum side from)
{
	return session->pace && session->pace->from[from].due_ns != LANE_NOT_PAUSED;
}

size_t pace_allow(struct relay *relay, enum side from)
{
	struct session *session = container_of(relay, struct session, relay);
	const struct bandwidth_way *way = &bandwidth_of(session)->from[from];
	if (!way->bytes_per_s)
		return SIZE_MAX;
	uint64_t unread = unread_bytes(relay->side[from].conn->fd);
	if (unread == 0)
		return 1; /* nothing, or an end, which costs nothing */
	uint64_t bytes = lane_allow(&session->pace->from[from], way, unread, now_ns(session));
	if (bytes == 0)
		hold_back(session, from);
	return bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

bool pace_resumes(struct session *session)
{
	uint64_t now = now_ns(session);
	bool up = lane_resume(&session->pace->from[SIDE_CLIENT], now);
	bool down = lane_resume(&session->pace->from[SIDE_SERVER], now);
	if (down && session->asked_ns)
		session->asked_ns = now;
	if (up || down)
		session->activity_ns = now;
	return up || down;
}

/* --- min_rate ---------------------------------------------------------------------------------------------------------------- */

/* telling: the relay is telling of bytes that it has just read, which are not meant. */
static struct client_state look_at_client(const struct session *session, bool telling)
{
	const struct relay_side *client = &session->relay.side[SIDE_CLIENT];
	struct client_state state = { .blocked = session->relay.side[SIDE_SERVER].owed > 0, .finished = client->eof || client->reset };
	int unsent = 0;
	if (ioctl(client->conn->fd, SIOCOUTQ, &unsent) == 0 && unsent > 0)
		state.untaken = (uint64_t)unsent;
	if (!telling || !client->pipe) /* what is in a pipe came at once */
		state.untaken += client->owed;
	return state;
}

static void guard_bytes(struct session *session, enum side from, size_t count)
{
	struct client_guard *guard = &session->pace->guard;
	uint64_t now = now_ns(session);
	if (from == SIDE_CLIENT) {
		client_guard_up(guard, count, now);
	} else if (client_guard_marks(guard, now)) {
		struct client_state state = look_at_client(session, true);
		client_guard_down(guard, count, &state, now);
	} else {
		client_guard_down(guard, count, NULL, now);
	}
	session_arm(session);
}

bool pace_is_too_slow(struct session *session)
{
	struct client_guard *guard = &session->pace->guard;
	uint64_t now = now_ns(session);
	if (now < client_guard_due_ns(guard))
		return false;
	struct client_state state = look_at_client(session, false);
	return client_guard_slow(guard, min_rate(session), &state, now);
}

/* --- both -------------------------------------------------------------------------------------------------------------------- */

void pace_bytes(struct session *session, enum side from, size_t count)
{
	bool all = !session->relay.side[from].conn->readable;
	lane_moved(&session->pace->from[from], &bandwidth_of(session)->from[from], count, all, now_ns(session));
	if (min_rate(session))
		guard_bytes(session, from, count);
}

uint64_t pace_due_ns(const struct session *session)
{
	const struct pace *pace = session->pace;
	uint64_t due_ns = client_guard_due_ns(&pace->guard);
	for (enum side side = SIDE_CLIENT; side <= SIDE_SERVER; side++)
		if (pace->from[side].due_ns < due_ns)
			due_ns = pace->from[side].due_ns;
	return due_ns;
}
