/* What a worker does at the word of the master, and when that is gone. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "os/channel.h"
#include "os/process.h"
#include "worker/own.h"

/* During an upgrade there are two masters with the same sockets: one of them died, the other one goes on. */
static bool another_master_lives(const struct worker *worker)
{
	const struct shm_header *header = worker->args->shm->header;
	const int32_t masters[] = { atomic_load(&header->master_pid), atomic_load(&header->heir_pid) };
	for (size_t i = 0; i < ARRAY_LEN(masters); i++)
		if (masters[i] > 0 && masters[i] != worker->args->master && !process_has_ended(masters[i]))
			return true;
	return false;
}

static void on_master_gone(struct worker *worker)
{
	const struct config *config = worker->args->config;
	bool refuse = !another_master_lives(worker);
	loop_io_stop(worker->loop, &worker->channel_io);
	/* Another one that starts later could not bind the ports of UDP as long as we have their sockets; one that lives reads from now on.
	 */
	for (uint32_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].protocol == PROTOCOL_UDP && refuse)
			udp_close(&worker->udp, i);
		else if (config->listeners[i].protocol == PROTOCOL_UDP)
			udp_yield(&worker->udp, i, true);
	log_error("the master is gone: %sdraining %u connections", refuse ? "refusing new clients, " : "", worker->house.n_visits);
	worker_drain(worker, refuse, config->drain.pace, config->drain.timeout_ns);
}

static void yield(struct worker *worker, const struct channel_message *message)
{
	for (uint32_t i = 0; i < worker->args->config->n_listeners; i++)
		if (worker->args->config->listeners[i].protocol == PROTOCOL_UDP && message_speaks_of(message, i))
			udp_yield(&worker->udp, i, message_names(message, i));
	worker_say(worker, MESSAGE_YIELDED, message->value);
	worker_end_when_done(worker);
}

static void close_listeners(struct worker *worker, const struct channel_message *message)
{
	for (uint32_t i = 0; i < worker->args->config->n_listeners; i++)
		if (worker->args->config->listeners[i].protocol == PROTOCOL_UDP && message_names(message, i))
			udp_close(&worker->udp, i);
	worker_end_when_done(worker);
}

static void renew_certificates(struct worker *worker, int fd)
{
	char why[256];
	if (worker->tls && fd >= 0 && tls_renew(worker->tls, fd, why, sizeof why))
		log_error("the certificates that were sent are not taken over, and the old ones stay: %s", why);
}

static void on_message(struct worker *worker, const struct channel_message *message, int fd)
{
	switch ((enum message)message->kind) {
	case MESSAGE_GO:
		atomic_store_explicit(&worker->seat->state, SEAT_RUNNING, memory_order_relaxed);
		worker_set_title(worker, "running");
		house_published(&worker->house);
		acceptor_start(&worker->tcp.acceptor);
		udp_start(&worker->udp);
		break;
	case MESSAGE_DRAIN:
	case MESSAGE_REFUSE:
		worker_drain(worker, message->kind == MESSAGE_REFUSE, message->value, message->value_ns);
		break;
	case MESSAGE_QUIT:
		worker->draining = true;
		house_end_all(&worker->house, REASON_DRAIN_TIMEOUT);
		house_close_pools(&worker->house);
		loop_stop(worker->loop);
		break;
	case MESSAGE_YIELD:
		yield(worker, message);
		break;
	case MESSAGE_CLOSE:
		close_listeners(worker, message);
		break;
	case MESSAGE_CERTIFICATES:
		renew_certificates(worker, fd);
		break;
	case MESSAGE_INBOX:
		transfer_inherit(&worker->udp, fd);
		return;
	case MESSAGE_READY:
	case MESSAGE_STOPPED:
	case MESSAGE_YIELDED:
		break;
	}
	if (fd >= 0)
		close(fd);
}

void worker_on_channel(struct loop_io *io, int events)
{
	struct worker *worker = container_of(io, struct worker, channel_io);
	struct channel_message message;
	int fd;
	(void)events;
	for (;;) {
		int error = channel_receive(worker->args->channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error == -EPIPE) {
			on_master_gone(worker);
			return;
		}
		if (error) {
			log_error("cannot take what the master sent: %s", strerror(-error));
			continue;
		}
		on_message(worker, &message, fd);
	}
}
