#include "control/probe_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "control/probe_secure.h"
#include "net/dial.h"
#include "proto/postgres_request.h"
#include "proto/proxy_write.h"

/* In their order; which there are the rules and the TLS say. */
enum phase { CONNECTING, ASKING, SHAKING, TALKING, HEEDED };

struct probe_stream {
	struct loop_io io;
	struct linger_set *linger;
	outcome_fn *done;
	void *arg;
	const struct probe_rules *rules;
	int fd;
	enum phase phase;
	bool deaf; /* the server: sending failed, but it may have said why */
	struct probe_tls tls;
	struct probe_secure secure;
	struct probe probe;
};

static void on_ready(struct loop_io *io, int events);

int probe_stream_start(struct linger_set *linger, const struct addr *addr, const struct dial_source *source,
        const struct probe_rules *rules, const struct probe_tls *tls, outcome_fn *done, void *arg, struct probe_stream **out)
{
	static const struct tcp_config plain;
	struct probe_stream *stream = malloc(sizeof *stream);
	int fd = stream ? dial_open(addr, &plain) : -ENOMEM;
	if (fd < 0) {
		free(stream);
		return fd;
	}
	int error = dial_bind(fd, addr->sa.sa_family, source);
	error = error ? error : dial_connect(fd, addr);
	loop_io_init(&stream->io, on_ready);
	if (error == 0 || error == -EINPROGRESS)
		error = loop_io_set(linger->loop, &stream->io, fd, LOOP_WRITE); /* also where connected already: done() comes later */
	if (error) {
		close(fd);
		free(stream);
		return error;
	}
	stream->linger = linger;
	stream->done = done;
	stream->arg = arg;
	stream->rules = rules;
	stream->fd = fd;
	stream->phase = CONNECTING;
	stream->deaf = false;
	stream->tls = *tls;
	stream->secure = (struct probe_secure){ 0 };
	*out = stream;
	return 0;
}

void probe_stream_stop(struct probe_stream *stream)
{
	loop_io_stop(stream->linger->loop, &stream->io);
	probe_secure_close(&stream->secure, stream->phase == TALKING);
	if (stream->phase > CONNECTING)
		linger_close(stream->linger, stream->fd);
	else
		close(stream->fd);
	free(stream);
}

const char *probe_stream_awaits(const struct probe_stream *stream)
{
	static const char *const awaited[] = { [CONNECTING] = "the connection",
		[ASKING] = "the answer to PostgreSQL's request for TLS",
		[SHAKING] = "the TLS handshake",
		[HEEDED] = "the server to take our certificate" };

	return stream->phase == TALKING ? probe_reason(&stream->probe) : awaited[stream->phase];
}

static void finish(struct probe_stream *stream, const struct outcome *outcome)
{
	outcome_fn *done = stream->done;
	void *arg = stream->arg;

	probe_stream_stop(stream);
	done(arg, outcome);
}

/* What the server awaits before all else, if its proxies introduce clients. The socket has room for it. */
static void introduce(struct probe_stream *stream)
{
	static const struct proxy_ends nobody;
	char header[PROXY_V2_BARE_MOST];
	const char *bytes;
	int more = stream->tls.wanted || probe_output(&stream->probe, &bytes) > 0 ? MSG_MORE : 0;
	int length = stream->rules->introduced == 1 ? (int)proxy_write_v1(&nobody, header)
	                                            : proxy_write_v2(&nobody, NULL, 0, false, header, sizeof header);

	stream->deaf = send(stream->fd, header, (size_t)length, MSG_NOSIGNAL | more) != length;
}

static void send_output(struct probe_stream *stream)
{
	const char *bytes;
	size_t count;

	while (!stream->deaf && (count = probe_output(&stream->probe, &bytes)) > 0) {
		if (stream->tls.wanted) {
			stream->deaf = !probe_secure_say(&stream->secure, bytes, count);
			probe_sent(&stream->probe, count);
			continue;
		}
		ssize_t n = send(stream->fd, bytes, count, MSG_NOSIGNAL);
		if (n > 0)
			probe_sent(&stream->probe, (size_t)n);
		else if (errno != EINTR) {
			stream->deaf = errno != EAGAIN;
			return;
		}
	}
}

/* The port is one that the kernel gives to clients, nobody listens, and it was given to us: then TCP connects a socket with itself. */
static bool is_own_end(int fd)
{
	struct sockaddr_storage own, peer;
	socklen_t own_length = sizeof own, peer_length = sizeof peer;

	return getsockname(fd, (struct sockaddr *)&own, &own_length) == 0 && getpeername(fd, (struct sockaddr *)&peer, &peer_length) == 0 &&
	       own.ss_family != AF_UNIX && own_length == peer_length && memcmp(&own, &peer, own_length) == 0;
}

