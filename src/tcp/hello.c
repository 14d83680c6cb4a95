#include "tcp/hello.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/text.h"
#include "house/caller.h"
#include "house/flight.h"
#include "policy/routes.h"
#include "proto/client_hello.h"
#include "proto/postgres_request.h"
#include "tcp/secure.h"
#include "tcp/tcp.h"

enum { DISCARD_TURNS = 4 };

static struct conn *client_of(const struct session *session)
{
	return session->relay.side[SIDE_CLIENT].conn;
}

static const struct listener_config *config_of(const struct session *session)
{
	return session->visit.entrance->config;
}

/* --- being refused ------------------------------------------------------------------------------------------------------------ */

/* What is unread when a socket is closed makes a RST of it, which may destroy the alert on its way. */
static void discard(struct session *session)
{
	struct tcp *tcp = session_tcp(session);
	for (int turn = 0; turn < DISCARD_TURNS; turn++)
		if (recv(client_of(session)->fd, tcp->hello_bytes, tcp->hello_size, MSG_DONTWAIT) <= 0)
			return;
}

static void log_refusal(const struct session *session, const char *why)
{
	struct tcp_listener *listener = session_listener(session);
	char peer[ADDR_TEXT_SIZE];
	struct addr addr;
	uint64_t held_back;
	if (!log_gate_open(&listener->hello_gate, loop_now_ns(session_tcp(session)->loop), &held_back))
		return;
	addr_from_sockaddr(
	        &addr, (const struct sockaddr *)&session->visit.peer, session->visit.peer.sin6_family ? sizeof session->visit.peer : 0);
	log_info("listener %s: client %s refused: %s (%llu more not logged)", config_of(session)->name,
	        addr_format(&addr, peer, sizeof peer), why, (unsigned long long)held_back);
}

static enum step_result leave(struct session *session, enum reason reason)
{
	discard(session);
	session->visit.caller->told = true;
	session_end(session, reason);
	return STEP_LEFT;
}

static enum step_result refuse(struct session *session, enum reason reason, enum tls_alert alert, const char *why)
{
	uint8_t record[TLS_ALERT_RECORD_BYTES];
	log_refusal(session, why);
	discard(session);
	tls_alert_record(record, alert);
	if (alert != TLS_ALERT_NONE)
		(void)send(client_of(session)->fd, record, sizeof record, MSG_NOSIGNAL | MSG_DONTWAIT);
	return leave(session, reason);
}

uint64_t hello_deadline(const struct session *session)
{
	return session->visit.accepted_ns + config_of(session)->client_hello.timeout_ns;
}

void hello_overdue(struct session *session)
{
	enum step_result result =
	        refuse(session, REASON_HELLO_TIMEOUT, TLS_ALERT_NONE, "no complete ClientHello within client_hello.timeout");
	(void)result;
}

/* --- the route ---------------------------------------------------------------------------------------------------------------- */

static const uint8_t *nth_protocol(const void *from, size_t n, size_t *length)
{
	return client_hello_protocol(from, n, length);
}

static void keep_name(struct caller *caller, const struct client_hello *hello)
{
	size_t length = hello->name_length < sizeof caller->name ? hello->name_length : sizeof caller->name - 1;
	memcpy(caller->name, hello->name, length);
	caller->name[length] = '\0';
	caller->ech = hello->ech;
	if (hello->name_length)
		caller->name_hash = hash_xxh64(hello->name, hello->name_length, 0);
}

/* Who asks for it is to meet a certificate that only the ACME client has (RFC 8737). */
static const char acme_protocol[] = "acme-tls/1";

static enum step_result route(struct session *session, const struct client_hello *hello)
{
	const struct route_client client = {
		.name = hello->name, .name_length = hello->name_length, .protocol = nth_protocol, .from = hello
	};
	const struct route_config *found = routes_find(session_listener(session)->routes, &client);
	char why[64 + CALLER_NAME_SIZE];
	keep_name(session->visit.caller, hello);
	if (found)
		session->visit.upstream = &session_tcp(session)->house->upstreams[found->upstream];
	session->visit.caller->passes = found && strcmp(found->alpn, acme_protocol) == 0;
	flight_routed(&session->visit, found != NULL);
	if (session->visit.upstream)
		return STEP_DONE;
	(void)snprintf(why, sizeof why, "no route for %s%s%s", hello->name_length ? "\"" : "a client that asks for no name",
	        session->visit.caller->name, hello->name_length ? "\"" : "");
	return refuse(session, REASON_NO_ROUTE, TLS_ALERT_UNRECOGNIZED_NAME, why);
}

