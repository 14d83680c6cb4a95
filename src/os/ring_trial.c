#include "os/ring_trial.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

struct trial {
	struct ring_port port;
	struct ring *ring;
	bool ended[RING_OPS]; /* the last call of the operation has come */
	int calls[RING_OPS];
	int result[RING_OPS]; /* of its last call */
	bool intact;          /* what was sent came back */
};

enum { TRIAL_TURN_MS = 100, TRIAL_TURNS = 20 };
static const char trial_bytes[] = "aegis";

static void on_trial(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer_id)
{
	struct trial *trial = container_of(port, struct trial, port);
	trial->ended[op] = !(flags & RING_MORE);
	trial->calls[op]++;
	trial->result[op] = result;
	if (op == RING_ACCEPT && result >= 0)
		close(result);
	if (!(flags & RING_BUFFER))
		return;
	trial->intact = result == sizeof trial_bytes && memcmp(ring_buffer(trial->ring, buffer_id), trial_bytes, sizeof trial_bytes) == 0;
	ring_buffer_give_back(trial->ring, buffer_id);
}

/* Wait for the operation's first call, or for its last. */
static bool await(struct trial *trial, enum ring_op op, bool last)
{
	for (int turn = 0; turn < TRIAL_TURNS && !(last ? trial->ended[op] : trial->calls[op] > 0); turn++)
		if (ring_wait(trial->ring, TRIAL_TURN_MS * INT64_C(1000000), NULL, NULL) < 0)
			return false;
	return last ? trial->ended[op] : trial->calls[op] > 0;
}

static bool failed(const char *what, int error, char *why, size_t why_size)
{
	snprintf(why, why_size, "does not work here: %s: %s", what, error ? strerror(error) : "no result");
	return false;
}

static bool cancel(struct trial *trial, enum ring_op op, const char *what, char *why, size_t why_size)
{
	ring_cancel(trial->ring, &trial->port, op);
	if (!await(trial, op, true) || trial->result[op] != -ECANCELED)
		return failed(what, trial->result[op] < 0 ? -trial->result[op] : 0, why, why_size);
	return true;
}

/* Takes fds[1] and closes it through the ring. */
static bool try_streams(struct trial *trial, const int fds[2], char *why, size_t why_size)
{
	char byte;
	ring_recv(trial->ring, &trial->port, fds[0], true);
	ring_send(trial->ring, &trial->port, fds[1], trial_bytes, sizeof trial_bytes);
	bool heard = await(trial, RING_SEND, true) && await(trial, RING_RECV, false);
	bool stopped = cancel(trial, RING_RECV, "cancelling a multishot receive", why, why_size);
	ring_close(trial->ring, fds[1]);
	if (ring_wait(trial->ring, 0, NULL, NULL) < 0)
		return failed("waiting", 0, why, why_size);
	if (trial->result[RING_SEND] != sizeof trial_bytes)
		return failed("sending", trial->result[RING_SEND] < 0 ? -trial->result[RING_SEND] : 0, why, why_size);
	if (!heard || !trial->intact)
		return failed("multishot receive", trial->result[RING_RECV] < 0 ? -trial->result[RING_RECV] : 0, why, why_size);
	if (stopped && recv(fds[0], &byte, 1, MSG_DONTWAIT) != 0)
		return failed("closing", 0, why, why_size);
	return stopped;
}

static bool try_accept(struct trial *trial, int listener, int client, char *why, size_t why_size)
{
	/* No name: the kernel picks one that is in no file system. */
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t length = sizeof name;
	if (bind(listener, (struct sockaddr *)&name, sizeof name.sun_family) < 0 || listen(listener, 1) < 0 ||
	        getsockname(listener, (struct sockaddr *)&name, &length) < 0)
		return failed("listening", errno, why, why_size);
	ring_accept(trial->ring, &trial->port, listener);
	ring_connect(trial->ring, &trial->port, client, (struct sockaddr *)&name, length);
	bool heard = await(trial, RING_CONNECT, true) && await(trial, RING_ACCEPT, false);
	int accepted = trial->result[RING_ACCEPT];
	bool stopped = cancel(trial, RING_ACCEPT, "cancelling a multishot accept", why, why_size);
	if (trial->result[RING_CONNECT] < 0)
		return failed("connecting", -trial->result[RING_CONNECT], why, why_size);
	if (!heard || accepted < 0)
		return failed("multishot accept", accepted < 0 ? -accepted : 0, why, why_size);
	return stopped;
}

bool ring_trial(struct ring *ring, char *why, size_t why_size)
{
	struct trial trial = { .port.fn = on_trial, .ring = ring };
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return failed("making sockets", errno, why, why_size);
	bool works = try_streams(&trial, fds, why, why_size);
	close(fds[0]);
	if (!works)
		return false;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	works = listener >= 0 && client >= 0 ? try_accept(&trial, listener, client, why, why_size)
	                                     : failed("making sockets", errno, why, why_size);
	if (client >= 0)
		close(client);
	if (listener >= 0)
		close(listener);
	return works;
}
