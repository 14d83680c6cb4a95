#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_ring.h"
#include "net/dial.h"
#include "net/options.h"
#include "os/region.h"

int conns_init(struct conns *conns, struct loop *loop, struct ring *ring, size_t capacity, counter_t *starvations)
{
	void *region;
	*conns = (struct conns){ .loop = loop, .ring = ring, .starvations = starvations };
	int error = region_reserve(slab_region_bytes(sizeof(struct conn), capacity), &region);
	if (error)
		return error;
	slab_init(&conns->slab, region, sizeof(struct conn), capacity);
	return ring ? conns_ring_init(conns) : 0;
}

void conns_fini(struct conns *conns)
{
	conns_ring_fini(conns);
	if (conns->slab.region)
		region_close(conns->slab.region, slab_region_bytes(sizeof(struct conn), conns->slab.capacity));
	*conns = (struct conns){ 0 };
}

/* --- from open to close ---------------------------------------------------------------------------------------------------- */

static void on_ready(struct loop_io *io, int events)
{
	struct conn *conn = container_of(io, struct conn, io);
	conn->readable = conn->readable || (events & LOOP_READ);
	conn->ended = conn->ended || (events & LOOP_ENDED);
	conn->thorough = conn->thorough || (events & LOOP_URGENT);
	conn->event(conn, (unsigned)events & (CONN_READ | CONN_WRITE));
}

static void on_nothing(struct conn *conn, unsigned events)
{
	(void)conn;
	(void)events;
}

static struct conn *conn_new(struct conns *conns, int fd, bool local)
{
	struct conn *conn = slab_take(&conns->slab);
	if (!conn)
		return NULL;
	*conn = (struct conn){ .conns = conns, .event = on_nothing, .fd = fd, .thorough = local, .by_completion = conns->ring != NULL };
	if (conn->by_completion)
		conn_ring_init(conn);
	else
		loop_io_init(&conn->io, on_ready);
	return conn;
}

void conn_free(struct conn *conn)
{
	slab_give_back(&conn->conns->slab, conn);
}

struct conn *conn_adopt(struct conns *conns, int fd, bool local)
{
	return conn_new(conns, fd, local);
}

void conn_close(struct conn *conn, bool abort)
{
	if (abort)
		(void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1, .l_linger = 0 }, sizeof(struct linger));
	if (conn->by_completion) {
		conn_ring_close(conn);
		return;
	}
	loop_io_forget(conn->conns->loop, &conn->io);
	close(conn->fd);
	conn_free(conn);
}

void conn_close_at_once(struct conn *conn, bool abort)
{
	static const struct sockaddr none = { .sa_family = AF_UNSPEC };
	if (conn->passed || (conn->by_completion && conn_busy(conn))) /* or else closing the descriptor does it */
		(void)(abort ? connect(conn->fd, &none, sizeof none) : shutdown(conn->fd, SHUT_RDWR));
	conn_close(conn, abort);
}

int conn_detach(struct conn *conn)
{
	int fd = conn->fd;
	if (conn->by_completion)
		ensure(!conn_busy(conn) && conn->input == CONN_NO_BUFFER);
	else
		loop_io_stop(conn->conns->loop, &conn->io); /* as long as another process has it, the kernel forgets nothing by itself */
	conn_free(conn);
	return fd;
}

/* --- dialling -------------------------------------------------------------------------------------------------------------- */

int conn_dial(struct conns *conns, const struct addr *addr, const struct dial_source *source, const struct tcp_config *tcp, conn_fn *event,
        void *owner, struct conn **out)
{
	int fd = dial_open(addr, tcp);
	if (fd < 0)
		return fd;
	bool local = addr->sa.sa_family == AF_UNIX;
	int error = dial_bind(fd, addr->sa.sa_family, source);
	struct conn *conn = error ? NULL : conn_new(conns, fd, local);
	if (!error && !conn)
		error = -EMFILE;
	if (conn && conn->by_completion && !local) {
		conn_ring_connect(conn, addr);
		error = -EINPROGRESS;
	} else if (conn) {
		error = dial_connect(fd, addr);
		if (error == -EINPROGRESS && loop_io_set(conns->loop, &conn->io, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE))
			error = -ENOMEM;
	}
	if (error && error != -EINPROGRESS) {
		if (conn)
			conn_close(conn, false);
		else
			close(fd);
		return error;
	}
	conn->options_due = !local;
	conn_hand_over(conn, event, owner);
	*out = conn;
	return error;
}

int conn_dial_result(struct conn *conn)
{
	return conn->by_completion ? conn->result : dial_result(conn->fd);
}

void conn_set_options(struct conn *conn, const struct tcp_config *tcp)
{
	conn->options_due = false;
	options_set_late(conn->fd, tcp);
}

/* --- by readiness ---------------------------------------------------------------------------------------------------------- */

int conn_watch(struct conn *conn)
{
	int events = loop_io_events(&conn->io);
	return loop_io_set(conn->conns->loop, &conn->io, conn->fd, events | LOOP_READ | LOOP_EDGE);
}

int conn_want_room(struct conn *conn)
{
	int events = loop_io_events(&conn->io);
	return loop_io_set(conn->conns->loop, &conn->io, conn->fd, events | LOOP_WRITE | LOOP_EDGE);
}

void conn_use_readiness(struct conn *conn)
{
	ensure(!conn_busy(conn) && !conn->starved && conn->input == CONN_NO_BUFFER && conn->output == CONN_NO_BUFFER);
	bool ended = conn->input_end != CONN_OPEN;
	conn->by_completion = false;
	conn->readable = conn->ended = ended;
	loop_io_init(&conn->io, on_ready);
}

int conn_watch_instead(struct conn *conn)
{
	conn_receive_stop(conn);
	conn_use_readiness(conn);
	return conn_watch(conn);
}

void conn_use_completion(struct conn *conn)
{
	loop_io_stop(conn->conns->loop, &conn->io);
	conn_ring_init(conn);
}
