#include "tcp/introduce.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "house/caller.h"
#include "proto/proxy_write.h"
#include "tcp/tcp.h"

enum { TEXT_SIZE = 256, SSL_SIZE = 5 + 3 * (PROXY_TLV_HEAD + TEXT_SIZE) };
/* What is known here: TLS, ALPN, authority, id, trace; and how many TLVs there may be in all. */
enum { OWN_MOST = 8, TLVS_MOST = 64, OWN_BYTES = PROXY_TLV_HEAD + SSL_SIZE + 4 * (PROXY_TLV_HEAD + TEXT_SIZE) };
enum { HEADER_SIZE = PROXY_V2_BARE_MOST + INTRODUCTION_TLVS_MOST + OWN_BYTES + PROXY_CRC_BYTES };

/* --- what another proxy told -------------------------------------------------------------------------------------------------- */

bool introduction_is_wanted(const struct config *config)
{
	bool hears = false, tells = false;
	for (size_t i = 0; i < config->n_listeners; i++)
		hears = hears || config->listeners[i].accept_proxy.enabled;
	for (size_t i = 0; i < config->n_upstreams; i++)
		tells = tells || config->upstreams[i].send_proxy != SEND_PROXY_OFF;
	return hears && tells;
}

/* Those that hold for this header alone are not passed on. */
static bool is_passed_on(const struct proxy_tlv *tlv)
{
	return tlv->type != 0 && tlv->type != PROXY_TLV_NOOP && tlv->type != PROXY_TLV_CRC32C;
}

int introduction_keep(struct session *session, const struct proxy_header *header)
{
	struct slab *slab = &session_tcp(session)->introductions;
	const uint8_t *at = header->tlvs, *tlv_at = at;
	struct proxy_tlv tlv;
	if (!slab->region)
		return 0;
	struct introduction *introduction = slab_take(slab);
	if (!introduction)
		return -ENOMEM;
	introduction->source = header->ends.source;
	introduction->destination = header->ends.destination;
	introduction->tlvs_length = 0;
	for (; at && proxy_next_tlv(&at, header->tlvs + header->tlvs_length, &tlv); tlv_at = at) {
		size_t bytes = (size_t)(at - tlv_at);
		if (!is_passed_on(&tlv) || bytes > sizeof introduction->tlvs - introduction->tlvs_length)
			continue;
		memcpy(introduction->tlvs + introduction->tlvs_length, tlv_at, bytes);
		introduction->tlvs_length += (uint16_t)bytes;
	}
	session->introduction = introduction;
	return 0;
}

void introduction_drop(struct session *session)
{
	if (likely(!session->visit.proxied))
		return;
	if (session->introduction)
		slab_give_back(&session_tcp(session)->introductions, session->introduction);
	session->introduction = NULL;
	session->visit.proxied = false;
}

static const struct introduction *told_of(const struct session *session)
{
	return session->visit.proxied ? session->introduction : NULL;
}

/* --- who talks to whom -------------------------------------------------------------------------------------------------------- */

static void get_name(int fd, struct addr *out)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	if (getsockname(fd, (struct sockaddr *)&name, &length) == 0)
		addr_from_sockaddr(out, (const struct sockaddr *)&name, length);
}

static struct proxy_ends ends_of(const struct session *session)
{
	const struct introduction *told = told_of(session);
	const struct sockaddr_in6 *peer = &session->visit.peer;
	struct proxy_ends ends = { .known = true };
	if (told) {
		ends.source = told->source;
		ends.destination = told->destination;
		return ends;
	}
	addr_from_sockaddr(&ends.source, (const struct sockaddr *)peer, sizeof *peer);
	if (peer->sin6_family == AF_UNSPEC)
		ends.source = (struct addr){ .length = offsetof(struct sockaddr_un, sun_path), .un = { .sun_family = AF_UNIX } };
	get_name(session->relay.side[SIDE_CLIENT].conn->fd, &ends.destination);
	return ends;
}

