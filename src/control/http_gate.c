/* Where clients come in: who is accepted, who waits in the backlog, and who goes to make room. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/http_library.h"
#include "control/http_own.h"

#define SLOW_NS (2 * NS_PER_S)      /* without progress of an answer: then it may make room */
#define SILENT_NS (200 * NS_PER_MS) /* without a whole request: then it may make room */
#define PAUSE_NS (100 * NS_PER_MS)  /* without a descriptor or a place for the next client */

static void watch_gate(struct gate *gate)
{
	if (gate->fd < 0 || loop_timer_active(&gate->pause))
		return;
	if (loop_io_set(gate->http->loop, &gate->io, gate->fd, LOOP_READ))
		loop_timer_start(gate->http->loop, &gate->pause, PAUSE_NS);
}

static void pause_gate(struct gate *gate)
{
	loop_io_stop(gate->http->loop, &gate->io);
	loop_timer_start(gate->http->loop, &gate->pause, PAUSE_NS);
}

static void on_pause_over(struct loop_timer *timer)
{
	struct gate *gate = container_of(timer, struct gate, pause);
	gate->crowded = false;
	watch_gate(gate);
}

void http_gate_place_is_free(struct gate *gate)
{
	if (!gate->crowded)
		return;
	gate->crowded = false;
	loop_timer_stop(gate->http->loop, &gate->pause);
	watch_gate(gate);
}

static bool has_unread(int fd)
{
	int n = 0;
	return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

/* Then it is we who had no time to go on. */
static bool has_room(int fd)
{
	struct pollfd answer = { .fd = fd, .events = POLLOUT };
	return poll(&answer, 1, 0) > 0 && (answer.revents & POLLOUT);
}

static bool is_slow_reader(const struct connection *connection)
{
	const struct call *call = connection->call;
	return !connection->ending && call && call->response && !call->suspended &&
	       loop_now_ns(connection->http->loop) - call->progress_ns >= SLOW_NS && !has_room(connection->fd);
}

/* Whose request has come, or might be on its way, is not cut off: it was let in to be answered. */
static bool is_silent(const struct connection *connection)
{
	if (connection->ending || (connection->call && (connection->call->handled || connection->call->suspended)))
		return false;
	return loop_now_ns(connection->http->loop) - connection->waits_since_ns >= SILENT_NS && !has_unread(connection->fd);
}

/* Who waited longest for a request of theirs goes for who comes, and before those the ones that do not take their answers. NULL: nobody. */
static struct connection *find_dispensable(const struct gate *gate)
{
	struct connection *oldest = NULL;
	const struct http *http = gate->http;
	for (struct connection *connection = http->connections; connection; connection = connection->next) {
		if (&http->gates[connection->gate] != gate)
			continue;
		if (is_slow_reader(connection))
			return connection;
		if ((!oldest || connection->waits_since_ns <= oldest->waits_since_ns) && is_silent(connection))
			oldest = connection;
	}
	return oldest;
}

void http_gate_end_slow_readers(struct gate *gate)
{
	const struct http *http = gate->http;
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (&http->gates[connection->gate] == gate && is_slow_reader(connection))
			http_connection_end(connection);
}

static void admit(struct gate *gate, int fd, const struct sockaddr_storage *peer, socklen_t length)
{
	struct http *http = gate->http;
	struct connection *connection =
	        http->daemon || http_start_daemon(http) == 0 ? http_connection_new(http, (enum http_gate)(gate - http->gates), fd) : NULL;
	if (!connection) {
		close(fd);
		return;
	}
	/* It closes what it does not take. */
	if (mhd.add_connection(http->daemon, fd, (const struct sockaddr *)peer, length) == MHD_YES)
		return;
	connection = http_connection_find(http, fd);
	if (connection)
		http_connection_free(connection);
}

static void lack_descriptor(struct gate *gate, int error)
{
	uint64_t held_back;
	if (log_gate_open(&gate->http->trouble, loop_now_ns(gate->http->loop), &held_back))
		log_error("cannot accept clients of the admin API: %s", strerror(error));
	struct connection *dispensable = find_dispensable(gate);
	if (dispensable)
		http_connection_end(dispensable);
	pause_gate(gate);
}

static void on_client(struct loop_io *io, int events)
{
	struct gate *gate = container_of(io, struct gate, io);
	(void)events;
	for (int i = 0; i < HTTP_ACCEPTS_A_TURN && gate->fd >= 0; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t length = sizeof peer;
		struct connection *dispensable = gate->used >= HTTP_GATE_PLACES ? find_dispensable(gate) : NULL;
		if (gate->used >= HTTP_GATE_PLACES && !dispensable) {
			gate->crowded = true; /* the next one is let in when one of them is done */
			pause_gate(gate);
			break;
		}
		int fd = accept4(gate->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (dispensable)
				http_connection_end(dispensable);
			admit(gate, fd, &peer, length);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			lack_descriptor(gate, errno);
			break;
		}
		if (errno == EAGAIN)
			break;
	}
	if (gate->http->daemon)
		http_run(gate->http);
}

void http_gate_init(struct gate *gate, struct http *http)
{
	*gate = (struct gate){ .http = http, .fd = -1 };
	loop_io_init(&gate->io, on_client);
	loop_timer_init(&gate->pause, on_pause_over);
}

int http_open(struct http *http, enum http_gate which, int fd)
{
	struct gate *gate = &http->gates[which];
	ensure(gate->fd < 0);
	int error = loop_io_set(http->loop, &gate->io, fd, LOOP_READ);
	if (!error)
		gate->fd = fd;
	return error;
}

void http_gate_close(struct gate *gate)
{
	struct loop *loop = gate->http->loop;
	loop_io_stop(loop, &gate->io);
	loop_timer_stop(loop, &gate->pause);
	gate->fd = -1;
}
