#include "tcp/session.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
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

/* A connection that lives for so long gets the options that a short one does without. */
#define OPTIONS_AFTER_NS NS_PER_S
/* A probe that is connected for so long was a good one, if its server has nothing to say. */
#define PROBE_GOOD_NS NS_PER_S

struct step_row {
	enum step_result (*enter)(struct session *session);
	uint64_t (*deadline)(const struct session *session); /* NULL: the step never waits */
	void (*overdue)(struct session *session);
};

static const struct step_row steps[N_STEPS];

static uint64_t now_ns(const struct session *session)
{
	return loop_now_ns(session_tcp(session)->loop);
}

/* Fire at the deadline of the step; lazily: an armed timer that is early enough stays as it is. */
void session_arm(struct session *session)
{
	uint64_t due_ns = steps[session->visit.step].deadline(session);
	if (!wheel_armed(&session->timer) || due_ns < wheel_due_ns(&session->timer))
		wheel_arm(&session_tcp(session)->wheel, &session->timer, due_ns);
}

static void arm_anew(struct session *session)
{
	wheel_disarm(&session->timer);
	session_arm(session);
}

void session_run(struct session *session, enum step step)
{
	session->visit.step = step;
	session->visit.step_ns = now_ns(session);
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
		arm_anew(session);
		break;
	case STEP_LEFT:
		break;
	}
}

void session_due(struct session *session)
{
	if (now_ns(session) >= steps[session->visit.step].deadline(session))
		steps[session->visit.step].overdue(session);
	else
		session_arm(session);
}

