#include "tcp/wait.h"

#include "base/clock.h"
#include "house/flight.h"
#include "tcp/tcp.h"

bool wait_is_worth_while(const struct session *session, enum upstream_choice choice, enum reason *why_not)
{
	const struct upstream_config *config = session->visit.upstream->config;
	bool waits = choice == UPSTREAM_LATER || (choice == UPSTREAM_FULL && config->queue.size > 0) ||
	             (choice == UPSTREAM_NONE && config->when_all_down == ALL_DOWN_WAIT);
	if (!waits)
		*why_not = choice == UPSTREAM_FULL ? REASON_SERVERS_FULL : REASON_NO_SERVER;
	return waits;
}

/* --- the client -------------------------------------------------------------------------------------------------------------- */

static void on_client(struct conn *conn, unsigned events);

static bool has_left(const struct conn *client)
{
	return client->by_completion ? client->input_end != CONN_OPEN : client->ended;
}

/* By readiness, with either engine: by completion what it sends would be received, and keep buffers from others for long. Where some
 * was received already, and told to a server that was stale, its end is not seen: then it waits until its turn or its deadline. */
static int watch(struct conn *client, struct session *session)
{
	conn_hand_over(client, on_client, session);
	if (client->by_completion && (conn_busy(client) || client->input != CONN_NO_BUFFER))
		return 0;
	if (client->by_completion)
		conn_use_readiness(client);
	return conn_watch(client);
}

static void on_client(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	if (!session->visit.waits)
		return; /* what comes now is for later */
	if (has_left(conn))
		session_end(session, REASON_CLIENT_GAVE_UP);
	else if ((events & CONN_IDLE) && watch(conn, session))
		session_end(session, REASON_NO_MEMORY);
}

/* --- the line ---------------------------------------------------------------------------------------------------------------- */

bool wait_begin(struct session *session)
{
	struct conn *client = session->relay.side[SIDE_CLIENT].conn;
	bool anew = session->waiter.ticket == 0;
	enum reason why_not = REASON_QUEUE_FULL;
	if (watch(client, session))
		why_not = REASON_NO_MEMORY;
	else if (has_left(client))
		why_not = REASON_CLIENT_GAVE_UP;
	else
		session->visit.waits = line_join(&session->visit.upstream->line, &session->waiter);
	if (!session->visit.waits) {
		session_end(session, why_not);
		return false;
	}
	flight_in_line(&session->visit);
	if (anew)
		counter_add(&session->visit.entrance->row->queued, 1);
	return true;
}

void wait_end(struct session *session)
{
	if (!session->visit.waits)
		return;
	line_leave(&session->visit.upstream->line, &session->waiter);
	session->visit.waited_ms += (uint32_t)((loop_now_ns(session_tcp(session)->loop) - session->visit.step_ns) / NS_PER_MS);
	session->visit.waits = false;
}

void wait_serve(struct line *line, struct waiter *waiter, uint64_t *due_ns)
{
	struct session *session = container_of(waiter, struct session, waiter);
	struct upstream *upstream = container_of(line, struct upstream, line);
	enum reason why_not;
	enum upstream_choice choice = session_take(session);
	if (choice == UPSTREAM_LATER) {
		uint64_t later_ns = upstream_dial_ns(upstream, loop_now_ns(session_tcp(session)->loop));
		*due_ns = later_ns < *due_ns ? later_ns : *due_ns;
	} else if (choice == UPSTREAM_TAKEN) {
		wait_end(session);
		session_connect(session);
	} else if (!wait_is_worth_while(session, choice, &why_not)) {
		flight_not_chosen(&session->visit, session_want(choice));
		session_end(session, why_not);
	}
}
