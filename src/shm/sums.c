#include "shm/sums.h"

static uint32_t at_most(uint32_t n, uint32_t most)
{
	return n < most ? n : most;
}

uint32_t sums_n_certificates(const struct shm *shm)
{
	return at_most(atomic_load_explicit(&shm->header->n_certificates, memory_order_acquire), SHM_CERTIFICATES);
}

uint32_t sums_n_listeners(const struct shm *shm)
{
	return at_most(atomic_load_explicit(&shm->header->n_listeners, memory_order_acquire), shm->dims.listeners);
}

uint32_t sums_n_servers(const struct shm *shm)
{
	return at_most(atomic_load_explicit(&shm->header->n_servers, memory_order_acquire), shm->dims.servers);
}

uint32_t sums_n_upstreams(const struct shm *shm)
{
	return at_most(atomic_load_explicit(&shm->header->n_upstreams, memory_order_acquire), SHM_UPSTREAMS);
}

void sums_add_listener(const struct shm *shm, uint32_t listener, struct listener_sum *sum)
{
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++) {
		if (!shm_seat_ever_used(shm, seat))
			continue;
		const struct listener_row *row = shm_listener_row(shm, seat, listener);
#define X(field, metric, help) sum->field += counter_get(&row->field);
		LISTENER_COUNTERS(X)
#undef X
		for (unsigned i = 0; i < N_REASONS; i++)
			sum->closes[i] += counter_get(&row->closes[i]);
#define X(field, metric, help) histogram_add(&sum->field, &row->field);
		LISTENER_HISTOGRAMS(X)
#undef X
	}
}

void sums_add_server(const struct shm *shm, uint32_t server, struct server_sum *sum)
{
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++) {
		if (!shm_seat_ever_used(shm, seat))
			continue;
		const struct server_row *row = shm_server_row(shm, seat, server);
#define X(field, metric, help) sum->field += counter_get(&row->field);
		SERVER_COUNTERS(X)
		SERVER_GAUGES(X)
#undef X
	}
}

uint64_t sums_closes(const struct listener_sum *sum, enum reason_class class)
{
	uint64_t closes = 0;
	for (unsigned i = 0; i < N_REASONS; i++)
		if (reason_class((enum reason)i) == class)
			closes += sum->closes[i];
	return closes;
}
