#include "udp/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "os/region.h"

enum { LEAVES = 4 }; /* where there are TCP listeners a part of max_connections is theirs alone */

/* --- to clients ---------------------------------------------------------------------------------------------------------------- */

void udp_make_due(struct udp_socket *socket)
{
	struct udp *udp = socket->udp;
	if (socket->is_due)
		return;
	socket->is_due = true;
	socket->next_due = udp->due;
	udp->due = socket;
}

static void flush_socket(struct udp_socket *socket)
{
	struct listener_row *row = socket->entrance->row;
	struct sending out = { 0 };
	(void)!outbox_send(&socket->outbox, socket->fd, false, &out); /* it drops what cannot be sent */
	counter_add(&row->udp_to_client, out.sent);
	counter_add(&row->sent_bytes, out.sent_bytes);
	if (unlikely(out.full + out.too_large + out.unreachable > 0)) {
		counter_add(&row->udp_drop_send_full, out.full);
		counter_add(&row->udp_drop_too_large, out.too_large);
		counter_add(&row->udp_drop_unreachable, out.unreachable);
	}
}

void udp_flush(struct udp *udp)
{
	while (udp->due) {
		struct udp_socket *socket = udp->due;
		udp->due = socket->next_due;
		socket->is_due = false;
		flush_socket(socket);
	}
	batch_clear(&udp->replies);
}

/* --- deadlines ----------------------------------------------------------------------------------------------------------------- */

static void on_due(struct wheel_entry *entry, void *arg)
{
	(void)arg;
	flow_due(container_of(entry, struct flow, timer));
}

static void on_wheel_timer(struct loop_timer *timer)
{
	struct udp *udp = container_of(timer, struct udp, wheel_timer);
	udp->wheel_timer_ns = WHEEL_NEVER;
	wheel_advance(&udp->wheel, loop_now_ns(udp->loop), on_due, NULL);
}

void udp_before_sleep(struct udp *udp)
{
	uint64_t now_ns = loop_now_ns(udp->loop), next_ns = wheel_next_ns(&udp->wheel);
	if (udp->due)
		udp_flush(udp);
	if (next_ns >= udp->wheel_timer_ns)
		return;
	udp->wheel_timer_ns = next_ns;
	loop_timer_start(udp->loop, &udp->wheel_timer, next_ns > now_ns ? next_ns - now_ns : 0);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------------ */

void udp_count_sessions(const struct udp *udp)
{
	atomic_store_explicit(&udp->house->seat_row->udp_sessions, (uint32_t)udp->flows.in_use, memory_order_relaxed);
}

uint64_t udp_session_bytes(void)
{
	return sizeof(struct flow) + 2 * sizeof(struct flow_place);
}

bool udp_is_wanted(const struct config *config, enum protocol protocol)
{
	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].protocol == protocol)
			return true;
	return false;
}

static int init_listeners(struct udp *udp, const struct config *config, const struct house_places *places)
{
	udp->entrances = calloc(config->n_listeners, sizeof *udp->entrances);
	if (!udp->entrances)
		return -ENOMEM;
	udp->n_listeners = (uint32_t)config->n_listeners;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		if (listener->protocol != PROTOCOL_UDP)
			continue;
		int error = entrance_init(&udp->entrances[i], udp->house, &flow_kind, listener, places->listeners[i]);
		if (error)
			return error;
		udp->entrances[i].leaves = udp_is_wanted(config, PROTOCOL_TCP) ? LEAVES : 0;
	}
	return 0;
}

static struct addr bound_to(int fd)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	struct addr own = { 0 };
	if (getsockname(fd, (struct sockaddr *)&name, &length) == 0)
		addr_from_sockaddr(&own, (const struct sockaddr *)&name, length);
	return own;
}

static int init_sockets(struct udp *udp, const struct udp_place *places, uint32_t n)
{
	udp->sockets = calloc(n, sizeof *udp->sockets);
	if (!udp->sockets)
		return -ENOMEM;
	for (; udp->n_sockets < n; udp->n_sockets++) {
		struct udp_socket *socket = &udp->sockets[udp->n_sockets];
		const struct udp_place *place = &places[udp->n_sockets];
		*socket = (struct udp_socket){ .udp = udp,
			.entrance = &udp->entrances[place->listener],
			.fd = place->fd,
			.own = bound_to(place->fd),
			.index = place->index,
			.listener_hash = place->listener_hash,
			.seed = { udp->seed[0] ^ place->listener_hash, udp->seed[1] },
			.any_address = place->any_address,
			.gets_copies = place->gets_copies };
		loop_io_init(&socket->io, udp_on_client);
		int error = outbox_init(&socket->outbox, &udp->features);
		if (error)
			return error;
	}
	return 0;
}

static int init_memory(struct udp *udp, uint32_t capacity)
{
	void *region;
	int error = region_reserve(slab_region_bytes(sizeof(struct flow), capacity), &region);
	if (error)
		return error;
	slab_init(&udp->flows, region, sizeof(struct flow), capacity);
	error = flow_table_init(&udp->table, capacity);
	if (!error)
		error = batch_init(&udp->arrivals, &udp->features, true);
	if (!error)
		error = batch_init(&udp->replies, &udp->features, false);
	if (!error)
		error = outbox_init(&udp->run, &udp->features);
	return error;
}

/* Nobody outside shall be able to tell which sessions share a place. */
static void make_seed(uint64_t seed[2])
{
	if (getrandom(seed, 2 * sizeof *seed, GRND_NONBLOCK) == 2 * (ssize_t)sizeof *seed)
		return;
	uint64_t state = clock_now_ns();
	seed[0] = hash_next(&state);
	seed[1] = hash_next(&state);
}

int udp_init(struct udp *udp, struct house *house, const struct config *config, const struct house_places *places, uint32_t capacity,
        const struct udp_place *sockets, uint32_t n_sockets, const struct udp_post *post)
{
	udp->house = house;
	udp->loop = house->loop;
	udp->wheel_timer_ns = WHEEL_NEVER;
	wheel_init(&udp->wheel, loop_now_ns(udp->loop));
	loop_timer_init(&udp->wheel_timer, on_wheel_timer);
	if (n_sockets == 0)
		return 0;
	datagram_probe(&udp->features);
	if (post->flows)
		memcpy(udp->seed, post->flows->shared->seed, sizeof udp->seed);
	else
		make_seed(udp->seed);
	int error = init_memory(udp, capacity);
	if (!error)
		error = transfer_init(udp, post);
	if (!error)
		error = init_listeners(udp, config, places);
	if (!error)
		error = init_sockets(udp, sockets, n_sockets);
	if (error)
		udp_fini(udp);
	return error;
}

void udp_fini(struct udp *udp)
{
	for (uint32_t i = 0; i < udp->n_sockets; i++)
		outbox_fini(&udp->sockets[i].outbox);
	free(udp->sockets);
	for (uint32_t i = 0; i < udp->n_listeners; i++)
		entrance_fini(&udp->entrances[i]);
	free(udp->entrances);
	outbox_fini(&udp->run);
	transfer_fini(udp);
	batch_fini(&udp->arrivals);
	batch_fini(&udp->replies);
	flow_table_fini(&udp->table);
	if (udp->flows.region)
		region_close(udp->flows.region, slab_region_bytes(udp->flows.object_bytes, udp->flows.capacity));
	*udp = (struct udp){ 0 };
}
