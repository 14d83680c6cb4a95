#include "tcp/reuse.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "house/flight.h"
#include "tcp/tcp.h"

#define WAIT_FIRST_NS (2 * NS_PER_MS)
#define WAIT_RST_NS NS_PER_S          /* for what the server's kernel says to bytes that came after its FIN */
#define WAIT_ANSWER_NS (5 * NS_PER_S) /* for what the server owes a client that has ended its side */
enum { TOLD_MOST = 16 * 1024 };
enum { STATE_CLOSE = 7 }; /* TCP_CLOSE of the kernel */

static_assert((int)POOL_FRAMING_NONE == (int)FRAMING_NONE && (int)POOL_FRAMING_HTTP1 == (int)FRAMING_HTTP1 &&
                      (int)POOL_FRAMING_REDIS == (int)FRAMING_REDIS && (int)POOL_FRAMING_LINE == (int)FRAMING_LINE,
        "the words of the settings and the parsers");

static struct session *session_of(struct relay *relay)
{
	return container_of(relay, struct session, relay);
}

static const struct upstream_config *config_of(const struct session *session)
{
	return session->visit.upstream->config;
}

static bool keeps(const struct session *session)
{
	return config_of(session)->pool.keep > 0;
}

static uint64_t now_ns(const struct session *session)
{
	return loop_now_ns(session_tcp(session)->loop);
}

/* --- what the client sent ---------------------------------------------------------------------------------------------------- */

static void drop_told(struct session *session)
{
	struct reuse *reuse = session->reuse;
	if (reuse->told)
		buffers_give_back(&session_tcp(session)->engine.buffers, reuse->told);
	reuse->told = NULL;
	reuse->told_bytes = 0;
}

static void remember(struct session *session, const char *bytes, size_t count)
{
	struct reuse *reuse = session->reuse;
	if (reuse->forgotten || count == 0)
		return;
	if (!reuse->told && count <= TOLD_MOST)
		reuse->told = buffers_take(&session_tcp(session)->engine.buffers);
	if (!reuse->told || reuse->told_bytes + count > TOLD_MOST) {
		reuse->forgotten = true;
		drop_told(session);
		return;
	}
	memcpy(reuse->told + reuse->told_bytes, bytes, count);
	reuse->told_bytes += (uint32_t)count;
}

/* --- beginning and end ------------------------------------------------------------------------------------------------------- */

static struct reuse *reuse_new(struct session *session)
{
	struct reuse *reuse = slab_take(&session_tcp(session)->reuses);
	ensure(reuse); /* there are as many as sessions */
	*reuse = (struct reuse){ .told = NULL };
	session->reuse = reuse;
	return reuse;
}

void reuse_took(struct session *session, const struct hot_conn *hot)
{
	struct reuse *reuse = reuse_new(session);
	session->relay.side[SIDE_SERVER].conn = hot->conn;
	reuse->unproven = true;
	reuse->used = hot->used;
	reuse->sent_before = hot->sent_bytes;
}

void reuse_begin(struct session *session)
{
	struct reuse *reuse = session->reuse;
	if (!reuse && !keeps(session))
		return;
	if (!reuse)
		reuse = reuse_new(session);
	session->relay.framed = true;
	framing_init(&reuse->framing, (enum framing_kind)config_of(session)->pool.framing);
	if (reuse->told_bytes == 0)
		return;
	framing_request(&reuse->framing, reuse->told, reuse->told_bytes);
	reuse->sent_bytes = reuse->told_bytes;
	relay_owe(&session->relay, &session_tcp(session)->engine, SIDE_SERVER, reuse->told, reuse->told_bytes);
	reuse->told = NULL;
	reuse->told_bytes = 0;
}

void reuse_end(struct session *session)
{
	struct reuse *reuse = session->reuse;
	if (!reuse)
		return;
	drop_told(session);
	slab_give_back(&session_tcp(session)->reuses, reuse);
	session->reuse = NULL;
}

/* Nothing that comes can let the connection be kept: follow it no further, so that it costs nothing. An end of input that waits is asked
 * for once more. */
static void follow_no_more(struct session *session)
{
	if (session->reuse->wait_since_ns)
		return;
	if (keeps(session))
		counter_add(&session->visit.server->row->pool_pinned, 1);
	session->relay.framed = false;
	reuse_end(session);
}

/* --- the retry --------------------------------------------------------------------------------------------------------------- */

static void on_waiting(struct conn *conn, unsigned events)
{
	(void)conn; /* what comes from the client is noted, or waits in the input */
	(void)events;
}

