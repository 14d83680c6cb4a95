#include "tcp/session.h"

#include "house/caller.h"
#include "house/flight.h"
#include "tcp/challenge.h"
#include "tcp/hello.h"
#include "tcp/introduce.h"
#include "tcp/pace.h"
#include "tcp/proxied.h"
#include "tcp/reuse.h"
#include "tcp/secure.h"
#include "tcp/steps.h"
#include "tcp/tcp.h"
#include "tcp/wait.h"

struct step_row {
	enum step_result (*enter)(struct session *session);
	uint64_t (*deadline)(const struct session *session); /* NULL: the step never waits */
	void (*overdue)(struct session *session);
};

static const struct step_row steps[N_STEPS];

/* Fire at the deadline of the step; lazily: an armed timer that is early enough stays as it is. */
void session_arm(struct session *session)
{
	uint64_t due_ns = steps[session->visit.step].deadline(session);
	if (!wheel_armed(&session->timer) || due_ns < wheel_due_ns(&session->timer))
		wheel_arm(&session_tcp(session)->wheel, &session->timer, due_ns);
}

void session_arm_anew(struct session *session)
{
	wheel_disarm(&session->timer);
	session_arm(session);
}

void session_run(struct session *session, enum step step)
{
	session->visit.step = step;
	session->visit.step_ns = session_now_ns(session);
	session_went_on(session, steps[step].enter(session));
}

void session_went_on(struct session *session, enum step_result result)
{
	switch (result) {
	case STEP_DONE:
		session_run(session, session->visit.step + 1);
		break;
	case STEP_AGAIN:
		session_run(session, STEP_CHOOSE);
		break;
	case STEP_WAIT:
		session_arm_anew(session);
		break;
	case STEP_LEFT:
		break;
	}
}

void session_due(struct session *session)
{
	if (session_now_ns(session) >= steps[session->visit.step].deadline(session))
		steps[session->visit.step].overdue(session);
	else
		session_arm(session);
}

void session_begin(struct session *session, struct conn *client, bool reserved)
{
	session->relay.side[SIDE_CLIENT].conn = client;
	session->visit.reserved = reserved;
	session->visit.accepted_ns = session_now_ns(session);
	counter_add(&session->visit.entrance->row->connections, 1);
	flight_accepted(&session->visit);
	session_run(session, STEP_ADMIT);
}

/* --- admit: who comes in at all ------------------------------------------------------------------------------------------ */

enum step_result session_admit(struct session *session)
{
	enum reason why_not;
	if (likely(door_admit(&session->visit.entrance->door, &session->visit.peer, session->visit.accepted_ns, &why_not)))
		return STEP_DONE;
	flight_refused(&session->visit, why_not);
	session_end(session, why_not);
	return STEP_LEFT;
}

/* Of a proxy it is the client that counts, when it has told who that is. */
static enum step_result step_admit(struct session *session)
{
	if (likely(proxied_admit(session)))
		return unlikely(session->visit.proxied) ? STEP_DONE : session_admit(session);
	session_end(session, REASON_PROXY_UNTRUSTED);
	return STEP_LEFT;
}

static enum step_result step_proxy(struct session *session)
{
	return likely(!session->visit.proxied) ? STEP_DONE : proxied_begin(session);
}

/* --- reserve: a place within max_connections ---------------------------------------------------------------------------- */

static enum step_result step_reserve(struct session *session)
{
	enum reason why_not;
	if (session->visit.reserved)
		return STEP_DONE;
	if (!house_reserve(session->visit.entrance, &why_not)) {
		flight_refused(&session->visit, why_not);
		session_end(session, why_not);
		return STEP_LEFT;
	}
	session->visit.reserved = true;
	return STEP_DONE;
}

/* --- for those who know of no kind ------------------------------------------------------------------------------------------ */

static struct session *session_of_visit(const struct visit *visit)
{
	return container_of(visit, struct session, visit);
}

struct tcp_listener *session_listener(const struct session *session)
{
	return container_of(session->visit.entrance, struct tcp_listener, entrance);
}

static void on_end(struct visit *visit, enum reason reason)
{
	session_end(session_of_visit(visit), reason);
}

static void on_server_fell(struct visit *visit)
{
	struct session *session = session_of_visit(visit);
	if (visit->step == STEP_CONNECT || visit->step == STEP_STARTTLS || visit->step == STEP_SECURE)
		step_connect_overdue(session);
	else
		session_end(session, REASON_SERVER_DOWN);
}

static bool is_idle(const struct visit *visit, uint64_t now, uint64_t quiet_ns)
{
	const struct session *session = session_of_visit(visit);
	return visit->step == STEP_RELAY && !session->relay.aborting && !relay_holds(&session->relay) &&
	       !pace_holds_back(session, SIDE_CLIENT) && !pace_holds_back(session, SIDE_SERVER) && now - session->activity_ns >= quiet_ns;
}

static void tell(const struct visit *visit, struct visit_moments *out)
{
	const struct session *session = session_of_visit(visit);
	bool relays = visit->step == STEP_RELAY;
	*out = (struct visit_moments){ .active_ns = relays ? session->activity_ns : visit->step_ns,
		.first_byte_ns = relays ? session->first_byte_ns : 0,
		.server_first = session->relay.server_first };
}

