#include "tcp/secure.h"

#include <errno.h>
#include <sys/socket.h>

#include "house/caller.h"
#include "tcp/tcp.h"

enum { DISCARD_BYTES = 64 * 1024, DISCARDS = 4 };

unsigned secure_streams(const struct config *config)
{
	bool clients = false, servers = false;
	for (size_t i = 0; i < config->n_listeners; i++)
		clients = clients || (config->listeners[i].tls.enabled && config->listeners[i].protocol == PROTOCOL_TCP);
	for (size_t i = 0; i < config->n_upstreams; i++)
		servers = servers || config->upstreams[i].tls.enabled;
	return (unsigned)clients + (unsigned)servers;
}

/* --- both ------------------------------------------------------------------------------------------------------------------- */

/* The side gets its stream, and its connection is heard of by readiness, with either engine. 0 or a negative errno. */
static int begin(struct session *session, enum side which, struct ssl_st *ssl, conn_fn *event)
{
	struct relay_side *side = &session->relay.side[which];
	struct tls_stream *stream = ssl ? slab_take(&session_tcp(session)->streams) : NULL;
	if (!ssl)
		return -ENOMEM;
	ensure(stream); /* there are as many as sides */
	int error = tls_stream_open(stream, &session_tcp(session)->desk, ssl, side->conn->fd);
	if (error) {
		slab_give_back(&session_tcp(session)->streams, stream);
		return error;
	}
	side->secured = true;
	side->tls = stream;
	conn_hand_over(side->conn, event, session);
	if (side->conn->by_completion)
		conn_use_readiness(side->conn);
	return conn_watch(side->conn);
}

void secure_end(struct session *session, enum side which, bool in_good_order)
{
	struct relay_side *side = &session->relay.side[which];
	if (likely(!side->secured))
		return;
	if (in_good_order)
		tls_stream_farewell(side->tls);
	tls_stream_close(side->tls);
	slab_give_back(&session_tcp(session)->streams, side->tls);
	side->secured = false;
	side->tls = NULL;
}

void secure_by_kernel(struct relay *relay, enum side to)
{
	const struct session *session = container_of(relay, struct session, relay);
	if (to == SIDE_CLIENT)
		counter_add(&session->visit.entrance->row->by_kernel, 1);
	else
		counter_add(&session->visit.server->row->by_kernel, 1);
}

/* Go on with the handshake of a side. */
static enum tls_state go_on(struct session *session, enum side which)
{
	struct relay_side *side = &session->relay.side[which];
	enum tls_state state = tls_stream_handshake(side->tls);
	if (side->tls->drained && !side->conn->ended)
		side->conn->readable = false;
	if (state == TLS_WANTS_ROOM && conn_want_room(side->conn))
		return TLS_FAILED;
	return state;
}

static bool is_resumed(const struct relay_side *side)
{
	struct tls_facts facts;
	tls_facts(side->tls->ssl, &facts);
	return facts.resumed;
}

/* --- with the client -------------------------------------------------------------------------------------------------------- */

static void log_failure(const struct session *session, const char *text)
{
	struct tcp_listener *listener = session_listener(session);
	char peer[ADDR_TEXT_SIZE];
	struct addr addr;
	uint64_t held_back;
	if (!log_gate_open(&listener->handshake_gate, loop_now_ns(session_tcp(session)->loop), &held_back))
		return;
	addr_from_sockaddr(
	        &addr, (const struct sockaddr *)&session->visit.peer, session->visit.peer.sin6_family ? sizeof session->visit.peer : 0);
	log_info("listener %s: client %s: no TLS handshake: %s (%llu more not logged)", listener->entrance.config->name,
	        addr_format(&addr, peer, sizeof peer), text, (unsigned long long)held_back);
}

/* What it still sends would make the kernel answer with a RST, which may overtake the alert. */
static void say_why(const struct conn *conn)
{
	(void)shutdown(conn->fd, SHUT_WR);
	for (unsigned i = 0; i < DISCARDS; i++)
		if (recv(conn->fd, NULL, DISCARD_BYTES, MSG_DONTWAIT | MSG_TRUNC) <= 0)
			return;
}

static enum step_result client_failed(struct session *session)
{
	static const enum reason reasons[] = {
		[TLS_FAILURE_NOT_TLS] = REASON_NOT_TLS,
		[TLS_FAILURE_VERSION] = REASON_TLS_MISMATCH,
		[TLS_FAILURE_NO_COMMON] = REASON_TLS_MISMATCH,
		[TLS_FAILURE_CERTIFICATE] = REASON_CLIENT_CERTIFICATE,
		[TLS_FAILURE_ALERT] = REASON_CLIENT_ALERT,
		[TLS_FAILURE_TRUNCATED] = REASON_HANDSHAKE_LEFT,
		[TLS_FAILURE_PROTOCOL] = REASON_CLIENT_TLS_ERROR,
		[TLS_FAILURE_OWN] = REASON_INTERNAL,
	};
	static_assert(ARRAY_LEN(reasons) == N_TLS_FAILURES, "a reason for each");
	const struct relay_side *client = &session->relay.side[SIDE_CLIENT];
	char text[200];
	enum tls_failure failure = tls_stream_failure(client->tls, text, sizeof text);
	if (failure != TLS_FAILURE_TRUNCATED)
		log_failure(session, text);
	say_why(client->conn);
	session_end(session, reasons[failure]);
	return STEP_LEFT;
}

