#include "worker/room.h"

#include "net/conn.h"
#include "relay/buffers.h"
#include "relay/pipes.h"
#include "relay/relay.h"
#include "tcp/tcp.h"
#include "udp/udp.h"

enum { OWN_DESCRIPTORS = 16 }; /* standard streams, log, loop, channel, and some to spare */
enum { BUFFERS_MIN = 16 };

static size_t buffer_count(const struct config *config, uint32_t workers)
{
	size_t count = config->buffer_memory_bytes / RELAY_BUFFER_BYTES / workers;
	return count > BUFFERS_MIN ? count : BUFFERS_MIN;
}

/* Receive buffers: those of relays, which are theirs for a turn, and one for each hot connection whose server speaks first. Few where there
 * is little buffer_memory for a worker: there are pieces for as many more. */
static unsigned ring_buffer_count(const struct config *config, uint32_t workers)
{
	unsigned count = CONNS_RING_BUFFERS;
	while (count > CONNS_RING_BUFFERS_LEAST && count > config->buffer_memory_bytes / workers / 4 / CONNS_RING_BUFFER_BYTES)
		count /= 2;
	unsigned relays = count / 2;
	while (count < relays + tcp_hot_most(config) && count < CONNS_RING_BUFFERS_MOST)
		count *= 2;
	return count;
}

uint32_t worker_descriptors_each(const struct config *config)
{
	return (udp_is_wanted(config, PROTOCOL_TCP) ? 2U : 0) + (udp_is_wanted(config, PROTOCOL_UDP) ? 1U : 0);
}

/* One connection more than max_connections, which is the one to be rejected. Where there are both protocols, neither can take what the
 * other one needs. */
static uint32_t session_capacity(const struct config *config, uint64_t descriptors, uint64_t own)
{
	uint64_t by_descriptors = descriptors > own + 2 ? (descriptors - own) / worker_descriptors_each(config) : 1;
	uint64_t wanted = (uint64_t)config->max_connections + 1;
	return (uint32_t)(by_descriptors < wanted ? by_descriptors : wanted);
}

/* What is left for hot connections when all sessions have theirs; without anything left they use the room of sessions while it is free. */
static uint32_t hot_capacity(const struct config *config, uint64_t descriptors, uint64_t taken)
{
	uint64_t left = descriptors > taken ? descriptors - taken : 0;
	uint32_t most = tcp_hot_most(config);
	return left < most ? (uint32_t)left : most;
}

void worker_make_room(
        struct worker_room *out, const struct config *config, uint32_t workers, uint64_t descriptors, uint64_t sockets, uint64_t bells)
{
	out->buffers = buffer_count(config, workers);
	/* Pipes hold what slow readers have not taken, as buffers do. */
	out->pipes = pipes_share(workers, descriptors, out->buffers * RELAY_BUFFER_BYTES);
	uint64_t own = OWN_DESCRIPTORS + sockets + 2 * (uint64_t)out->pipes + house_box_descriptors(config) + bells;
	uint32_t capacity = session_capacity(config, descriptors, own);
	out->sessions = udp_is_wanted(config, PROTOCOL_TCP) ? capacity : 1;
	out->flows = udp_is_wanted(config, PROTOCOL_UDP) ? capacity : 0;
	out->hot = hot_capacity(config, descriptors, own + worker_descriptors_each(config) * (uint64_t)capacity);
	out->ring_buffers = ring_buffer_count(config, workers);
}

uint64_t worker_wanted_descriptors(const struct config *config)
{
	return worker_descriptors_each(config) * (uint64_t)config->max_connections + 64 + config->n_listeners + tcp_hot_most(config) +
	       house_box_descriptors(config);
}

uint64_t worker_room_bytes(const struct worker_room *room, const struct config *config)
{
	bool ring = config->engine != ENGINE_EPOLL;
	size_t pieces = ring ? RELAY_PIECES * (size_t)room->ring_buffers : 0;
	return buffers_bytes(room->buffers, pieces) + (ring ? (uint64_t)room->ring_buffers * CONNS_RING_BUFFER_BYTES : 0) +
	       (uint64_t)room->pipes * PIPE_BYTES + tcp_hot_bytes(room->hot);
}
