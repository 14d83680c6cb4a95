#include "control/probe_datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "proto/proxy_write.h"

enum { ANSWER_MOST = 65536 };
#define SILENCE_MOST_NS NS_PER_S

struct probe_datagram {
	struct loop_io io;
	struct loop_timer timer;
	struct loop *loop;
	outcome_fn *done;
	void *arg;
	const struct probe_rules *rules;
	int fd;
};

static void on_ready(struct loop_io *io, int events);
static void on_timer(struct loop_timer *timer);

static int send_once(const struct probe_datagram *datagram)
{
	const struct probe_rules *rules = datagram->rules;
	char header[PROXY_V2_BARE_MOST];
	int length =
	        rules->introduced ? proxy_write_v2(&(struct proxy_ends){ .datagrams = true }, NULL, 0, false, header, sizeof header) : 0;
	ensure(length >= 0);
	struct iovec iovs[] = { { .iov_base = header, .iov_len = (size_t)length },
		{ .iov_base = (void *)(uintptr_t)rules->send, .iov_len = probe_send_count(rules) } };
	const struct msghdr message = { .msg_iov = iovs, .msg_iovlen = ARRAY_LEN(iovs) };
	ssize_t n;
	do
		n = sendmsg(datagram->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 && errno != EAGAIN ? -errno : 0;
}

/* A socket that hears of the server alone, and of what ICMP says about it. */
static int open_connected(const struct addr *addr, const struct dial_source *source)
{
	int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int error = dial_bind(fd, addr->sa.sa_family, source);
	if (!error && connect(fd, &addr->sa, addr->length) < 0)
		error = -errno;
	if (!error)
		return fd;
	close(fd);
	return error;
}

static uint64_t half_of(const struct probe_rules *rules, uint64_t timeout_ns)
{
	uint64_t half_ns = timeout_ns / 2;
	return rules->silent && half_ns > SILENCE_MOST_NS ? SILENCE_MOST_NS : half_ns;
}

int probe_datagram_start(struct loop *loop, const struct addr *addr, const struct dial_source *source, const struct probe_rules *rules,
        uint64_t timeout_ns, outcome_fn *done, void *arg, struct probe_datagram **out)
{
	struct probe_datagram *datagram = malloc(sizeof *datagram);
	int fd = datagram ? open_connected(addr, source) : -ENOMEM;
	if (fd < 0) {
		free(datagram);
		return fd;
	}
	*datagram = (struct probe_datagram){ .loop = loop, .done = done, .arg = arg, .rules = rules, .fd = fd };
	loop_io_init(&datagram->io, on_ready);
	loop_timer_init(&datagram->timer, on_timer);
	int error = loop_io_set(loop, &datagram->io, fd, LOOP_READ);
	if (!error)
		error = send_once(datagram);
	if (error) {
		probe_datagram_stop(datagram);
		return error;
	}
	loop_timer_start(loop, &datagram->timer, half_of(rules, timeout_ns));
	*out = datagram;
	return 0;
}

void probe_datagram_stop(struct probe_datagram *datagram)
{
	loop_io_stop(datagram->loop, &datagram->io);
	loop_timer_stop(datagram->loop, &datagram->timer);
	close(datagram->fd);
	free(datagram);
}

const char *probe_datagram_awaits(const struct probe_datagram *datagram)
{
	return probe_expect_count(datagram->rules) > 0 ? "the expected answer" : "an answer";
}

static void finish(struct probe_datagram *datagram, const struct outcome *outcome)
{
	outcome_fn *done = datagram->done;
	void *arg = datagram->arg;

	probe_datagram_stop(datagram);
	done(arg, outcome);
}

static void finish_good(struct probe_datagram *datagram, const char *reason)
{
	struct outcome outcome = { .kind = OUTCOME_GOOD, .result = HEALTH_RESULT_OK };
	(void)text_copy(outcome.reason, sizeof outcome.reason, reason);
	finish(datagram, &outcome);
}

static void finish_failed(struct probe_datagram *datagram, int error)
{
	struct outcome outcome;
	outcome_not_connected(&outcome, error);
	struct text reason = text_of(outcome.reason, sizeof outcome.reason);
	text_add(&reason, "%s", error == -ECONNREFUSED ? "refused: nobody has the port" : strerror(-error));
	finish(datagram, &outcome);
}

static void judge(struct probe_datagram *datagram, const char *bytes, size_t count)
{
	size_t expected = probe_expect_count(datagram->rules);
	struct outcome outcome = { .kind = OUTCOME_BAD, .result = HEALTH_RESULT_ANSWER };
	if (expected == 0) {
		finish_good(datagram, "answered");
		return;
	}
	if (memmem(bytes, count, datagram->rules->expect, expected)) {
		finish_good(datagram, "the expected answer came");
		return;
	}
	(void)text_copy(outcome.reason, sizeof outcome.reason, "another answer than the expected one");
	finish(datagram, &outcome);
}

static void on_ready(struct loop_io *io, int events)
{
	struct probe_datagram *datagram = container_of(io, struct probe_datagram, io);
	char bytes[ANSWER_MOST];
	ssize_t n = recv(datagram->fd, bytes, sizeof bytes, 0);

	(void)events;
	if (n >= 0)
		judge(datagram, bytes, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		finish_failed(datagram, -errno);
}

/* Half of the time is over. */
static void on_timer(struct loop_timer *timer)
{
	struct probe_datagram *datagram = container_of(timer, struct probe_datagram, timer);
	if (datagram->rules->silent) {
		finish_good(datagram, "nobody refused");
		return;
	}
	int error = send_once(datagram);
	if (error)
		finish_failed(datagram, error);
}