/* Either connected, or over. */
static bool connect_ends(struct probe_stream *stream)
{
	struct outcome outcome;
	int error = dial_result(stream->fd);

	if (!error && is_own_end(stream->fd))
		error = -ECONNREFUSED;
	if (!error)
		return true;
	outcome_not_connected(&outcome, error);
	finish(stream, &outcome);
	return false;
}

/* --- without TLS ------------------------------------------------------------------------------------------------------------- */

static enum heard listen_plainly(struct probe_stream *stream)
{
	char bytes[PROBE_KEPT_MAX];
	ssize_t n = recv(stream->fd, bytes, sizeof bytes, 0);

	if (n > 0) {
		enum probe_verdict verdict = probe_feed(&stream->probe, bytes, (size_t)n);
		ensure(verdict == stream->probe.verdict);
		return HEARD_BYTES;
	}
	if (n == 0)
		return HEARD_END;
	return errno == EAGAIN || errno == EINTR ? HEARD_NOTHING : HEARD_RESET;
}

/* --- with TLS ---------------------------------------------------------------------------------------------------------------- */

/* What becomes of an attempt, in a call of the loop. */
enum course { GOES_ON, IS_OVER };

static void fault(struct outcome *outcome, enum health_tls_fault which, const char *reason)
{
	*outcome = (struct outcome){ .kind = OUTCOME_BAD, .result = HEALTH_RESULT_TLS, .detail = (uint32_t)which };
	(void)text_copy(outcome->reason, sizeof outcome->reason, reason);
}

static enum course ask_for_tls(struct probe_stream *stream)
{
	stream->phase = ASKING;
	stream->deaf = send(stream->fd, postgres_ssl_request, sizeof postgres_ssl_request, MSG_NOSIGNAL) != sizeof postgres_ssl_request;
	return GOES_ON;
}

/* One byte, and nothing behind it: what is not encrypted must not count as if it were. */
static bool is_granted(struct probe_stream *stream, enum course *course, struct outcome *outcome)
{
	char bytes[2] = "";
	ssize_t n = recv(stream->fd, bytes, sizeof bytes, 0);

	*course = IS_OVER;
	if (n == 1 && bytes[0] == POSTGRES_GRANTED)
		return true;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		*course = GOES_ON;
	else if (n == 1 && bytes[0] == POSTGRES_DECLINED)
		fault(outcome, HEALTH_TLS_DECLINED, "declined PostgreSQL's request for TLS");
	else if (n > 0)
		fault(outcome, HEALTH_TLS_PROTOCOL, "not an answer to PostgreSQL's request for TLS");
	else
		fault(outcome, HEALTH_TLS_ENDED, "closed the connection before the answer to PostgreSQL's request for TLS");
	return false;
}

/* Our certificate is looked at when we have nothing more to say: so we say that, and listen whether the server minds. */
static enum course be_heeded(struct probe_stream *stream)
{
	stream->phase = HEEDED;
	tls_stream_farewell(&stream->secure.stream);
	(void)shutdown(stream->fd, SHUT_WR);
	return GOES_ON;
}

static enum course hark(struct probe_stream *stream, struct outcome *outcome)
{
	switch (probe_secure_hark(&stream->secure, outcome)) {
	case HEARD_NOTHING:
		return GOES_ON;
	case HEARD_TROUBLE:
		return IS_OVER;
	case HEARD_RESET:
		fault(outcome, HEALTH_TLS_ENDED, "reset the connection after the TLS handshake, in which it wanted our certificate");
		return IS_OVER;
	default:
		*outcome = (struct outcome){ .kind = OUTCOME_GOOD, .result = HEALTH_RESULT_OK };
		(void)text_copy(outcome->reason, sizeof outcome->reason, "connected");
		return IS_OVER;
	}
}

/* --- talking ----------------------------------------------------------------------------------------------------------------- */

static void judge(const struct probe *probe, struct outcome *outcome)
{
	outcome->kind = probe->verdict == PROBE_GOOD ? OUTCOME_GOOD : OUTCOME_BAD;
	outcome->detail = probe->status;
	if (probe->verdict == PROBE_GOOD)
		outcome->result = HEALTH_RESULT_OK;
	else if (probe->status)
		outcome->result = HEALTH_RESULT_STATUS;
	(void)text_copy(outcome->reason, sizeof outcome->reason, probe_reason(probe));
}