/* Once more from the connect step, with a fresh connection and what the client sent. The client sees nothing of it. */
static void retry(struct session *session)
{
	struct reuse *reuse = session->reuse;
	struct conn *client = session->relay.side[SIDE_CLIENT].conn;
	counter_add(&session->visit.server->row->pool_stale_retries, 1);
	flight_stale(&session->visit);
	if (session->relay.side[SIDE_CLIENT].eof)
		client->readable = !client->by_completion; /* its end is to be read again */
	relay_stop(&session->relay);
	conn_hand_over(client, on_waiting, session);
	if (client->by_completion) {
		conn_drop_input(client); /* all of it was told */
		conn_receive_stop(client);
	}
	conn_close_at_once(session->relay.side[SIDE_SERVER].conn, false);
	session->relay.side[SIDE_SERVER].conn = NULL;
	*reuse = (struct reuse){ .told = reuse->told, .told_bytes = reuse->told_bytes, .retried = true };
	session_reconnect(session);
}

enum stale { STALE_NOT, STALE_UNSURE, STALE };

/* The first request of the client, of which there is no more than one, may be sent twice. */
static bool is_idempotent(const struct reuse *reuse)
{
	static const char *const methods[] = { "GET ", "HEAD ", "OPTIONS ", "PUT ", "DELETE ", "TRACE " };
	enum framing_verdict verdict = framing_verdict(&reuse->framing);
	uint32_t complete = framing_owed(&reuse->framing);
	if (reuse->framing.kind != FRAMING_HTTP1 || (verdict == FRAMING_OWED ? complete != 1 : verdict != FRAMING_PARTIAL || complete))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (reuse->told_bytes >= strlen(methods[i]) && memcmp(reuse->told, methods[i], strlen(methods[i])) == 0)
			return true;
	return false;
}

