/* A client of the load: connect, send, read the answer, look at it, begin anew. See bench.h. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/bench.h"

/* Smaller messages leave in one segment: nothing waits for an acknowledgement. */
enum { NODELAY_FROM_BYTES = 1024 };

static void client_next(struct load *load, struct client *client);

static void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd); /* epoll forgets it by itself */
	client->fd = -1;
	client->dialing = client->hung_up = false;
	client->watched = 0;
}

/* --- how a message ends ----------------------------------------------------------- */

static void note_failure(struct load *load, const struct client *client, enum failure failure, const char *detail)
{
	struct tally *tally = load->tally;
	if (failure == FAILURE_CONNECT)
		tally->connect_errors++;
	else
		tally->errors++;
	tally->failures[failure]++;
	if (tally->first_failure[0] == '\0')
		snprintf(tally->first_failure, sizeof tally->first_failure, "connection %" PRIu32 ", message %" PRIu64 ": %s%s%s",
		        client->id, client->sequence - (client->busy ? 1 : 0), failure_text(failure), detail[0] != '\0' ? ": " : "",
		        detail);
}

static void add_row(struct load *load, const struct client *client, uint64_t end_ns, bool ok)
{
	struct row row = {
		.client = client->id,
		.sequence = client->messages - 1,
		.start_ns = client->start_ns - load->start_ns,
		.latency_ns = end_ns - client->start_ns,
		.bytes = load->message->echo ? client->got_bytes : client->answer.body_bytes,
		.ok = ok,
	};
	rows_add(&load->rows, &row);
}

/* The clients of the opening, in which nothing is counted but what does not come about. */
static void opening_over(struct load *load, struct client *client, bool usable)
{
	load->opens_left--;
	/* A connection that is to be held is not replaced by another. */
	client->done = !usable && load->plan->mode == BENCH_HOLD;
}

void client_failed(struct load *load, struct client *client, enum failure failure, const char *detail)
{
	load->progress_ns = load->now_ns = clock_now_ns();
	if (load->opening || client->counted)
		note_failure(load, client, failure, detail);
	if (client->counted) {
		add_row(load, client, load->now_ns, false);
		load->tally->bytes_in += load->message->echo ? client->got_bytes : client->answer.body_bytes;
	}
	client->busy = client->counted = false;
	client_close(client);
	if (load->opening) {
		opening_over(load, client, false);
		return;
	}
	if (failure == FAILURE_CONNECT && load->tally->opened == 0 && load->tally->connect_errors >= load->n)
		load->refused = true;
	/* Not from here: a server that refuses each connection would be a recursion without end. */
	load_again(load, client, failure == FAILURE_CONNECT);
}

void client_failed_by(struct load *load, struct client *client, int error)
{
	client_failed(load, client, client->dialing ? FAILURE_CONNECT : FAILURE_RESET, strerror(error));
}

void client_answered(struct load *load, struct client *client)
{
	const struct message *message = load->message;
	struct tally *tally = load->tally;
	uint64_t now = load->progress_ns = load->now_ns = clock_now_ns();
	bool good = message->echo || (client->answer.status >= 200 && client->answer.status < 300);
	char status[16] = "";
	if (!good)
		snprintf(status, sizeof status, "%d", client->answer.status);
	if (!good && client->counted)
		note_failure(load, client, FAILURE_STATUS, status);
	if (good && client->counted) {
		tally->requests++;
		bench_histogram_record(&tally->latency, now - client->start_ns);
	}
	if (client->counted) {
		add_row(load, client, now, good);
		tally->bytes_in += message->echo ? client->got_bytes : client->answer.body_bytes;
		tally->bytes_out += message->body_bytes;
	}
	/* An answer that came before all was sent leaves the rest in the way of the next message. */
	bool goes_on = message->echo || (client->answer.keep_alive && !client->hung_up && client->sent_bytes == message_bytes(message));
	client->busy = client->counted = false;
	if ((load->plan->churn && !load->opening) || !goes_on)
		client_close(client);
	client->lost = client->fd >= 0 && client->hung_up;
	client->why_lost = FAILURE_CLOSED;
	if (load->opening)
		opening_over(load, client, true);
	else
		client_next(load, client);
}

void client_give_up(struct load *load, struct client *client)
{
	uint64_t left = load->plan->messages != UINT64_MAX && !load->opening ? load->plan->messages - client->messages : 0;
	bool unconnected = client->dialing || client->fd < 0;
	if (load->opening || client->counted)
		note_failure(load, client, unconnected ? FAILURE_CONNECT : FAILURE_MISSING, "no answer until the deadline");
	if (client->counted)
		add_row(load, client, load->now_ns, false);
	client->busy = client->counted = false;
	client_close(client);
	if (load->opening) {
		opening_over(load, client, false);
		return;
	}
	for (client->start_ns = load->now_ns; left > 0; left--) {
		client->got_bytes = client->answer.body_bytes = 0;
		client->messages++;
		note_failure(load, client, FAILURE_MISSING, "never sent");
		add_row(load, client, load->now_ns, false);
	}
	client->done = true;
	load->working--;
}

/* --- connecting ------------------------------------------------------------------- */

/* Sources are taken in turn, by each connection of each client. */
static int bind_source(const struct load *load, const struct client *client, int fd)
{
	const struct plan *plan = load->plan;
	return source_range_bind(&plan->sources, client->id + client->sequence * (plan->churn ? plan->clients : 0), fd);
}

static int watch(const struct load *load, struct client *client, uint32_t events)
{
	if ((client->watched & events) == events)
		return 0;
	struct epoll_event event = { .events = events | EPOLLRDHUP | EPOLLET, .data = { .ptr = client } };
	if (epoll_ctl(load->sleeper.epoll_fd, client->watched != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, client->fd, &event) < 0)
		return -errno;
	client->watched = events;
	return 0;
}

