/* One connection of a client: what the server knows of it besides what libmicrohttpd does. See http.h for its states. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "control/http_library.h"
#include "control/http_own.h"

#define REQUEST_NS (10 * NS_PER_S) /* for a request to come, and between two of them */

void http_connection_end(struct connection *connection)
{
	connection->ending = true;
	(void)shutdown(connection->fd, SHUT_RDWR);
}

static void on_deadline(struct loop_timer *timer)
{
	http_connection_end(container_of(timer, struct connection, deadline));
}

void http_connection_wait(struct connection *connection)
{
	connection->waits_since_ns = loop_now_ns(connection->http->loop);
	loop_timer_start(connection->http->loop, &connection->deadline, REQUEST_NS);
}

struct connection *http_connection_new(struct http *http, enum http_gate gate, int fd)
{
	struct connection *connection = calloc(1, sizeof *connection);
	if (!connection)
		return NULL;
	*connection = (struct connection){ .http = http, .gate = gate, .fd = fd, .next = http->connections, .link = &http->connections };
	if (connection->next)
		connection->next->link = &connection->next;
	http->connections = connection;
	http->gates[gate].used++;
	loop_timer_init(&connection->deadline, on_deadline);
	http_connection_wait(connection);
	return connection;
}

struct connection *http_connection_find(const struct http *http, int fd)
{
	struct connection *connection = http->connections;
	while (connection && connection->fd != fd)
		connection = connection->next;
	return connection;
}

void http_connection_free(struct connection *connection)
{
	struct http *http = connection->http;
	struct gate *gate = &http->gates[connection->gate];
	loop_timer_stop(http->loop, &connection->deadline);
	*connection->link = connection->next;
	if (connection->next)
		connection->next->link = connection->link;
	gate->used--;
	free(connection);
	http_gate_place_is_free(gate);
	http_look_whether_idle(http);
}

void http_on_connection(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_ConnectionNotificationCode code)
{
	struct http *http = arg;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*slot)
			http_connection_free(*slot);
		return;
	}
	const union MHD_ConnectionInfo *fact = mhd.get_connection_info(mhd_connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	*slot = fact ? http_connection_find(http, fact->connect_fd) : NULL;
}

struct connection *http_connection_of(struct MHD_Connection *mhd_connection)
{
	const union MHD_ConnectionInfo *fact = mhd.get_connection_info(mhd_connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return fact ? fact->socket_context : NULL;
}