static struct ssl_st *secured(const struct visit *visit, enum roll_side which)
{
	const struct relay_side *side = &session_of_visit(visit)->relay.side[which == ROLL_CLIENT ? SIDE_CLIENT : SIDE_SERVER];
	enum step handshake = which == ROLL_CLIENT ? STEP_HANDSHAKE : STEP_SECURE;
	return side->secured && visit->step > handshake ? side->tls->ssl : NULL;
}

const struct visit_kind session_kind = {
	.end = on_end, .is_idle = is_idle, .tell = tell, .secured = secured, .server_fell = on_server_fell
};

/* --- the table, and the one end ------------------------------------------------------------------------------------------ */

static const struct step_row steps[N_STEPS] = {
	[STEP_ADMIT] = { step_admit, NULL, NULL },
	[STEP_RESERVE] = { step_reserve, NULL, NULL },
	[STEP_PROXY] = { step_proxy, proxied_deadline, proxied_overdue },
	[STEP_CHALLENGE] = { challenge_begin, challenge_deadline, challenge_overdue },
	[STEP_HELLO] = { hello_read, hello_deadline, hello_overdue },
	[STEP_HANDSHAKE] = { secure_client, secure_client_deadline, secure_client_overdue },
	[STEP_CHOOSE] = { step_choose, NULL, NULL },
	[STEP_LINE] = { step_line, step_line_deadline, step_line_overdue },
	[STEP_CONNECT] = { step_connect, step_connect_deadline, step_connect_overdue },
	[STEP_INTRODUCE] = { introduce, NULL, NULL },
	[STEP_STARTTLS] = { hello_greet, step_connect_deadline, step_connect_overdue },
	[STEP_SECURE] = { secure_server, step_connect_deadline, secure_server_overdue },
	[STEP_RELAY] = { step_relay, step_relay_deadline, step_relay_overdue },
};

/* Who is turned away with words, or with an answer, shall read them. */
static bool was_told(const struct session *session)
{
	return (session->visit.caller && session->visit.caller->told) || challenge_is_answered(session);
}

/* Which sides see a RST instead of a FIN: who was turned away or never got a server, the other side of a reset, and whoever is cut off
 * in the middle of what he should have got: that must not look complete. */
static bool aborts(const struct session *session, enum reason reason, enum side side)
{
	if (session->visit.step != STEP_RELAY)
		return session->visit.step == STEP_HANDSHAKE ? reason == REASON_HANDSHAKE_TIMEOUT /* where it failed it was told why */
		                                             : side == SIDE_SERVER || !was_told(session);
	switch (reason) {
	case REASON_CLIENT_RESET:
	case REASON_CLIENT_LOST:
	case REASON_CLIENT_CUT_OFF:
	case REASON_CLIENT_TLS_ERROR:
		return side == SIDE_SERVER;
	case REASON_SERVER_RESET:
	case REASON_SERVER_LOST:
	case REASON_SERVER_CUT_OFF:
	case REASON_SERVER_TLS_ERROR:
		return side == SIDE_CLIENT;
	case REASON_NO_MEMORY:
	case REASON_SERVER_DOWN:
		return true;
	default:
		return relay_owes(&session->relay, side);
	}
}

void session_end(struct session *session, enum reason reason)
{
	struct tcp *tcp = session_tcp(session);
	const struct entrance *entrance = session->visit.entrance;
	if (unlikely(log_enabled(LOG_LEVEL_DEBUG)))
		house_log_end(&session->visit, reason);
	flight_closed(&session->visit, reason);
	bool keep = session->relay.side[SIDE_SERVER].conn && reuse_may_keep(session);
	bool whole = keep && reason == REASON_FINISHED; /* nothing is owed: no need to ask */
	bool abort_server = !whole && aborts(session, reason, SIDE_SERVER), abort_client = !whole && aborts(session, reason, SIDE_CLIENT);
	if (unlikely(session->visit.judged))
		session_judge_at_end(session, reason);
	wheel_disarm(&session->timer);
	relay_stop(&session->relay);
	wait_end(session);
	/* In this order the server never sees more connections than are counted, and a client that sees its end finds it
	 * counted and its place free. */
	if (tcp->house->access.on)
		access_ended(&session->visit, reason);
	keep = keep && reuse_give_back(session);
	secure_end(session, SIDE_SERVER, !abort_server);
	if (session->relay.side[SIDE_SERVER].conn && !keep)
		conn_close_at_once(session->relay.side[SIDE_SERVER].conn, abort_server);
	if (session->visit.server && !keep)
		upstream_give_back(session->visit.upstream, session->visit.server);
	introduction_drop(session);
	challenge_end(session);
	hello_end(session);
	reuse_end(session);
	pace_end(session);
	if (session->visit.reserved)
		house_release(entrance);
	counter_add(&entrance->row->closes[reason], 1);
	histogram_record(&entrance->row->duration, session_now_ns(session) - session->visit.accepted_ns);
	secure_end(session, SIDE_CLIENT, !abort_client);
	conn_close(session->relay.side[SIDE_CLIENT].conn, abort_client);
	tcp_forget(tcp, session);
}
