/* A session that relays: how the relay is begun, what can run out meanwhile, and what the relay tells of bytes and of the end. */
#include "base/clock.h"
#include "house/flight.h"
#include "tcp/introduce.h"
#include "tcp/pace.h"
#include "tcp/reuse.h"
#include "tcp/secure.h"
#include "tcp/steps.h"
#include "tcp/tcp.h"

/* A connection that lives for so long gets the options that a short one does without. */
#define OPTIONS_AFTER_NS NS_PER_S
/* A probe that is connected for so long was a good one, if its server has nothing to say. */
#define PROBE_GOOD_NS NS_PER_S

enum step_result step_relay(struct session *session)
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
	const struct upstream_client client = session_client(session);
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
	session_arm_anew(session); /* the relay may be over before it is started */
	reuse_begin(session);
	if (relay_start(&session->relay, &tcp->engine, session->relay.side[SIDE_CLIENT].conn, session->relay.side[SIDE_SERVER].conn))
		session_end(session, REASON_NO_MEMORY);
	return STEP_LEFT;
}

/* --- what can run out meanwhile ------------------------------------------------------------------------------------------ */

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

uint64_t step_relay_deadline(const struct session *session)
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

void step_relay_overdue(struct session *session)
{
	uint64_t now = session_now_ns(session);
	for (size_t i = 0; i < ARRAY_LEN(relay_deadlines); i++)
		if (now >= relay_deadlines[i].due_ns(session)) {
			session_end(session, relay_deadlines[i].reason);
			return;
		}
	if (now >= probe_deadline(session))
		session_report(session, true);
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

/* --- what the relay tells ------------------------------------------------------------------------------------------------ */

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
	session_report(session, true);
	histogram_record(&session->visit.entrance->row->first_byte, now - session->visit.accepted_ns);
}

static void on_bytes(struct relay *relay, enum side from, size_t count)
{
	struct session *session = session_of(relay);
	struct listener_row *listener = session->visit.entrance->row;
	struct server_row *server = session->visit.server->row;
	uint64_t now = session_now_ns(session);
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
	session->activity_ns = session_now_ns(session);
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
	if (by == SIDE_SERVER && end != RELAY_FINISHED && end != RELAY_NO_MEMORY && !session_may_be_stale(session))
		session_report(session, false);
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