/* --- what the client sent ----------------------------------------------------------------------------------------------------- */

/* Not the same once more: where a small receive buffer keeps the kernel from waiting for so many, it tells at once of what was looked at
 * already, again and again. */
static void set_low_water(struct session *session, uint32_t bytes)
{
	struct caller *caller = session->visit.caller;
	int value = (int)bytes;
	if (bytes == caller->low_water)
		return;
	caller->low_water = bytes & 0xfffff; /* there are never more */
	(void)setsockopt(client_of(session)->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
}

static enum step_result look(struct session *session, const char *bytes, size_t count)
{
	struct client_hello hello;
	client_hello_init(&hello, (uint32_t)config_of(session)->client_hello.most_bytes);
	enum client_hello_verdict verdict = client_hello_feed(&hello, bytes, count);
	if (verdict == CLIENT_HELLO_MORE) {
		set_low_water(session, (uint32_t)count + client_hello_missing(&hello));
		return STEP_WAIT;
	}
	set_low_water(session, 1);
	if (verdict == CLIENT_HELLO_DONE)
		return route(session, &hello);
	return refuse(session,
	        verdict == CLIENT_HELLO_NOT_TLS     ? REASON_NOT_TLS
	        : verdict == CLIENT_HELLO_TOO_LARGE ? REASON_HELLO_TOO_LARGE
	                                            : REASON_BAD_HELLO,
	        hello.alert, hello.fault);
}

/* PostgreSQL's requests are not for the server: it is sent its own. STEP_DONE: look again. */
static enum step_result answer(struct session *session, enum postgres_request request, size_t count)
{
	struct caller *caller = session->visit.caller;
	bool ssl = request == POSTGRES_SSL_REQUEST;
	char bytes[POSTGRES_REQUEST_BYTES];
	char granted = ssl ? POSTGRES_GRANTED : POSTGRES_DECLINED;
	if (request == POSTGRES_STARTUP)
		(void)send(client_of(session)->fd, postgres_needs_tls, postgres_needs_tls_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (request == POSTGRES_NO_REQUEST || request == POSTGRES_STARTUP)
		return refuse(session, REASON_NOT_TLS, TLS_ALERT_NONE, "neither TLS nor PostgreSQL's request for it");
	if (ssl ? caller->starttls : caller->gss_declined)
		return refuse(session, REASON_NOT_TLS, TLS_ALERT_NONE, "PostgreSQL's request for encryption, twice");
	if (count > sizeof bytes) /* what was not encrypted must not count as if it were: CVE-2021-23214 */
		return refuse(session, REASON_NOT_TLS, TLS_ALERT_NONE, "bytes behind PostgreSQL's request for encryption");
	if (recv(client_of(session)->fd, bytes, sizeof bytes, MSG_DONTWAIT) != sizeof bytes ||
	        send(client_of(session)->fd, &granted, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return leave(session, REASON_CLIENT_RESET);
	if (ssl)
		caller->starttls = true;
	else
		caller->gss_declined = true;
	return STEP_DONE;
}

/* Until TLS begins, which is with a byte that none of PostgreSQL's requests begins with. */
static bool may_be_postgres(const struct session *session, const char *bytes)
{
	return config_of(session)->client_hello.starttls == STARTTLS_POSTGRES && !session->visit.caller->starttls && bytes[0] == 0;
}

static enum step_result read_on(struct session *session)
{
	char *bytes = session_tcp(session)->hello_bytes;
	for (;;) {
		ssize_t count =
		        recv(client_of(session)->fd, bytes, config_of(session)->client_hello.most_bytes + 1, MSG_PEEK | MSG_DONTWAIT);
		if (count == 0)
			return leave(session, REASON_CLIENT_LEFT);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return errno == EAGAIN ? STEP_WAIT : leave(session, REASON_CLIENT_RESET);
		if (!may_be_postgres(session, bytes))
			return look(session, bytes, (size_t)count);
		enum postgres_request request = postgres_request(bytes, (size_t)count);
		if (request == POSTGRES_MAYBE)
			return STEP_WAIT;
		enum step_result result = answer(session, request, (size_t)count);
		if (result != STEP_DONE)
			return result;
	}
}

/* Why nothing more will come; N_REASONS = it may. */
static enum reason end_of(const struct conn *conn)
{
	int error = 0;
	socklen_t length = sizeof error;
	if (conn->by_completion || !conn->ended)
		return N_REASONS;
	(void)getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error ? REASON_CLIENT_RESET : REASON_CLIENT_LEFT;
}

static enum step_result hear(struct session *session)
{
	enum step_result result = read_on(session);
	enum reason why = result == STEP_WAIT ? end_of(client_of(session)) : N_REASONS;
	return why == N_REASONS ? result : leave(session, why);
}

static void on_client(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	if (session->visit.step != STEP_HELLO || !(events & CONN_READ))
		return; /* what comes now is for later */
	enum step_result result = hear(session);
	if (result != STEP_WAIT) /* the deadline stays */
		session_went_on(session, result);
}

/* --- beginning and end -------------------------------------------------------------------------------------------------------- */

/* By readiness, with either engine: what is received by completion is out of the kernel. */
static int watch(struct session *session)
{
	struct conn *client = client_of(session);
	conn_hand_over(client, on_client, session);
	if (client->by_completion)
		conn_use_readiness(client);
	return conn_watch(client);
}

enum step_result hello_read(struct session *session)
{
	if (likely(!hello_is_wanted(config_of(session))))
		return STEP_DONE;
	struct caller *caller = slab_take(&session_tcp(session)->callers);
	ensure(caller); /* there are as many as sessions */
	*caller = (struct caller){ .low_water = 1 };
	session->visit.caller = caller;
	enum step_result result = hear(session);
	if (result != STEP_WAIT || !watch(session))
		return result;
	session_end(session, REASON_NO_MEMORY);
	return STEP_LEFT;
}

void hello_end(struct session *session)
{
	if (likely(!session->visit.caller))
		return;
	slab_give_back(&session_tcp(session)->callers, session->visit.caller);
	session->visit.caller = NULL;
}

/* --- the server of a client that asked for TLS in the protocol of PostgreSQL ------------------------------------------------------- */

/* EAGAIN: none yet. */
static int judge(ssize_t count, char byte)
{
	if (count < 0)
		return errno == EINTR ? EAGAIN : errno;
	return count == 0 ? ECONNRESET : byte == POSTGRES_GRANTED ? 0 : ENOPROTOOPT;
}

/* By completion it lies in the first buffer, and is all that the server may have said. */
static int received_answer(struct conn *conn)
{
	uint32_t length;
	if (conn->input == CONN_NO_BUFFER)
		return conn->input_end == CONN_OPEN ? EAGAIN : conn->input_end == CONN_EOF ? ECONNRESET : -conn->input_end;
	const char *bytes = conn_input_bytes(conn, conn->input, &length);
	int error = length == 1 ? judge(1, bytes[0]) : ENOPROTOOPT;
	conn_drop_first_input(conn);
	return error;
}

static int read_answer(struct conn *conn)
{
	char byte = 0;
	if (conn->by_completion)
		return received_answer(conn);
	ssize_t count = recv(conn->fd, &byte, 1, MSG_DONTWAIT);
	return judge(count, byte);
}

static void on_server(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	if (session->visit.step != STEP_STARTTLS || !(events & (CONN_READ | CONN_END | CONN_STARVED)))
		return;
	bool speaks_first = conn->by_completion && conn->input != CONN_NO_BUFFER; /* it did so before it was asked */
	int error = (events & CONN_STARVED) && !speaks_first ? -conn_watch_instead(conn) : 0;
	if (!error)
		error = read_answer(conn);
	if (error != EAGAIN)
		session_went_on(session, error ? session_connect_failed(session, error, NULL) : STEP_DONE);
}

static int send_request(struct session *session, struct conn *server)
{
	if (server->options_due)
		conn_set_options(server, &session->visit.upstream->config->tcp);
	if (!secure_send_owed(session))
		return EPIPE;
	ssize_t sent = send(server->fd, postgres_ssl_request, sizeof postgres_ssl_request, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < (ssize_t)sizeof postgres_ssl_request)
		return sent < 0 ? errno : ENOBUFS;
	if (server->by_completion && !conn_busy(server) && server->input == CONN_NO_BUFFER)
		return -conn_watch_instead(server);
	if (!server->by_completion)
		return -conn_watch(server);
	conn_receive(server); /* it was ready, and is heard by completion already */
	return 0;
}

/* Where the client's TLS ends here, the server is asked only when Aegis speaks TLS to it. */
static bool must_ask(const struct session *session)
{
	const struct caller *caller = session->visit.caller;
	return caller && caller->starttls && (!session_listener(session)->tls || session->visit.upstream->config->tls.enabled);
}

enum step_result hello_greet(struct session *session)
{
	struct conn *server = session->relay.side[SIDE_SERVER].conn;
	if (likely(!must_ask(session)))
		return STEP_DONE;
	conn_hand_over(server, on_server, session);
	int error = send_request(session, server);
	return error ? session_connect_failed(session, error, NULL) : STEP_WAIT;
}
