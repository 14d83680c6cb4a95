/* The server of a session: it is chosen, perhaps waited for, and connected to; and it is told of how that went. */
#include <errno.h>

#include "house/caller.h"
#include "house/flight.h"
#include "tcp/reuse.h"
#include "tcp/secure.h"
#include "tcp/steps.h"
#include "tcp/tcp.h"
#include "tcp/wait.h"

/* --- how the server did: known with its first byte, or when the connection is over -------------------------------------------- */

void session_report(struct session *session, bool ok)
{
	if (session->visit.judged)
		upstream_report(session->visit.upstream, session->visit.server, &session->pass, ok, session_now_ns(session));
	session->visit.judged = false;
}

static void abandon(struct session *session)
{
	if (session->visit.judged)
		upstream_abandon(session->visit.upstream, session->visit.server, &session->pass);
	session->visit.judged = false;
}

bool session_may_be_stale(const struct session *session)
{
	return session->reuse && session->reuse->unproven;
}

/* The session ends, and the server has said nothing. It was well if it took the connection; but that says little where it was asked and did
 * not answer, or its health speaks against it. */
void session_judge_at_end(struct session *session, enum reason reason)
{
	if (session->visit.step != STEP_RELAY || session_may_be_stale(session) || reason == REASON_READ_TIMEOUT ||
	        reason == REASON_SERVER_DOWN)
		abandon(session);
	else
		session_report(session, true);
}

/* --- choose: a server ---------------------------------------------------------------------------------------------------- */

struct upstream_client session_client(const struct session *session)
{
	return (struct upstream_client){
		.peer = &session->visit.peer,
		.tried = session->tried,
		.n_tried = session->visit.n_tried,
		.now_ns = session_now_ns(session),
		.fresh = session->reuse != NULL, /* one out of the pool was stale */
		.name_hash = session->visit.caller ? session->visit.caller->name_hash : 0,
	};
}

enum upstream_choice session_take(struct session *session)
{
	const struct upstream_client client = session_client(session);
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

enum step_result step_choose(struct session *session)
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

enum step_result step_line(struct session *session)
{
	if (session->visit.server)
		return STEP_DONE; /* it came without waiting */
	return wait_begin(session) ? STEP_WAIT : STEP_LEFT;
}

uint64_t step_line_deadline(const struct session *session)
{
	return session->visit.step_ns + session->visit.upstream->config->queue.timeout_ns;
}

void step_line_overdue(struct session *session)
{
	session_end(session, REASON_QUEUE_TIMEOUT);
}

/* --- connect: dial it, and on failure another one ------------------------------------------------------------------------ */

static void connect_was_bad(struct session *session)
{
	const struct upstream_client client = session_client(session);
	upstream_forget(session->visit.upstream, session->visit.server, &client);
	session_report(session, false);
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

enum step_result step_connect(struct session *session)
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
	if (upstream_may_dial(session->visit.upstream, session_now_ns(session))) {
		session->waiter.ticket = 0;
		session_run(session, STEP_CONNECT);
		return;
	}
	abandon(session);
	session->visit.server = NULL;
	upstream_give_back(session->visit.upstream, server);
	session_run(session, STEP_CHOOSE);
}

uint64_t step_connect_deadline(const struct session *session)
{
	uint64_t limit_ns = session->visit.upstream->config->timeout.connect_ns;
	return limit_ns ? session->visit.step_ns + limit_ns : WHEEL_NEVER;
}

void step_connect_overdue(struct session *session)
{
	session_went_on(session, session_connect_failed(session, ETIMEDOUT, NULL));
}