/* A reset that comes before any verdict is one. */
static void judge_reset(const struct probe *probe, int error, struct outcome *outcome)
{
	struct text reason = text_of(outcome->reason, sizeof outcome->reason);

	*outcome = (struct outcome){ .kind = OUTCOME_BAD, .result = HEALTH_RESULT_RESET, .detail = (uint32_t)error };
	text_add(&reason, "%s, before %s", strerror(error), probe_reason(probe));
}

static enum course talk(struct probe_stream *stream, struct outcome *outcome)
{
	struct probe *probe = &stream->probe;
	enum heard heard = stream->tls.wanted ? probe_secure_listen(&stream->secure, probe, outcome) : listen_plainly(stream);
	int error = errno;

	if (heard == HEARD_TROUBLE && probe->verdict == PROBE_NEED_MORE)
		return IS_OVER;
	send_output(stream); /* after the verdict, too: its farewell */
	outcome->result = HEALTH_RESULT_ANSWER;
	if (heard == HEARD_RESET && probe->verdict == PROBE_NEED_MORE) {
		judge_reset(probe, error, outcome);
		return IS_OVER;
	}
	if (heard == HEARD_END && probe->verdict == PROBE_NEED_MORE) {
		outcome->result = HEALTH_RESULT_CLOSED;
		ensure(probe_end(probe) != PROBE_NEED_MORE);
	}
	if (probe->verdict == PROBE_NEED_MORE)
		return GOES_ON;
	judge(probe, outcome);
	return IS_OVER;
}

static enum course begin_to_talk(struct probe_stream *stream, struct outcome *outcome)
{
	enum probe_verdict verdict = probe_begin(&stream->probe, stream->rules);

	stream->phase = TALKING;
	if (stream->rules->introduced && !stream->tls.wanted)
		introduce(stream);
	send_output(stream);
	if (verdict == PROBE_NEED_MORE)
		return GOES_ON;
	if (stream->tls.wanted && probe_secure_is_on_trial(&stream->secure))
		return be_heeded(stream);
	outcome->result = HEALTH_RESULT_ANSWER;
	judge(&stream->probe, outcome);
	return IS_OVER;
}

static enum course shake_hands(struct probe_stream *stream, struct outcome *outcome)
{
	switch (probe_secure_handshake(&stream->secure, outcome)) {
	case TLS_DONE:
		if (begin_to_talk(stream, outcome) == IS_OVER)
			return IS_OVER;
		return stream->phase == HEEDED ? hark(stream, outcome)
		                               : talk(stream, outcome); /* what came with the last of it is read already */
	case TLS_FAILED:
		return IS_OVER;
	default:
		return GOES_ON;
	}
}

static enum course begin_tls(struct probe_stream *stream, struct outcome *outcome)
{
	stream->phase = SHAKING;
	int error = probe_secure_open(&stream->secure, &stream->tls, stream->fd);
	if (!error)
		return shake_hands(stream, outcome);
	outcome_not_connected(outcome, error);
	return IS_OVER;
}

/* Connected. */
static enum course begin(struct probe_stream *stream, struct outcome *outcome)
{
	if (!stream->tls.wanted)
		return begin_to_talk(stream, outcome);
	if (stream->rules->introduced)
		introduce(stream);
	return stream->tls.starttls ? ask_for_tls(stream) : begin_tls(stream, outcome);
}

/* --- hearing of the socket --------------------------------------------------------------------------------------------------- */

static int wanted_events(const struct probe_stream *stream)
{
	const char *bytes;

	if (stream->phase == TALKING && !stream->tls.wanted && !stream->deaf && probe_output(&stream->probe, &bytes) > 0)
		return LOOP_READ | LOOP_WRITE;
	return LOOP_READ;
}

static enum course go_on(struct probe_stream *stream, int events, struct outcome *outcome)
{
	enum course course = GOES_ON;

	switch (stream->phase) {
	case CONNECTING:
		return begin(stream, outcome);
	case ASKING:
		return is_granted(stream, &course, outcome) ? begin_tls(stream, outcome) : course;
	case SHAKING:
		return shake_hands(stream, outcome);
	case HEEDED:
		return hark(stream, outcome);
	default:
		if (events & LOOP_READ)
			return talk(stream, outcome);
		send_output(stream);
		return GOES_ON;
	}
}

static void on_ready(struct loop_io *io, int events)
{
	struct probe_stream *stream = container_of(io, struct probe_stream, io);
	struct outcome outcome = { .kind = OUTCOME_BAD };

	if (stream->phase == CONNECTING && !connect_ends(stream))
		return;
	if (go_on(stream, events, &outcome) == GOES_ON) {
		int error = loop_io_set(stream->linger->loop, io, stream->fd, wanted_events(stream));
		if (!error)
			return;
		outcome_not_connected(&outcome, error);
	}
	finish(stream, &outcome);
}
