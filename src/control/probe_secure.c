#include "control/probe_secure.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/text.h"

int probe_secure_open(struct probe_secure *secure, const struct probe_tls *tls, int fd)
{
	const char *alpn = tls->alpn ? tls->alpn : "";
	struct ssl_st *ssl = tls_client_session(tls->client, tls->server, (const unsigned char *)alpn, strlen(alpn));

	secure->tls = tls;
	return ssl ? tls_stream_open(&secure->stream, tls->desk, ssl, fd) : -ENOMEM;
}

void probe_secure_close(struct probe_secure *secure, bool in_good_order)
{
	if (!secure->stream.ssl)
		return;
	if (in_good_order)
		tls_stream_farewell(&secure->stream);
	tls_stream_close(&secure->stream);
}

/* --- what went wrong --------------------------------------------------------------------------------------------------------- */

static enum health_tls_fault fault_of_certificate(const struct tls_stream *stream)
{
	static const enum health_tls_fault faults[] = { [TLS_DISTRUST_NOTHING] = HEALTH_TLS_CERTIFICATE,
		[TLS_DISTRUST_EXPIRED] = HEALTH_TLS_EXPIRED,
		[TLS_DISTRUST_NOT_YET] = HEALTH_TLS_NOT_YET,
		[TLS_DISTRUST_NAME] = HEALTH_TLS_NAME,
		[TLS_DISTRUST_ISSUER] = HEALTH_TLS_ISSUER,
		[TLS_DISTRUST_REVOKED] = HEALTH_TLS_REVOKED,
		[TLS_DISTRUST_LIST] = HEALTH_TLS_LIST,
		[TLS_DISTRUST_OTHER] = HEALTH_TLS_CERTIFICATE };
	static_assert(ARRAY_LEN(faults) == N_TLS_DISTRUSTS, "a fault for each");
	return faults[tls_distrust_of(stream->ssl)];
}

static uint32_t fault_of(const struct tls_stream *stream, enum tls_failure failure)
{
	static const enum health_tls_fault faults[] = { [TLS_FAILURE_NOT_TLS] = HEALTH_TLS_NOT_TLS,
		[TLS_FAILURE_VERSION] = HEALTH_TLS_VERSION,
		[TLS_FAILURE_NO_COMMON] = HEALTH_TLS_NO_COMMON,
		[TLS_FAILURE_TRUNCATED] = HEALTH_TLS_ENDED,
		[TLS_FAILURE_PROTOCOL] = HEALTH_TLS_PROTOCOL,
		[TLS_FAILURE_OWN] = HEALTH_TLS_UNKNOWN };
	if (failure == TLS_FAILURE_CERTIFICATE)
		return fault_of_certificate(stream);
	return failure == TLS_FAILURE_ALERT ? (uint32_t)HEALTH_TLS_ALERT + stream->heard : (uint32_t)faults[failure];
}

/* OpenSSL says of an alert "tlsv1 alert unknown ca"; of what we found ourselves, what it was, and the alert that was sent. */
static void fail(const struct probe_secure *secure, struct outcome *outcome)
{
	char words[200];
	enum tls_failure failure = tls_stream_failure(&secure->stream, words, sizeof words);
	struct text reason = text_of(outcome->reason, sizeof outcome->reason);
	bool ours = failure == TLS_FAILURE_OWN;

	outcome->kind = ours ? OUTCOME_UNABLE : OUTCOME_BAD;
	outcome->result = ours ? HEALTH_RESULT_UNTRIED : HEALTH_RESULT_TLS;
	outcome->detail = fault_of(&secure->stream, failure);
	text_add(&reason, "TLS: ");
	text_add_printable(&reason, words);
}

/* --- talking ----------------------------------------------------------------------------------------------------------------- */

enum tls_state probe_secure_handshake(struct probe_secure *secure, struct outcome *outcome)
{
	enum tls_state state = tls_stream_handshake(&secure->stream);

	if (state == TLS_DONE)
		tls_stream_to_desk(&secure->stream);
	else if (state == TLS_FAILED)
		fail(secure, outcome);
	return state;
}

bool probe_secure_is_on_trial(const struct probe_secure *secure)
{
	struct tls_facts facts;

	tls_facts(secure->stream.ssl, &facts);
	return strcmp(facts.version, "TLSv1.3") == 0 && tls_client_was_asked(secure->tls->client, secure->tls->server);
}

/* What lies on the desk. The socket has room for it: what a check says is less than any socket takes. */
static bool send_out(struct probe_secure *secure)
{
	size_t count;
	const char *bytes = tls_desk_output(secure->tls->desk, &count);

	return count == 0 || send(secure->stream.fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count;
}

bool probe_secure_say(struct probe_secure *secure, const char *bytes, size_t count)
{
	bool done = tls_stream_encrypt(&secure->stream, bytes, count, clock_now_ns());

	return send_out(secure) && done;
}

/* Decrypt what was received; the probe may be NULL. *any: there was something in it. */
static enum tls_state take(struct probe_secure *secure, struct probe *probe, bool *any)
{
	char plain[TLS_RECORD_BYTES];
	enum probe_verdict verdict = PROBE_NEED_MORE;
	enum tls_state state;
	size_t count;

	do {
		state = tls_stream_decrypt(&secure->stream, plain, sizeof plain, &count);
		*any |= count > 0;
		if (probe && count > 0)
			verdict = probe_feed(probe, plain, count);
	} while (state == TLS_MORE && verdict == PROBE_NEED_MORE);
	secure->tls->desk->in_at = secure->tls->desk->in_end = 0; /* nobody wants the rest */
	return state;
}

static enum heard listen_to(struct probe_secure *secure, struct probe *probe, struct outcome *outcome)
{
	struct tls_desk *desk = secure->tls->desk;
	enum tls_state state = TLS_WANTS_INPUT;
	ssize_t got = recv(secure->stream.fd, desk->in, TLS_READ_BYTES, MSG_DONTWAIT);
	int error = got < 0 ? errno : 0;
	bool any = false;

	desk->in_at = 0;
	desk->in_end = got > 0 ? (uint32_t)got : 0;
	if (got > 0 || secure->stream.pending)
		state = take(secure, probe, &any);
	if (state == TLS_FAILED) {
		fail(secure, outcome);
		(void)send_out(secure); /* the alert */
		return HEARD_TROUBLE;
	}
	if (!send_out(secure))
		return HEARD_RESET;
	if (!probe) /* a ticket has no bytes for us, and only who is let in gets one */
		any |= got > 0 && !tls_stream_holds(&secure->stream);
	if (any)
		return HEARD_BYTES;
	if (got == 0 || state == TLS_CLOSED)
		return HEARD_END;
	errno = error;
	return error && error != EAGAIN && error != EINTR ? HEARD_RESET : HEARD_NOTHING;
}

enum heard probe_secure_listen(struct probe_secure *secure, struct probe *probe, struct outcome *outcome)
{
	return listen_to(secure, probe, outcome);
}

enum heard probe_secure_hark(struct probe_secure *secure, struct outcome *outcome)
{
	return listen_to(secure, NULL, outcome);
}
