#include "tcp/proxied.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "house/flight.h"
#include "proto/proxy_read.h"
#include "tcp/introduce.h"
#include "tcp/tcp.h"

static struct conn *client_of(const struct session *session)
{
	return session->relay.side[SIDE_CLIENT].conn;
}

static const struct listener_config *config_of(const struct session *session)
{
	return session->visit.entrance->config;
}

/* --- who is believed ---------------------------------------------------------------------------------------------------------- */

int proxied_peers(const struct listener_config *config, struct access **out)
{
	*out = NULL;
	if (!config->accept_proxy.enabled || config->accept_proxy.n_from == 0)
		return 0;
	return access_new(config->accept_proxy.from, (uint32_t)config->accept_proxy.n_from, NULL, 0, out);
}

static void log_refusal(const struct session *session, const char *why)
{
	struct log_gate *gate = &session_listener(session)->proxy_gate;
	char text[ADDR_TEXT_SIZE];
	struct addr peer;
	uint64_t held_back;
	if (!log_gate_open(gate, loop_now_ns(session_tcp(session)->loop), &held_back))
		return;
	addr_from_sockaddr(
	        &peer, (const struct sockaddr *)&session->visit.peer, session->visit.peer.sin6_family ? sizeof session->visit.peer : 0);
	log_warn("listener %s: proxy %s refused: %s (%llu more not logged)", config_of(session)->name,
	        addr_format(&peer, text, sizeof text), why, (unsigned long long)held_back);
}

bool proxied_admit(struct session *session)
{
	const struct access *peers = session_listener(session)->proxies;
	const struct sockaddr_in6 *peer = &session->visit.peer;
	if (likely(!config_of(session)->accept_proxy.enabled))
		return true;
	bool has_address = peer->sin6_family != AF_UNSPEC;
	session->visit.proxied = has_address ? peers && access_check(peers, (const struct sockaddr *)peer).allowed : true;
	if (session->visit.proxied || !config_of(session)->accept_proxy.required)
		return true;
	log_refusal(session, "it is none of accept_proxy.from");
	return false;
}

/* --- who is told of ----------------------------------------------------------------------------------------------------------- */

static enum step_result leave(struct session *session, enum reason reason)
{
	session_end(session, reason);
	return STEP_LEFT;
}

static enum step_result refuse(struct session *session, enum reason reason, const char *why)
{
	log_refusal(session, why);
	return leave(session, reason);
}

/* The client has no address where it is behind a unix socket. */
static void become(struct session *session, const struct proxy_ends *ends)
{
	struct sockaddr_in6 *peer = &session->visit.peer;
	memset(peer, 0, sizeof *peer);
	if (ends->source.sa.sa_family == AF_INET)
		memcpy(peer, &ends->source.in, sizeof ends->source.in);
	else if (ends->source.sa.sa_family == AF_INET6)
		*peer = ends->source.in6;
}

static enum step_result take(struct session *session, const struct proxy_header *header)
{
	char bytes[PROXY_HEADER_MOST];
	ssize_t n;
	if (header->ends.known && introduction_keep(session, header))
		return leave(session, REASON_NO_MEMORY);
	do
		n = recv(client_of(session)->fd, bytes, header->length, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)header->length)
		return leave(session, REASON_CLIENT_RESET);
	if (header->ends.known)
		become(session, &header->ends);
	flight_introduced(&session->visit, header->version, header->ends.known);
	return session_admit(session);
}

/* --- the header --------------------------------------------------------------------------------------------------------------- */

/* Nothing more will come. */
static bool has_ended(const struct conn *conn)
{
	return !conn->by_completion && conn->ended;
}

static enum step_result judge(struct session *session, const char *bytes, size_t count)
{
	struct proxy_header header;
	const char *why;
	switch (proxy_read(bytes, count, false, &header, &why)) {
	case PROXY_GOOD:
		return take(session, &header);
	case PROXY_NEED_MORE:
		return has_ended(client_of(session)) ? refuse(session, REASON_PROXY_HEADER, "it ended within its header") : STEP_WAIT;
	default:
		if (!config_of(session)->accept_proxy.required && !proxy_may_begin(bytes, count))
			return session_admit(session); /* a client without one */
		return refuse(session, REASON_PROXY_HEADER, why);
	}
}

static enum step_result look(struct session *session)
{
	char bytes[PROXY_HEADER_MOST];
	ssize_t n;
	do
		n = recv(client_of(session)->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return judge(session, bytes, (size_t)n);
	if (n == 0)
		return leave(session, REASON_PROXY_LEFT);
	return errno == EAGAIN ? STEP_WAIT : leave(session, REASON_CLIENT_RESET);
}

static void on_client(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	if (session->visit.step == STEP_PROXY && (events & CONN_READ)) /* what comes later is for later */
		session_went_on(session, look(session));
}

/* By readiness, with either engine: what is received by completion is out of the kernel. */
enum step_result proxied_begin(struct session *session)
{
	struct conn *client = client_of(session);
	enum step_result result = look(session); /* mostly it came with the connection */
	if (result != STEP_WAIT)
		return result;
	if (client->by_completion)
		conn_use_readiness(client);
	conn_hand_over(client, on_client, session);
	return conn_watch(client) ? leave(session, REASON_NO_MEMORY) : STEP_WAIT;
}

uint64_t proxied_deadline(const struct session *session)
{
	return session->visit.accepted_ns + config_of(session)->accept_proxy.timeout_ns;
}

/* A client without a header may wait for the server to speak. */
void proxied_overdue(struct session *session)
{
	char byte;
	bool silent = recv(client_of(session)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
	if (silent && !config_of(session)->accept_proxy.required)
		session_went_on(session, session_admit(session));
	else
		session_went_on(session, refuse(session, REASON_PROXY_TIMEOUT, "no complete header within accept_proxy.timeout"));
}