static enum step_result client_went_on(struct session *session)
{
	struct listener_row *row = session->visit.entrance->row;
	switch (go_on(session, SIDE_CLIENT)) {
	case TLS_DONE:
		counter_add(is_resumed(&session->relay.side[SIDE_CLIENT]) ? &row->handshakes_resumed : &row->handshakes, 1);
		return STEP_DONE;
	case TLS_WANTS_INPUT:
	case TLS_WANTS_ROOM:
		return STEP_WAIT;
	default:
		return client_failed(session);
	}
}

static void on_client(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	(void)events;
	if (session->visit.step == STEP_HANDSHAKE) /* what comes later is for the relay */
		session_went_on(session, client_went_on(session));
}

enum step_result secure_client(struct session *session)
{
	struct tls_server *server = session_listener(session)->tls;
	const struct caller *caller = session->visit.caller;
	if (likely(!server) || (caller && caller->passes))
		return STEP_DONE;
	if (begin(session, SIDE_CLIENT, tls_server_session(server), on_client)) {
		session_end(session, REASON_NO_MEMORY);
		return STEP_LEFT;
	}
	const struct conn *client = session->relay.side[SIDE_CLIENT].conn;
	return client->readable || client->ended ? client_went_on(session) : STEP_WAIT;
}

uint64_t secure_client_deadline(const struct session *session)
{
	uint64_t limit_ns = session->visit.entrance->config->tls.timeout_ns;
	return limit_ns ? session->visit.step_ns + limit_ns : WHEEL_NEVER;
}

void secure_client_overdue(struct session *session)
{
	session_end(session, REASON_HANDSHAKE_TIMEOUT);
}

/* --- with the server -------------------------------------------------------------------------------------------------------- */

static enum step_result server_failed(struct session *session)
{
	char text[200];
	switch (tls_stream_failure(session->relay.side[SIDE_SERVER].tls, text, sizeof text)) {
	case TLS_FAILURE_CERTIFICATE:
		return session_connect_failed(session, EKEYREJECTED, text);
	case TLS_FAILURE_OWN:
		return session_connect_failed(session, ENOMEM, text);
	default:
		return session_connect_failed(session, EPROTO, text);
	}
}

static enum step_result server_went_on(struct session *session)
{
	struct server_row *row = session->visit.server->row;
	switch (go_on(session, SIDE_SERVER)) {
	case TLS_DONE:
		counter_add(is_resumed(&session->relay.side[SIDE_SERVER]) ? &row->handshakes_resumed : &row->handshakes, 1);
		return STEP_DONE;
	case TLS_WANTS_INPUT:
	case TLS_WANTS_ROOM:
		return STEP_WAIT;
	default:
		return server_failed(session);
	}
}

static void on_server(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	(void)events;
	if (session->visit.step == STEP_SECURE)
		session_went_on(session, server_went_on(session));
}

/* What the client agreed on goes on to the server. */
static struct ssl_st *server_session(const struct session *session, struct tls_client *client)
{
	const struct relay_side *from = &session->relay.side[SIDE_CLIENT];
	struct tls_facts facts = { .alpn_length = 0 };
	if (from->secured)
		tls_facts(from->tls->ssl, &facts);
	return tls_client_session(client, upstream_index(session->visit.upstream, session->visit.server), facts.alpn, facts.alpn_length);
}

bool secure_send_owed(struct session *session)
{
	struct relay_side *side = &session->relay.side[SIDE_SERVER];
	struct buffers *buffers = &session_tcp(session)->engine.buffers;
	if (likely(!side->held))
		return true;
	const struct buffer_rest *rest = buffers_rest(buffers, side->held);
	size_t count = rest->end - rest->at;
	bool sent = send(side->conn->fd, side->held + rest->at, count, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)count;
	buffers_give_back_list(buffers, &side->held);
	side->owed = 0;
	return sent;
}

enum step_result secure_server(struct session *session)
{
	const struct house *house = session_tcp(session)->house;
	struct tls_client *client = tls_client_of(house->tls, (uint32_t)(session->visit.upstream - house->upstreams));
	if (likely(!client))
		return STEP_DONE;
	if (!secure_send_owed(session))
		return session_connect_failed(session, EPIPE, NULL);
	if (begin(session, SIDE_SERVER, server_session(session, client), on_server))
		return session_connect_failed(session, ENOMEM, NULL);
	return server_went_on(session); /* it begins with what we have to say */
}

void secure_server_overdue(struct session *session)
{
	session_went_on(session, session_connect_failed(session, ETIME, "timeout.connect is over"));
}
