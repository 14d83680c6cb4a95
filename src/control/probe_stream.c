#include "control/probe_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "net/dial.h"
#include "proto/proxy_write.h"

struct probe_stream {
	struct loop_io io;
	struct linger_set *linger;
	outcome_fn *done;
	void *arg;
	const struct probe_rules *rules;
	int fd;
	bool connected;
	bool deaf; /* the server: sending failed, but it may have said why */
	struct probe probe;
};

static void on_ready(struct loop_io *io, int events);

int probe_stream_start(struct linger_set *linger, const struct addr *addr, const struct dial_source *source,
        const struct probe_rules *rules, outcome_fn *done, void *arg, struct probe_stream **out)
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
	stream->connected = stream->deaf = false;
	*out = stream;
	return 0;
}

void probe_stream_stop(struct probe_stream *stream)
{
	loop_io_stop(stream->linger->loop, &stream->io);
	if (stream->connected)
		linger_close(stream->linger, stream->fd);
	else
		close(stream->fd);
	free(stream);
}

const char *probe_stream_awaits(const struct probe_stream *stream)
{
	return stream->connected ? probe_reason(&stream->probe) : "the connection";
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
	int more = probe_output(&stream->probe, &bytes) > 0 ? MSG_MORE : 0;
	int length = stream->rules->introduced == 1 ? (int)proxy_write_v1(&nobody, header)
	                                            : proxy_write_v2(&nobody, NULL, 0, false, header, sizeof header);

	stream->deaf = send(stream->fd, header, (size_t)length, MSG_NOSIGNAL | more) != length;
}

static void send_output(struct probe_stream *stream)
{
	const char *bytes;
	size_t count;

	while (!stream->deaf && (count = probe_output(&stream->probe, &bytes)) > 0) {
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
	if (!error) {
		stream->connected = true;
		return true;
	}
	outcome_not_connected(&outcome, error);
	finish(stream, &outcome);
	return false;
}

/* What the server says, or that it says no more. A reset that comes before any verdict is one. */
static enum probe_verdict listen_to(struct probe_stream *stream, struct outcome *outcome)
{
	char bytes[PROBE_KEPT_MAX];
	ssize_t n = recv(stream->fd, bytes, sizeof bytes, 0);

	outcome->result = HEALTH_RESULT_ANSWER;
	if (n > 0)
		return probe_feed(&stream->probe, bytes, (size_t)n);
	if (n == 0) {
		outcome->result = HEALTH_RESULT_CLOSED;
		return probe_end(&stream->probe);
	}
	if (errno == EAGAIN || errno == EINTR)
		return PROBE_NEED_MORE;
	outcome->result = HEALTH_RESULT_RESET;
	outcome->detail = (uint32_t)errno;
	struct text reason = text_of(outcome->reason, sizeof outcome->reason);
	text_add(&reason, "%s, before %s", strerror(errno), probe_reason(&stream->probe));
	return PROBE_BAD;
}

static int wanted_events(const struct probe_stream *stream)
{
	const char *bytes;

	return LOOP_READ | (!stream->deaf && probe_output(&stream->probe, &bytes) > 0 ? LOOP_WRITE : 0);
}

static void on_ready(struct loop_io *io, int events)
{
	struct probe_stream *stream = container_of(io, struct probe_stream, io);
	struct outcome outcome = { .result = HEALTH_RESULT_ANSWER };
	enum probe_verdict verdict = PROBE_NEED_MORE;

	if (!stream->connected) {
		if (!connect_ends(stream))
			return;
		verdict = probe_begin(&stream->probe, stream->rules);
		if (stream->rules->introduced)
			introduce(stream);
	} else if (events & LOOP_READ) {
		verdict = listen_to(stream, &outcome);
	}
	send_output(stream); /* after the verdict, too: its farewell */
	if (verdict == PROBE_NEED_MORE) {
		int error = loop_io_set(stream->linger->loop, io, stream->fd, wanted_events(stream));
		if (!error)
			return;
		outcome_not_connected(&outcome, error);
	} else {
		outcome.kind = verdict == PROBE_GOOD ? OUTCOME_GOOD : OUTCOME_BAD;
		outcome.result = verdict == PROBE_GOOD ? HEALTH_RESULT_OK : outcome.result;
		if (outcome.reason[0] == '\0')
			(void)text_copy(outcome.reason, sizeof outcome.reason, probe_reason(&stream->probe));
	}
	finish(stream, &outcome);
}