/* What the kernel knows of the bytes that were sent to a server that ended. eof: by its FIN. */
static enum stale ask_kernel(const struct session *session, bool eof)
{
	const struct reuse *reuse = session->reuse;
	struct tcp_info info = { 0 };
	socklen_t length = sizeof info;
	if (getsockopt(session->relay.side[SIDE_SERVER].conn->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
	        length < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof info.tcpi_bytes_retrans)
		return STALE_NOT;
	if (info.tcpi_bytes_sent - info.tcpi_bytes_retrans == reuse->sent_before)
		return STALE;                               /* none left this machine */
	if (info.tcpi_bytes_acked > reuse->sent_before + 1) /* the SYN counts */
		return STALE_NOT;
	if (!eof)
		return STALE_NOT;
	return info.tcpi_state == STATE_CLOSE ? STALE : STALE_UNSURE;
}

/* The server ended; was the connection stale, so that a fresh one makes it good? */
static enum stale judge(const struct session *session, bool lost)
{
	const struct reuse *reuse = session->reuse;
	const struct relay_side *server = &session->relay.side[SIDE_SERVER];
	if (!reuse || !reuse->unproven || reuse->forgotten || session->relay.side[SIDE_CLIENT].reset)
		return STALE_NOT;
	if (!reuse->spoken || is_idempotent(reuse))
		return STALE;
	return lost ? STALE_NOT : ask_kernel(session, server->eof);
}

/* Ask again later, up to a time. False when that is over. */
static bool wait_more(struct session *session, uint64_t most_ns)
{
	struct reuse *reuse = session->reuse;
	uint64_t now = now_ns(session);
	if (!reuse->wait_since_ns)
		reuse->wait_since_ns = now;
	uint64_t waited_ns = now - reuse->wait_since_ns;
	if (waited_ns >= most_ns)
		return false;
	uint64_t next_ns = waited_ns + WAIT_FIRST_NS < most_ns - waited_ns ? waited_ns + WAIT_FIRST_NS : most_ns - waited_ns;
	session_tick_at(session, now + next_ns);
	return true;
}

static enum stale judge_now(struct session *session, bool lost)
{
	enum stale stale = judge(session, lost);
	return stale == STALE_UNSURE && !wait_more(session, WAIT_RST_NS) ? STALE_NOT : stale;
}

bool reuse_goes_on(struct session *session, enum relay_end end, enum side by)
{
	if (end == RELAY_NO_MEMORY || (end != RELAY_FINISHED && by != SIDE_SERVER))
		return false;
	enum stale stale = judge_now(session, end == RELAY_LOST);
	if (stale == STALE)
		retry(session);
	return stale != STALE_NOT;
}

/* --- out of the relay -------------------------------------------------------------------------------------------------------- */

/* The first bytes for a connection out of the pool are about to be sent. False when it is no good; then they go another way. */
static bool is_still_good(struct session *session, size_t count)
{
	struct reuse *reuse = session->reuse;
	enum hot_look look = hot_look(session->relay.side[SIDE_SERVER].conn);
	reuse->looked = true;
	if (look == HOT_QUIET || (look == HOT_SPOKE && reuse->framing.kind == FRAMING_NONE))
		return true;
	if (reuse->forgotten) {
		session_end(session, REASON_SERVER_RESET);
		return false;
	}
	session_relay_ops.bytes(&session->relay, SIDE_CLIENT, count);
	retry(session);
	return false;
}

static bool client_sends(struct session *session, const char *bytes, size_t count)
{
	struct reuse *reuse = session->reuse;
	if (reuse->unproven) {
		remember(session, bytes, count);
		if (!reuse->looked && !is_still_good(session, count))
			return false;
	}
	if (count == 0)
		return true;
	reuse->spoken = true;
	reuse->sent_bytes += count;
	framing_request(&reuse->framing, bytes, count);
	return true;
}

static bool server_sends(struct session *session, const char *bytes, size_t count)
{
	struct reuse *reuse = session->reuse;
	if (reuse->unproven && !reuse->spoken && reuse->framing.kind != FRAMING_NONE) {
		retry(session); /* these bytes cannot be an answer to this client */
		return false;
	}
	if (count == 0)
		return true;
	if (reuse->unproven) {
		reuse->unproven = false;
		drop_told(session);
	}
	framing_response(&reuse->framing, bytes, count);
	return true;
}

bool reuse_look(struct relay *relay, enum side from, const char *bytes, size_t count)
{
	struct session *session = session_of(relay);
	if (!session->reuse)
		return true;
	if (from == SIDE_CLIENT ? !client_sends(session, bytes, count) : !server_sends(session, bytes, count))
		return false;
	if (!session->reuse->unproven && framing_verdict(&session->reuse->framing) == FRAMING_PINNED)
		follow_no_more(session);
	return true;
}

/* The client has ended its side, and all that it sent is with the server. */
static enum relay_ending client_ends(struct session *session)
{
	enum framing_verdict verdict = framing_verdict(&session->reuse->framing);
	bool kept = keeps(session) && pool_wants(session->visit.server->pool);
	if (!kept || (verdict != FRAMING_CLEAN && verdict != FRAMING_OWED))
		return ENDING_PASS;
	if (verdict == FRAMING_OWED || relay_holds(&session->relay))
		return wait_more(session, WAIT_ANSWER_NS) ? ENDING_WAIT : ENDING_PASS;
	if (!reuse_may_keep(session))
		return ENDING_PASS;
	session_end(session, REASON_FINISHED);
	return ENDING_OVER;
}

static enum relay_ending server_ends(struct session *session)
{
	switch (judge_now(session, false)) {
	case STALE_UNSURE:
		return ENDING_WAIT;
	case STALE:
		retry(session);
		return ENDING_OVER;
	default:
		return ENDING_PASS;
	}
}

enum relay_ending reuse_ending(struct relay *relay, enum side from)
{
	struct session *session = session_of(relay);
	if (!session->reuse)
		return ENDING_PASS;
	return from == SIDE_CLIENT ? client_ends(session) : server_ends(session);
}

/* --- back to the pool -------------------------------------------------------------------------------------------------------- */

bool reuse_may_keep(struct session *session)
{
	const struct relay_side *server = &session->relay.side[SIDE_SERVER];
	const struct reuse *reuse = session->reuse;
	if (!reuse || !keeps(session) || session->visit.step != STEP_RELAY || session->relay.aborting ||
	        !pool_wants(session->visit.server->pool))
		return false;
	if (framing_verdict(&reuse->framing) != FRAMING_CLEAN || server->owed || server->eof || server->dry || server->reset ||
	        server->fin_sent)
		return false;
	struct conn *conn = session->relay.side[SIDE_SERVER].conn;
	if (conn->by_completion)
		return conn->output == CONN_NO_BUFFER && conn->input == CONN_NO_BUFFER && conn->input_end == CONN_OPEN;
	if (conn->ended || (conn->readable && hot_look(conn) != HOT_QUIET))
		return false;
	conn->readable = false; /* the look said so, and what comes next makes an edge */
	return true;
}

bool reuse_give_back(struct session *session)
{
	const struct reuse *reuse = session->reuse;
	const struct hot_conn hot = {
		.conn = session->relay.side[SIDE_SERVER].conn, .sent_bytes = reuse->sent_before + reuse->sent_bytes, .used = true
	};
	return upstream_keep(session->visit.upstream, session->visit.server, &hot);
}