/* 0, or a negative errno. */
static int client_dial(struct load *load, struct client *client)
{
	const struct plan *plan = load->plan;
	const struct addr *target = &plan->target;
	client->dial_ns = clock_now_ns();
	client->dialing = true;
	client->lost = false;
	client->fd = socket(target->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return -errno;
	int rc = bind_source(load, client, client->fd);
	if (rc < 0)
		return rc;
	int on = 1;
	/* Only a matter of speed, and not there on unix sockets. */
	if (target->sa.sa_family != AF_UNIX && (!plan->churn || message_bytes(load->message) >= NODELAY_FROM_BYTES))
		(void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return connect(client->fd, &target->sa, target->length) < 0 && errno != EINPROGRESS ? -errno : 0;
}

static void client_dialed(struct load *load, struct client *client)
{
	client->dialing = false;
	load->tally->opened++;
	bench_histogram_record(&load->tally->connect, clock_now_ns() - client->dial_ns);
}

/* --- sending ---------------------------------------------------------------------- */

/* 0 when all was sent, -EAGAIN, or another negative errno. */
static int send_message(struct load *load, struct client *client)
{
	const struct message *message = load->message;
	uint64_t total = message_bytes(message);
	struct message_room room;
	while (client->sent_bytes < total) {
		struct iovec iov[MESSAGE_PIECES];
		int pieces = message_iov(message, client_message(client), client->sent_bytes, UINT64_MAX, &room, iov);
		struct msghdr header = { .msg_iov = iov, .msg_iovlen = (size_t)pieces };
		ssize_t sent = pieces == 1 ? send(client->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
		                           : sendmsg(client->fd, &header, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		if (client->dialing)
			client_dialed(load, client);
		client->sent_bytes += (uint64_t)sent;
	}
	return 0;
}

static void client_send(struct load *load, struct client *client)
{
	int rc = send_message(load, client);
	if (rc == -EAGAIN || rc == 0) {
		rc = watch(load, client, rc == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT);
		if (rc < 0)
			client_failed_by(load, client, -rc);
		return;
	}
	/* A server that refuses an upload answers and closes: the answer is worth more than the error. */
	uint64_t sequence = client->sequence;
	if (!load->message->echo && !client->dialing) {
		client->hung_up = true;
		client_receive(load, client);
	}
	if (client->busy && client->fd >= 0 && client->sequence == sequence)
		client_failed_by(load, client, -rc);
}

/* --- steps ------------------------------------------------------------------------ */

/* Something happened while no message was under way: the server closed, or spoke unasked. */
static void client_disturbed(struct load *load, struct client *client)
{
	ssize_t got = recv(client->fd, load->scratch, sizeof load->scratch, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	client_close(client);
	if (got > 0 && client->done)
		note_failure(load, client, FAILURE_UNASKED, "after the last message");
	/* HTTP servers may close idle connections; an echo may not. */
	client->lost = load->message->echo || got > 0;
	client->why_lost = got > 0 ? FAILURE_UNASKED : FAILURE_CLOSED;
}

static void client_begin(struct load *load, struct client *client, uint64_t start_ns)
{
	client->busy = true;
	client->start_ns = start_ns;
	client->counted = !load->opening && start_ns >= load->warm_ns;
	client->sequence++;
	client->messages += client->counted;
	client->sent_bytes = client->got_bytes = 0;
	answer_begin(&client->answer);
	if (client->lost) {
		client->lost = false;
		client_failed(load, client, client->why_lost, "while it was idle");
		return;
	}
	int rc = client->fd < 0 ? client_dial(load, client) : 0;
	if (rc < 0)
		client_failed_by(load, client, -rc);
	else
		client_send(load, client);
}

/* Begin the next message, if there is one and it is due. */
static void client_next(struct load *load, struct client *client)
{
	const struct plan *plan = load->plan;
	uint64_t due = load_due_ns(load, client);
	uint64_t start = plan->rate_per_s > 0 ? due : load->now_ns;
	if (client->messages >= plan->messages || start >= load->end_ns) {
		client->done = true;
		load->working--;
	} else if (due <= load->now_ns) {
		client_begin(load, client, start);
	}
}

void client_open(struct load *load, struct client *client)
{
	if (load->plan->mode == BENCH_HOLD) {
		client_begin(load, client, load->now_ns);
		return;
	}
	int rc = client_dial(load, client);
	if (rc == 0)
		rc = watch(load, client, EPOLLIN | EPOLLOUT);
	if (rc < 0)
		client_failed_by(load, client, -rc);
}

/* The kernel tells how connecting went. True when the connection is there. */
static bool client_dial_ended(struct load *load, struct client *client)
{
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0) {
		client_failed_by(load, client, error);
		return false;
	}
	client_dialed(load, client);
	load->progress_ns = load->now_ns;
	if (!client->busy && load->opening)
		opening_over(load, client, true);
	return true;
}

void client_on_events(struct load *load, struct client *client, uint32_t events)
{
	if (client->fd < 0)
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		client->hung_up = true;
	if (client->dialing && (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) || !client_dial_ended(load, client)))
		return;
	bool readable = (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	uint64_t sequence = client->sequence;
	if (client->busy && client->sent_bytes < message_bytes(load->message))
		client_send(load, client);
	if (!readable || client->fd < 0 || client->sequence != sequence)
		return;
	if (client->busy)
		client_receive(load, client);
	else
		client_disturbed(load, client);
}

void client_step(struct load *load, struct client *client)
{
	if (client->done || client->dialing)
		return;
	if (client->busy)
		client_receive(load, client);
	else
		client_next(load, client);
}