/* --- what is known besides ---------------------------------------------------------------------------------------------------- */

/* The TLVs of a header, and the texts that they point to. */
struct remarks {
	struct proxy_tlv tlvs[TLVS_MOST];
	size_t n;
	struct tls_facts facts;
	uint8_t ssl[SSL_SIZE];
	char id[32], trace[64];
};

static void add(struct remarks *remarks, uint8_t type, const void *bytes, size_t length)
{
	if (remarks->n < TLVS_MOST && length <= UINT16_MAX)
		remarks->tlvs[remarks->n++] = (struct proxy_tlv){ .type = type, .bytes = bytes, .length = (uint16_t)length };
}

static bool has(const struct remarks *remarks, uint8_t type)
{
	for (size_t i = 0; i < remarks->n; i++)
		if (remarks->tlvs[i].type == type)
			return true;
	return false;
}

static bool is_about_tls(const struct proxy_tlv *tlv)
{
	return tlv->type == PROXY_TLV_SSL || tlv->type == PROXY_TLV_ALPN || tlv->type == PROXY_TLV_AUTHORITY;
}

static void pass_on(struct remarks *remarks, const struct introduction *told, bool secured)
{
	const uint8_t *at = told->tlvs;
	struct proxy_tlv tlv;
	while (remarks->n < TLVS_MOST - OWN_MOST && proxy_next_tlv(&at, told->tlvs + told->tlvs_length, &tlv))
		if (!secured || !is_about_tls(&tlv))
			add(remarks, tlv.type, tlv.bytes, tlv.length);
}

static uint8_t *put_text(uint8_t *at, uint8_t type, const char *text)
{
	size_t length = strlen(text) < TEXT_SIZE ? strlen(text) : TEXT_SIZE;
	if (length == 0)
		return at;
	at[0] = type;
	at[1] = (uint8_t)(length >> 8);
	at[2] = (uint8_t)length;
	memcpy(at + PROXY_TLV_HEAD, text, length);
	return at + PROXY_TLV_HEAD + length;
}

/* Flags, the result of the verification (0 = good), and texts. */
static void add_tls(struct remarks *remarks, struct ssl_st *ssl)
{
	char name[TEXT_SIZE];
	tls_facts(ssl, &remarks->facts);
	const struct tls_facts *facts = &remarks->facts;
	uint8_t *at = remarks->ssl + 5;
	memset(remarks->ssl, 0, 5);
	remarks->ssl[0] = (uint8_t)(PROXY_SSL_OVER_SSL | (facts->peer_verified ? PROXY_SSL_CERT_SESS : 0) |
	                            (facts->peer_verified && !facts->resumed ? PROXY_SSL_CERT_CONN : 0));
	remarks->ssl[4] = !facts->peer_verified;
	at = put_text(at, PROXY_SSL_VERSION, facts->version);
	at = put_text(at, PROXY_SSL_CIPHER, facts->cipher);
	if (facts->peer_verified)
		at = put_text(at, PROXY_SSL_CN, tls_peer_name(ssl, name, sizeof name));
	if (facts->alpn_length > 0)
		add(remarks, PROXY_TLV_ALPN, facts->alpn, facts->alpn_length);
	if (facts->server_name[0])
		add(remarks, PROXY_TLV_AUTHORITY, facts->server_name, strlen(facts->server_name));
	add(remarks, PROXY_TLV_SSL, remarks->ssl, (size_t)(at - remarks->ssl));
}

/* The host that the client asked for, where its hello was read and not answered. */
static void add_name(struct remarks *remarks, const struct caller *caller)
{
	size_t length = strlen(caller->name);
	if (length > 0 && length < sizeof caller->name - 1 && !has(remarks, PROXY_TLV_AUTHORITY)) /* else it may be cut */
		add(remarks, PROXY_TLV_AUTHORITY, caller->name, length);
}

