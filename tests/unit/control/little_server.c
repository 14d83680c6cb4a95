#include "little_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { FLOOD_BYTES = 16 << 10 };

struct little_client {
	struct loop_io io;
	struct loop_timer timer; /* for the next byte */
	struct little_server *server;
	struct little_client *next;
	struct little_client **link;
	int fd;
	size_t said;
	bool speaks;
};

static void close_client(struct little_client *client)
{
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	client->server->open--;
	loop_timer_stop(client->server->loop, &client->timer);
	loop_io_stop(client->server->loop, &client->io);
	close(client->fd);
	free(client);
}

static void wish(struct little_client *client)
{
	assert_int_equal(loop_io_set(client->server->loop, &client->io, client->fd, LOOP_READ | (client->speaks ? LOOP_WRITE : 0)), 0);
}

static void say_rest(struct little_client *client)
{
	struct little_server *server = client->server;
	char flood[FLOOD_BYTES];

	while (client->said < server->length) {
		ssize_t n = send(client->fd, server->text + client->said, server->length - client->said, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		client->said += (size_t)n;
	}
	if (server->manner == FLOODS) {
		memset(flood, server->text[server->length - 1], sizeof flood);
		(void)!send(client->fd, flood, sizeof flood, MSG_NOSIGNAL);
		return;
	}
	client->speaks = false;
	if (server->manner == CLOSES)
		(void)shutdown(client->fd, SHUT_WR);
	wish(client);
}

static void on_trickle(struct loop_timer *timer)
{
	struct little_client *client = container_of(timer, struct little_client, timer);

	if (client->said == client->server->length)
		return;
	if (send(client->fd, client->server->text + client->said, 1, MSG_NOSIGNAL) == 1)
		client->said++;
	loop_timer_start(client->server->loop, &client->timer, 0); /* in the next turn */
}

static void begin_to_speak(struct little_client *client)
{
	if (client->server->manner == TRICKLES) {
		loop_timer_start(client->server->loop, &client->timer, 0);
	} else {
		client->speaks = true;
		wish(client);
	}
}

static void on_asked(struct little_client *client)
{
	const struct linger at_once = { .l_onoff = 1 };

	switch (client->server->manner) {
	case ANSWERS:
	case FLOODS:
	case CLOSES:
		begin_to_speak(client);
		return;
	case RESETS:
		assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
		close_client(client);
		return;
	default:
		return;
	}
}

static void on_client(struct loop_io *io, int events)
{
	struct little_client *client = container_of(io, struct little_client, io);
	struct little_server *server = client->server;

	if (events & LOOP_READ) {
		char bytes[256];
		ssize_t n = recv(client->fd, bytes, sizeof bytes, 0);
		size_t room = sizeof server->received - 1 - server->n_received;
		if (n <= 0) {
			server->ended += n == 0;
			server->reset += n < 0 && errno == ECONNRESET;
			close_client(client);
			return;
		}
		size_t kept = (size_t)n < room ? (size_t)n : room;
		memcpy(server->received + server->n_received, bytes, kept);
		server->n_received += kept;
		server->received[server->n_received] = '\0';
		if (client->said == 0 && !client->speaks) {
			on_asked(client);
			return;
		}
	}
	if (events & LOOP_WRITE && client->speaks)
		say_rest(client);
}

static void on_acceptable(struct loop_io *io, int events)
{
	struct little_server *server = container_of(io, struct little_server, io);
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	server->accepted++;
	if (server->manner == HANGS_UP) {
		close(fd);
		return;
	}
	struct little_client *client = calloc(1, sizeof *client);
	assert_non_null(client);
	client->fd = fd;
	client->server = server;
	client->next = server->clients;
	client->link = &server->clients;
	if (client->next)
		client->next->link = &client->next;
	server->clients = client;
	server->n_received = 0;
	server->open++;
	server->most_open = server->open > server->most_open ? server->open : server->most_open;
	loop_io_init(&client->io, on_client);
	loop_timer_init(&client->timer, on_trickle);
	wish(client);
	if (server->manner == SPEAKS || server->manner == TRICKLES)
		begin_to_speak(client);
}

static int bind_to(const char *address, struct addr *out)
{
	struct endpoint endpoint;
	const char *why;

	assert_int_equal(endpoint_parse(address, &endpoint, &why), 0);
	int fd = socket(endpoint.addr.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &endpoint.addr.sa, endpoint.addr.length), 0);
	struct sockaddr_storage bound;
	socklen_t length = sizeof bound;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &length), 0);
	addr_from_sockaddr(out, (struct sockaddr *)&bound, length);
	return fd;
}

void little_server_open(struct little_server *server, struct loop *loop, const char *address, int backlog)
{
	*server = (struct little_server){ .loop = loop, .manner = IGNORES };
	server->fd = bind_to(address, &server->addr);
	assert_int_equal(listen(server->fd, backlog), 0);
	loop_io_init(&server->io, on_acceptable);
}

void little_server_behave(struct little_server *server, enum manner manner, const char *text, size_t length)
{
	server->manner = manner;
	server->text = text;
	server->length = length;
	assert_int_equal(loop_io_set(server->loop, &server->io, server->fd, manner == IGNORES ? 0 : LOOP_READ), 0);
}

void little_server_close(struct little_server *server)
{
	while (server->clients)
		close_client(server->clients);
	loop_io_stop(server->loop, &server->io);
	close(server->fd);
}

struct addr address_of_nobody(void)
{
	struct addr addr;

	(void)bind_to("127.0.0.1:0", &addr); /* stays bound, so that nobody else takes it */
	return addr;
}

/* ---- waiting ---- */

static struct {
	struct loop_timer timer;
	struct loop *loop;
	condition_fn *condition;
	uint64_t end_ns;
	bool met;
} waiting;

static void on_look(struct loop_timer *timer)
{
	waiting.met = waiting.condition();
	if (waiting.met || loop_now_ns(waiting.loop) > waiting.end_ns)
		loop_stop(waiting.loop);
	else
		loop_timer_start(waiting.loop, timer, NS_PER_MS);
}

void run_until(struct loop *loop, condition_fn *condition, const char *what)
{
	loop_timer_init(&waiting.timer, on_look);
	waiting.loop = loop;
	waiting.condition = condition;
	waiting.end_ns = clock_now_ns() + 30 * NS_PER_S;
	loop_timer_start(loop, &waiting.timer, 0);
	loop_run(loop);
	if (!waiting.met)
		fail_msg("not within 30 s: %s", what);
}