void session_begin(struct session *session, struct conn *client, bool reserved)
{
	session->relay.side[SIDE_CLIENT].conn = client;
	session->visit.reserved = reserved;
	session->visit.accepted_ns = now_ns(session);
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

/* --- how the server did: known with its first byte, or when the connection is over -------------------------------------------- */

static void report(struct session *session, bool ok)
{
	if (session->visit.judged)
		upstream_report(session->visit.upstream, session->visit.server, &session->pass, ok, now_ns(session));
	session->visit.judged = false;
}

static void abandon(struct session *session)
{
	if (session->visit.judged)
		upstream_abandon(session->visit.upstream, session->visit.server, &session->pass);
	session->visit.judged = false;
}

/* The connection is out of the pool and may be stale: it says nothing about the server. */
static bool may_be_stale(const struct session *session)
{
	return session->reuse && session->reuse->unproven;
}

/* The session ends, and the server has said nothing. It was well if it took the connection; but that says little where it was asked and did
 * not answer, or its health speaks against it. */
static void judge_at_end(struct session *session, enum reason reason)
{
	if (session->visit.step != STEP_RELAY || may_be_stale(session) || reason == REASON_READ_TIMEOUT || reason == REASON_SERVER_DOWN)
		abandon(session);
	else
		report(session, true);
}

/* --- choose: a server ---------------------------------------------------------------------------------------------------- */

static struct upstream_client client_of(const struct session *session)
{
	return (struct upstream_client){
		.peer = &session->visit.peer,
		.tried = session->tried,
		.n_tried = session->visit.n_tried,
		.now_ns = now_ns(session),
		.fresh = session->reuse != NULL, /* one out of the pool was stale */
		.name_hash = session->visit.caller ? session->visit.caller->name_hash : 0,
	};
}

enum upstream_choice session_take(struct session *session)
{
	const struct upstream_client client = client_of(session);
	struct upstream_hold hold;
	enum upstream_choice choice = upstream_take(session->visit.upstream, &client, &hold);
	if (choice != UPSTREAM_TAKEN)
		return choice;
	wait_end(session);
	session->visit.server = hold.server;
	session->pass = hold.pass;
	session->visit.judged = upstream_judges(session->visit.upstream);
	flight_chosen(&session->visit);
	if (hold.hot.conn)
		reuse_took(session, &hold.hot);
	return choice;
}

enum record_want session_want(enum upstream_choice choice)
{
	return choice == UPSTREAM_FULL ? WANT_PLACE : choice == UPSTREAM_LATER ? WANT_RATE : WANT_SERVER;
}

static enum step_result step_choose(struct session *session)
{
	const struct upstream *upstream = session->visit.upstream;
	bool others_wait = upstream->has_line && line_is_busy(&upstream->line);
	enum upstream_choice choice = others_wait ? UPSTREAM_LATER : session_take(session);
	enum reason why_not;
	if (choice != UPSTREAM_TAKEN)
		flight_not_chosen(&session->visit, others_wait ? WANT_TURN : session_want(choice));
	if (choice == UPSTREAM_TAKEN || wait_is_worth_while(session, choice, &why_not))
		return STEP_DONE;
	session_end(session, why_not);
	return STEP_LEFT;
}

static enum step_result step_line(struct session *session)
{
	if (session->visit.server)
		return STEP_DONE; /* it came without waiting */
	return wait_begin(session) ? STEP_WAIT : STEP_LEFT;
}

static uint64_t line_deadline(const struct session *session)
{
	return session->visit.step_ns + session->visit.upstream->config->queue.timeout_ns;
}

static void line_overdue(struct session *session)
{
	session_end(session, REASON_QUEUE_TIMEOUT);
}

/* --- connect: dial it, and on failure another one ------------------------------------------------------------------------ */

static void connect_was_bad(struct session *session)
{
	const struct upstream_client client = client_of(session);
	upstream_forget(session->visit.upstream, session->visit.server, &client);
	report(session, false);
}

enum step_result session_connect_failed(struct session *session, int error, const char *text)
{
	struct upstream *upstream = session->visit.upstream;
	struct server *server = session->visit.server;
	enum reason reason = reason_of_connect(error);
	bool ours = reason == REASON_NO_DESCRIPTORS || reason == REASON_NO_MEMORY; /* another server would not help */
	bool its_own = !ours && reason != REASON_NO_PORTS && !reason_is_of_source(error) && server_addr(server);
	bool last = ours || session->visit.n_tried >= upstream->config->retries;
	secure_end(session, SIDE_SERVER, false);
	if (session->relay.side[SIDE_SERVER].conn)
		conn_close_at_once(session->relay.side[SIDE_SERVER].conn, false);
	session->relay.side[SIDE_SERVER].conn = NULL;
	house_log_connect_failure(&session->visit, error, text, last);
	flight_connect_failed(&session->visit, server_addr(server), error, last);
	if (!ours)
		counter_add(&server->row->failures, 1);
	server_addr_failed(server);
	if (its_own)
		connect_was_bad(session);
	else
		abandon(session);
	if (last) {
		session_end(session, reason);
		return STEP_LEFT;
	}
	session->tried[session->visit.n_tried++] = upstream_index(upstream, server);
	session->visit.server = NULL;
	upstream_give_back(upstream, server);
	counter_add(&session->visit.entrance->row->retries, 1);
	return STEP_AGAIN;
}

static void on_connect(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	if (!(events & CONN_WRITE))
		return;
	int error = conn_dial_result(conn);
	session_went_on(session, error ? session_connect_failed(session, -error, NULL) : STEP_DONE);
}

static int dial(struct session *session, const struct addr *addr)
{
	const struct upstream_config *config = session->visit.upstream->config;
	struct dial_source room;
	return conn_dial(&session_tcp(session)->house->conns, addr, dial_source(config, &session->visit.peer, &room), &config->tcp,
	        on_connect, session, &session->relay.side[SIDE_SERVER].conn);
}

static enum step_result step_connect(struct session *session)
{
	const struct addr *addr = server_addr(session->visit.server);
	if (session->relay.side[SIDE_SERVER].conn)
		return STEP_DONE; /* it came out of the pool */
	int error = addr ? dial(session, addr) : -EHOSTUNREACH;
	if (unlikely(error == -EMFILE || error == -ENFILE) && tcp_make_room(session_tcp(session)))
		error = dial(session, addr);
	if (error == 0)
		return STEP_DONE;
	return error == -EINPROGRESS ? STEP_WAIT : session_connect_failed(session, -error, NULL);
}

void session_connect(struct session *session)
{
	session_run(session, STEP_CONNECT);
}

void session_reconnect(struct session *session)
{
	struct server *server = session->visit.server;
	if (upstream_may_dial(session->visit.upstream, now_ns(session))) {
		session->waiter.ticket = 0;
		session_run(session, STEP_CONNECT);
		return;
	}
	abandon(session);
	session->visit.server = NULL;
	upstream_give_back(session->visit.upstream, server);
	session_run(session, STEP_CHOOSE);
}

static uint64_t connect_deadline(const struct session *session)
{
	uint64_t limit_ns = session->visit.upstream->config->timeout.connect_ns;
	return limit_ns ? session->visit.step_ns + limit_ns : WHEEL_NEVER;
}

static void connect_overdue(struct session *session)
{
	session_went_on(session, session_connect_failed(session, ETIMEDOUT, NULL));
}

/* --- relay: move bytes until it is over ---------------------------------------------------------------------------------- */

static enum step_result step_relay(struct session *session)
{
	struct tcp *tcp = session_tcp(session);
	const struct listener_config *listener = session->visit.entrance->config;
	bool hot = session->reuse && session->reuse->unproven, again = session->reuse && session->reuse->retried;
	introduction_drop(session);
	flight_connected(&session->visit);
	if (!again)
		histogram_record(&session->visit.entrance->row->connect, session->visit.step_ns - session->visit.accepted_ns);
	if (!hot)
		counter_add(&session->visit.server->row->connections, 1);
	const struct upstream_client client = client_of(session);
	upstream_remember(session->visit.upstream, session->visit.server, &client);
	session->relay.side[SIDE_CLIENT].quickack = listener->tcp.quickack;
	session->relay.side[SIDE_SERVER].quickack = session->visit.upstream->config->tcp.quickack;
	session->visit.waited = session->visit.waited || session->waiter.ticket;
	session->visit.n_tried = 0;
	session->activity_ns = session->visit.step_ns;
	session->asked_ns = 0;
	session->first_byte_ns = 0;
	session->tick_ns = WHEEL_NEVER;
	pace_begin(session);
	arm_anew(session); /* the relay may be over before it is started */
	if (reuse_begin(session) ||
	        relay_start(&session->relay, &tcp->engine, session->relay.side[SIDE_CLIENT].conn, session->relay.side[SIDE_SERVER].conn))
		session_end(session, REASON_NO_MEMORY);
	return STEP_LEFT;
}

static void on_options_due(struct relay *relay)
{
	struct session *session = container_of(relay, struct session, relay);
	conn_set_options(session->relay.side[SIDE_SERVER].conn, &session->visit.upstream->config->tcp);
}

static uint64_t options_deadline(const struct session *session)
{
	return session->relay.side[SIDE_SERVER].conn->options_due ? session->visit.step_ns + OPTIONS_AFTER_NS : WHEEL_NEVER;
}

/* A probe of the breaker must be answered in time, also by a server that does not speak before the client does. */
static uint64_t probe_deadline(const struct session *session)
{
	uint64_t half_ns = session->visit.upstream->config->circuit_breaker.timeout_ns / 2;
	if (!session->visit.judged || session->pass.verdict != BREAKER_PROBE)
		return WHEEL_NEVER;
	return session->visit.step_ns + (half_ns < PROBE_GOOD_NS ? half_ns : PROBE_GOOD_NS);
}

static uint64_t earlier(uint64_t due_ns, uint64_t from_ns, uint64_t limit_ns)
{
	return limit_ns && from_ns + limit_ns < due_ns ? from_ns + limit_ns : due_ns;
}

static uint64_t first_byte_deadline(const struct session *session)
{
	uint64_t from_ns = session->visit.waited ? session->visit.step_ns : session->visit.accepted_ns; /* not for what it waited */
	return session->visit.client_spoke ? WHEEL_NEVER
	                                   : earlier(WHEEL_NEVER, from_ns, session->visit.entrance->config->timeout.first_byte_ns);
}

static uint64_t read_deadline(const struct session *session)
{
	if (!session->asked_ns || pace_holds_back(session, SIDE_SERVER))
		return WHEEL_NEVER;
	return earlier(WHEEL_NEVER, session->asked_ns, session->visit.upstream->config->timeout.read_ns);
}

static uint64_t idle_deadline(const struct session *session)
{
	if (pace_holds_back(session, SIDE_CLIENT) || pace_holds_back(session, SIDE_SERVER))
		return WHEEL_NEVER;
	return earlier(WHEEL_NEVER, session->activity_ns, session->visit.entrance->config->timeout.idle_ns);
}

static uint64_t lifetime_deadline(const struct session *session)
{
	return earlier(WHEEL_NEVER, session->visit.accepted_ns, session->visit.entrance->config->timeout.lifetime_ns);
}

/* What can run out while relaying. */
static const struct relay_deadline {
	uint64_t (*due_ns)(const struct session *session);
	enum reason reason;
} relay_deadlines[] = {
	{ first_byte_deadline, REASON_FIRST_BYTE_TIMEOUT },
	{ read_deadline, REASON_READ_TIMEOUT },
	{ idle_deadline, REASON_IDLE_TIMEOUT },
	{ lifetime_deadline, REASON_LIFETIME },
};

static uint64_t relay_deadline(const struct session *session)
{
	uint64_t due_ns = session->tick_ns, options_ns = options_deadline(session), probe_ns = probe_deadline(session);
	uint64_t access_ns = access_due_ns(&session->visit);
	if (options_ns < due_ns)
		due_ns = options_ns;
	if (probe_ns < due_ns)
		due_ns = probe_ns;
	if (access_ns < due_ns)
		due_ns = access_ns;
	if (unlikely(session->pace) && pace_due_ns(session) < due_ns)
		due_ns = pace_due_ns(session);
	for (size_t i = 0; i < ARRAY_LEN(relay_deadlines); i++) {
		uint64_t this_ns = relay_deadlines[i].due_ns(session);
		if (this_ns < due_ns)
			due_ns = this_ns;
	}
	return due_ns;
}

static void relay_overdue(struct session *session)
{
	uint64_t now = now_ns(session);
	for (size_t i = 0; i < ARRAY_LEN(relay_deadlines); i++)
		if (now >= relay_deadlines[i].due_ns(session)) {
			session_end(session, relay_deadlines[i].reason);
			return;
		}
	if (now >= probe_deadline(session))
		report(session, true);
	if (unlikely(session->pace) && pace_is_too_slow(session)) {
		session_end(session, REASON_TOO_SLOW);
		return;
	}
	if (now >= options_deadline(session))
		on_options_due(&session->relay);
	if (unlikely(now >= access_due_ns(&session->visit)))
		access_lasts(&session->visit);
	bool tick = now >= session->tick_ns;
	bool resume = !tick && session->pace && pace_resumes(session); /* one after the other: either may end the session */
	if (tick)
		session->tick_ns = WHEEL_NEVER;
	session_arm(session);
	if (tick)
		relay_tick(&session->relay, now);
	else if (resume)
		relay_resume(&session->relay);
}

static struct session *session_of(struct relay *relay)
{
	return container_of(relay, struct session, relay);
}

static void client_spoke(struct session *session, uint64_t now)
{
	session->visit.client_spoke = true;
	if (session->asked_ns || !session->visit.upstream->config->timeout.read_ns)
		return;
	session->asked_ns = now;
	session_arm(session);
}

static void server_spoke(struct session *session, uint64_t now)
{
	session->asked_ns = 0;
	if (session->visit.server_spoke)
		return;
	session->visit.server_spoke = true;
	session->first_byte_ns = now;
	flight_first_byte(&session->visit);
	report(session, true);
	histogram_record(&session->visit.entrance->row->first_byte, now - session->visit.accepted_ns);
}

static void on_bytes(struct relay *relay, enum side from, size_t count)
{
	struct session *session = session_of(relay);
	struct listener_row *listener = session->visit.entrance->row;
	struct server_row *server = session->visit.server->row;
	uint64_t now = now_ns(session);
	session->activity_ns = now;
	session->visit.bytes[from] += count;
	counter_add(from == SIDE_CLIENT ? &listener->received_bytes : &listener->sent_bytes, count);
	counter_add(from == SIDE_CLIENT ? &server->sent_bytes : &server->received_bytes, count);
	if (from == SIDE_CLIENT)
		client_spoke(session, now);
	else
		server_spoke(session, now);
	if (unlikely(session->pace) && !relay->side[from].secured)
		pace_bytes(session, from, count);
}

/* Records count when they come, or one of 16 kB would be too fast at a time, and its sender too slow, or idle, until then. */
static void on_came(struct relay *relay, enum side from, size_t count)
{
	struct session *session = session_of(relay);
	session->activity_ns = now_ns(session);
	if (unlikely(session->pace))
		pace_bytes(session, from, count);
}

void session_tick_at(struct session *session, uint64_t due_ns)
{
	session->tick_ns = due_ns;
	session_arm(session);
}

static void on_tick_at(struct relay *relay, uint64_t due_ns)
{
	session_tick_at(session_of(relay), due_ns);
}

static void on_done(struct relay *relay, enum relay_end end, enum side by)
{
	static const enum reason reasons[][2] = {
		[RELAY_FINISHED] = { REASON_FINISHED, REASON_FINISHED },
		[RELAY_RESET] = { REASON_CLIENT_RESET, REASON_SERVER_RESET },
		[RELAY_LOST] = { REASON_CLIENT_LOST, REASON_SERVER_LOST },
		[RELAY_CUT_OFF] = { REASON_CLIENT_CUT_OFF, REASON_SERVER_CUT_OFF },
		[RELAY_BROKEN] = { REASON_CLIENT_TLS_ERROR, REASON_SERVER_TLS_ERROR },
		[RELAY_NO_MEMORY] = { REASON_NO_MEMORY, REASON_NO_MEMORY },
	};
	struct session *session = session_of(relay);
	if (reuse_goes_on(session, end, by))
		return;
	if (by == SIDE_SERVER && end != RELAY_FINISHED && end != RELAY_NO_MEMORY && !may_be_stale(session))
		report(session, false);
	session_end(session, reasons[end][by]);
}

const struct relay_session_ops session_relay_ops = {
	.bytes = on_bytes,
	.came = on_came,
	.look = reuse_look,
	.ending = reuse_ending,
	.allow = pace_allow,
	.options_due = on_options_due,
	.by_kernel = secure_by_kernel,
	.done = on_done,
	.tick_at = on_tick_at,
};

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
		connect_overdue(session);
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
	[STEP_LINE] = { step_line, line_deadline, line_overdue },
	[STEP_CONNECT] = { step_connect, connect_deadline, connect_overdue },
	[STEP_INTRODUCE] = { introduce, NULL, NULL },
	[STEP_STARTTLS] = { hello_greet, connect_deadline, connect_overdue },
	[STEP_SECURE] = { secure_server, connect_deadline, secure_server_overdue },
	[STEP_RELAY] = { step_relay, relay_deadline, relay_overdue },
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
		judge_at_end(session, reason);
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
	histogram_record(&entrance->row->duration, now_ns(session) - session->visit.accepted_ns);
	secure_end(session, SIDE_CLIENT, !abort_client);
	conn_close(session->relay.side[SIDE_CLIENT].conn, abort_client);
	tcp_forget(tcp, session);
}