static void add_id(struct remarks *remarks, const struct session *session)
{
	int length =
	        snprintf(remarks->id, sizeof remarks->id, "%" PRIu32 ".%" PRIu32, session_tcp(session)->house->seat, session->visit.serial);
	add(remarks, PROXY_TLV_UNIQUE_ID, remarks->id, (size_t)length);
}

/* Version 00, a trace and a parent that nobody has, and no word on whether it is recorded: https://www.w3.org/TR/trace-context/ */
static void add_trace(struct remarks *remarks, uint8_t type)
{
	uint64_t random[3];
	if (getrandom(random, sizeof random, GRND_NONBLOCK) != sizeof random)
		return;
	int length = snprintf(remarks->trace, sizeof remarks->trace, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-00", random[0],
	        random[1] | 1, random[2] | 1);
	add(remarks, type, remarks->trace, (size_t)length);
}

static void remark(struct remarks *remarks, const struct session *session)
{
	const struct upstream_config *config = session->visit.upstream->config;
	const struct relay_side *client = &session->relay.side[SIDE_CLIENT];
	remarks->n = 0;
	if (told_of(session))
		pass_on(remarks, told_of(session), client->secured);
	if (client->secured)
		add_tls(remarks, client->tls->ssl);
	else if (session->visit.caller)
		add_name(remarks, session->visit.caller);
	if (config->send_proxy_unique_id && !has(remarks, PROXY_TLV_UNIQUE_ID))
		add_id(remarks, session);
	if (config->send_proxy_traceparent && !has(remarks, (uint8_t)config->send_proxy_traceparent))
		add_trace(remarks, (uint8_t)config->send_proxy_traceparent);
}

/* --- telling ------------------------------------------------------------------------------------------------------------------ */

static size_t write_header(const struct session *session, char header[HEADER_SIZE])
{
	const struct upstream_config *config = session->visit.upstream->config;
	const struct proxy_ends ends = ends_of(session);
	struct remarks remarks;
	if (config->send_proxy == SEND_PROXY_V1)
		return proxy_write_v1(&ends, header);
	remark(&remarks, session);
	int length = proxy_write_v2(&ends, remarks.tlvs, remarks.n, config->send_proxy_check_sum, header, HEADER_SIZE);
	ensure(length > 0); /* the sizes add up */
	return (size_t)length;
}

/* What the client sent already may go with it, where the relay passes it on right away. */
static bool has_more(const struct session *session)
{
	int unread = 0;
	const struct relay_side *client = &session->relay.side[SIDE_CLIENT];
	return !client->secured && !session_listener(session)->paced && ioctl(client->conn->fd, FIONREAD, &unread) == 0 && unread > 0;
}

/* The socket is fresh: it has room for all of it. Its options are set now, or what follows would wait until this is acknowledged. */
static int send_header(struct session *session, bool secures)
{
	char header[HEADER_SIZE];
	struct conn *server = session->relay.side[SIDE_SERVER].conn;
	size_t length = write_header(session, header);
	int more = !secures && has_more(session) ? MSG_MORE : 0;
	ssize_t n;
	if (server->options_due)
		conn_set_options(server, &session->visit.upstream->config->tcp);
	do
		n = send(server->fd, header, length, MSG_NOSIGNAL | MSG_DONTWAIT | more);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)length)
		return 0;
	return n < 0 && errno != EAGAIN ? -errno : -ENOBUFS;
}

enum step_result introduce(struct session *session)
{
	const struct upstream *upstream = session->visit.upstream;
	const struct house *house = session_tcp(session)->house;
	int error = 0;
	if (unlikely(upstream->config->send_proxy != SEND_PROXY_OFF))
		error = send_header(session, tls_client_of(house->tls, (uint32_t)(upstream - house->upstreams)) != NULL);
	return error ? session_connect_failed(session, -error, NULL) : STEP_DONE;
}
