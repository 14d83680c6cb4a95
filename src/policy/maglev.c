#include "policy/maglev.h"

#include <errno.h>
#include <string.h>

int maglev_init(struct maglev *maglev, uint32_t size, uint32_t max_servers)
{
	struct maglev new = { .size = size };
	ensure(size > 1 && max_servers <= MAGLEV_MAX_SERVERS);
	new.slots = calloc(size, sizeof *new.slots);
	new.new_slots = calloc(size, sizeof *new.new_slots);
	new.taken = calloc(size / 64 + 1, sizeof *new.taken);
	new.servers = calloc((size_t)max_servers + 1, sizeof *new.servers);
	new.queue = calloc((size_t)max_servers + 1, sizeof *new.queue);
	if (!new.slots || !new.new_slots || !new.taken || !new.servers || !new.queue) {
		maglev_fini(&new);
		return -ENOMEM;
	}
	*maglev = new;
	return 0;
}

void maglev_fini(struct maglev *maglev)
{
	free(maglev->slots);
	free(maglev->new_slots);
	free(maglev->taken);
	free(maglev->servers);
	free(maglev->queue);
	*maglev = (struct maglev){ 0 };
}

/* --- servers ------------------------------------------------------------------------------------------------------------- */

void maglev_begin(struct maglev *maglev)
{
	ensure(!maglev->making);
	maglev->others = false;
	maglev->n_before = maglev->n_servers;
	maglev->n_servers = 0;
}

void maglev_add(struct maglev *maglev, uint16_t id, uint32_t weight, uint64_t first_hash, uint64_t step_hash)
{
	struct maglev_server *server = &maglev->servers[maglev->n_servers++];
	struct maglev_server new = { .first = maglev_slot_of(maglev, first_hash),
		.step = (uint32_t)(step_hash % (maglev->size - 1)) + 1,
		.weight = weight,
		.id = id };
	if (server->id != id || server->weight != weight || server->first != new.first || server->step != new.step)
		maglev->others = true;
	*server = new;
}

void maglev_end(struct maglev *maglev)
{
	maglev->making = maglev->others || maglev->n_servers != maglev->n_before;
	maglev->n_taken = maglev->heaviest = 0;
	memset(maglev->taken, 0, (maglev->size / 64 + 1) * sizeof *maglev->taken);
	for (uint32_t i = 0; i < maglev->n_servers; i++) {
		struct maglev_server *server = &maglev->servers[i];
		server->likes = server->first;
		server->turns = 0;
		if (server->weight > maglev->heaviest)
			maglev->heaviest = server->weight;
		maglev->queue[i] = UINT64_C(1) << 16 | i; /* all have a turn in the first round; ascending, and so a heap */
	}
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

/* The front of the queue gets another place. */
static void queue_again(struct maglev *maglev, uint64_t moved)
{
	uint32_t place = 0;
	for (uint32_t child; (child = 2 * place + 1) < maglev->n_servers; place = child) {
		if (child + 1 < maglev->n_servers && maglev->queue[child + 1] < maglev->queue[child])
			child++;
		if (moved < maglev->queue[child])
			break;
		maglev->queue[place] = maglev->queue[child];
	}
	maglev->queue[place] = moved;
}

/* The next turn comes when the weight, gained in each round, has paid for the turns before: the heaviest's weight each. */
static uint64_t next_round(const struct maglev *maglev, const struct maglev_server *server, uint64_t round)
{
	uint64_t paid = ((uint64_t)server->turns * maglev->heaviest + server->weight - 1) / server->weight;
	return paid > round ? paid : round + 1;
}

/* Find the slot for whose turn it is. False when the budget does not suffice; it goes on there next time. */
static bool find_slot(const struct maglev *maglev, struct maglev_server *server, uint32_t *budget)
{
	while (*budget > 0) {
		uint32_t slot = server->likes;
		--*budget;
		if (!(maglev->taken[slot / 64] >> slot % 64 & 1))
			return true;
		server->likes = slot + server->step < maglev->size ? slot + server->step : slot + server->step - maglev->size;
	}
	return false;
}

static void take_slot(struct maglev *maglev, struct maglev_server *server)
{
	uint32_t slot = server->likes;
	maglev->taken[slot / 64] |= UINT64_C(1) << slot % 64;
	maglev->new_slots[slot] = server->id;
	maglev->n_taken++;
	server->turns++;
}

static void swap_tables(struct maglev *maglev)
{
	uint16_t *before = maglev->slots;
	maglev->slots = maglev->new_slots;
	maglev->new_slots = before;
	maglev->in_use = maglev->n_taken;
	maglev->making = false;
}

bool maglev_make(struct maglev *maglev, uint32_t *budget)
{
	if (!maglev->making)
		return false;
	while (maglev->n_servers > 0 && maglev->n_taken < maglev->size) {
		uint32_t front = maglev->queue[0] & UINT16_MAX;
		struct maglev_server *server = &maglev->servers[front];
		if (!find_slot(maglev, server, budget))
			return true;
		take_slot(maglev, server);
		queue_again(maglev, next_round(maglev, server, maglev->queue[0] >> 16) << 16 | front);
	}
	swap_tables(maglev);
	return false;
}
