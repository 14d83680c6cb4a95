/* Which sockets a worker reads: from the start on, while others do in its place, and until they are closed. */
#include <linux/sock_diag.h>
#include <string.h>
#include <unistd.h>

#include "udp/udp.h"

enum { LAST_BATCHES = 64 }; /* what waits in a socket when the end has come: more than any buffer holds, unless more comes all the time */

static bool is_read(const struct udp_socket *socket)
{
	return loop_io_events(&socket->io) != 0;
}

/* What clients sent faster than it was read. The number is the socket's, which outlives its workers: who sees it first has it counted. */
static void count_queue_drops(const struct udp_socket *socket)
{
	struct shm_listener *shared = &socket->udp->house->shm->listeners[socket->entrance->shm_row];
	uint32_t numbers[SK_MEMINFO_VARS];
	socklen_t length = sizeof numbers;
	if (socket->index >= SHM_SLOTS || getsockopt(socket->fd, SOL_SOCKET, SO_MEMINFO, numbers, &length) < 0 ||
	        length <= SK_MEMINFO_DROPS * sizeof *numbers)
		return;
	uint32_t now = numbers[SK_MEMINFO_DROPS];
	uint32_t before = atomic_exchange_explicit(&shared->queue_drops[socket->index], now, memory_order_relaxed);
	counter_add(&socket->entrance->row->udp_drop_client_queue, now >= before ? now - before : now); /* a new socket begins at 0 */
}

static void watch(struct udp_socket *socket)
{
	struct udp *udp = socket->udp;
	bool wanted = udp->runs && !socket->yielded && socket->fd >= 0;
	if (wanted == is_read(socket))
		return;
	if (!wanted) {
		count_queue_drops(socket);
		loop_io_stop(udp->loop, &socket->io);
		return;
	}
	int error = loop_io_set(udp->loop, &socket->io, socket->fd, LOOP_READ);
	if (error)
		log_error("listener %s: cannot wait for datagrams: %s", socket->entrance->config->name, strerror(-error));
}

void udp_start(struct udp *udp)
{
	udp->runs = true;
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		watch(&udp->sockets[i]);
}

static void take_what_waits(struct udp_socket *socket)
{
	for (uint32_t turn = 0; is_read(socket) && turn < LAST_BATCHES; turn++)
		udp_on_client(&socket->io, LOOP_READ);
}

void udp_refuse(struct udp *udp)
{
	for (uint32_t i = 0; !udp->refuses && i < udp->n_sockets; i++)
		take_what_waits(&udp->sockets[i]);
	udp->refuses = true;
}

bool udp_reads(const struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_read(&udp->sockets[i]))
			return true;
	return false;
}

static bool is_of(const struct udp_socket *socket, uint32_t listener)
{
	return socket->entrance == &socket->udp->entrances[listener];
}

void udp_yield(struct udp *udp, uint32_t listener, bool yielded)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++) {
		if (!is_of(&udp->sockets[i], listener))
			continue;
		udp->sockets[i].yielded = yielded;
		watch(&udp->sockets[i]);
	}
}

static void end_sessions(struct udp *udp, const struct entrance *entrance)
{
	for (struct visit *visit = udp->house->oldest, *next; visit; visit = next) {
		next = visit->next;
		if (visit->entrance == entrance)
			entrance->kind->end(visit, REASON_LISTENER_CLOSED);
	}
}

void udp_close(struct udp *udp, uint32_t listener)
{
	if (udp->n_sockets == 0)
		return;
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_of(&udp->sockets[i], listener))
			take_what_waits(&udp->sockets[i]);
	end_sessions(udp, &udp->entrances[listener]);
	udp_flush(udp);
	for (uint32_t i = 0; i < udp->n_sockets; i++) {
		struct udp_socket *socket = &udp->sockets[i];
		if (!is_of(socket, listener) || socket->fd < 0)
			continue;
		socket->yielded = true;
		watch(socket);
		close(socket->fd);
		socket->fd = -1;
	}
}

void udp_beat(struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		if (is_read(&udp->sockets[i]))
			count_queue_drops(&udp->sockets[i]);
	if (udp->n_sockets == 0)
		return; /* what it has for datagrams was never touched */
	batch_trim(&udp->arrivals);
	batch_trim(&udp->replies);
}
