#include "view/snapshot.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "view/segment_copy.h"

/* A string of the segment: perhaps without an end, perhaps hostile. */
static void take_string(char *out, size_t size, const char *bytes, size_t n)
{
	char raw[512];
	ensure(n < sizeof raw);
	memcpy(raw, bytes, n);
	raw[n] = '\0';
	struct text text = text_of(out, size);
	text_add_printable(&text, raw);
}
#define TAKE_STRING(out, from) take_string((out), sizeof(out), (from), sizeof(from))

static void add_worker_row(struct worker_totals *totals, const struct shm_seat *seat)
{
#define X(field, metric, help) totals->field += counter_get(&seat->field);
	WORKER_COUNTERS(X)
#undef X
}

static void make_header(struct snapshot *snapshot, const struct shm_header *header, uint64_t now_ns)
{
	TAKE_STRING(snapshot->version, header->version);
	TAKE_STRING(snapshot->engine, header->engine);
	TAKE_STRING(snapshot->config_file, header->config_file);
	TAKE_STRING(snapshot->last_reload_note, header->last_reload_note);
	snapshot->state = atomic_load(&header->state);
	snapshot->master_pid = atomic_load(&header->master_pid);
	snapshot->generation = atomic_load(&header->generation);
	snapshot->workers_wanted = atomic_load(&header->workers);
	snapshot->started_ns = atomic_load(&header->started_ns);
	snapshot->uptime_ns = now_ns > snapshot->started_ns ? now_ns - snapshot->started_ns : 0;
	snapshot->last_reload_unix_s = atomic_load(&header->last_reload_unix_s);
	snapshot->last_reload_ok = atomic_load(&header->last_reload_ok) != 0;
#define X(field, metric, help) snapshot->master.field = counter_get(&header->field);
	MASTER_COUNTERS(X)
#undef X
}

static void make_listener(const struct shm *shm, uint32_t row, struct snapshot_listener *out)
{
	const struct shm_listener *listener = &shm->listeners[row];
	const struct limit *limit = shm_limit(shm, limit_listener(row));
	TAKE_STRING(out->name, listener->name);
	TAKE_STRING(out->address, listener->address);
	TAKE_STRING(out->upstream, listener->upstream);
	out->in_use = atomic_load(&listener->in_use) != 0;
	out->is_udp = atomic_load(&listener->is_udp) != 0;
	out->active = atomic_load(&limit->used);
	out->max = atomic_load(&limit->max);
	sums_add_listener(shm, row, &out->totals);
}

static void make_upstream(const struct shm *shm, uint32_t row, struct snapshot_upstream *out)
{
	const struct shm_upstream *upstream = &shm->upstreams[row];
	const struct limit *line = shm_limit(shm, limit_upstream(shm, row));
	TAKE_STRING(out->name, upstream->name);
	out->row = row;
	out->in_use = atomic_load(&upstream->in_use) != 0;
	out->waiting = atomic_load(&line->used);
	out->queue_max = atomic_load(&line->max);
	out->epoch = atomic_load(&upstream->epoch);
}

uint64_t snapshot_drops(const struct listener_sum *totals)
{
	uint64_t sum = 0;
#define DROP(X, field, name, text) sum += totals->udp_drop_##field;
	UDP_DROPS(DROP, )
#undef DROP
	return sum;
}

const struct snapshot_upstream *snapshot_upstream(const struct snapshot *snapshot, const char *name)
{
	for (size_t i = 0; i < snapshot->n_upstreams; i++)
		if (strcmp(snapshot->upstreams[i].name, name) == 0)
			return &snapshot->upstreams[i];
	return NULL;
}

static void take_addresses(const struct addresses *addresses, struct snapshot_server *out)
{
	struct addr found[ADDRESSES_MOST];
	uint32_t sequence = 0;
	size_t n;
	if (!addresses_read(addresses, &sequence, found, &n))
		return;
	for (size_t i = 0; i < n; i++)
		if (found[i].sa.sa_family == AF_INET || found[i].sa.sa_family == AF_INET6)
			addr_format(&found[i], out->addresses[out->n_addresses++], SNAPSHOT_IP_SIZE);
}

static void make_server(const struct shm *shm, uint32_t row, struct snapshot_server *out)
{
	const struct shm_server *server = &shm->servers[row];
	uint32_t flags = atomic_load(&server->flags);
	TAKE_STRING(out->upstream, server->upstream);
	TAKE_STRING(out->name, server->name);
	TAKE_STRING(out->address, server->address);
	take_addresses(&server->addresses, out);
	out->in_use = atomic_load(&server->in_use) != 0;
	out->backup = (flags & SHM_SERVER_BACKUP) != 0;
	out->disabled = (flags & SHM_SERVER_DISABLED) != 0;
	out->weight = atomic_load(&server->weight);
	out->soft_limit = atomic_load(&server->soft_limit);
	sums_add_server(shm, row, &out->totals);
	const struct limit *limit = shm_limit(shm, limit_server(shm, row));
	uint32_t held = atomic_load(&limit->used);
	out->max = atomic_load(&limit->max);
	out->totals.hot += atomic_load(&server->boxed);
	out->active = held > out->totals.hot ? held - (uint32_t)out->totals.hot : 0;
}

/* The longest turn lately; a loop that does not turn at all cannot tell, but its beat is late then. */
static uint64_t loop_lag(const struct shm_seat *seat, uint64_t now_ns)
{
	uint64_t lag_ns = atomic_load(&seat->loop_lag_ns);
	uint64_t due_ns = atomic_load(&seat->beat_ns) + NS_PER_S;
	if (atomic_load(&seat->state) == SEAT_STARTING || due_ns == NS_PER_S || now_ns <= due_ns)
		return lag_ns;
	return now_ns - due_ns > lag_ns ? now_ns - due_ns : lag_ns;
}

static void make_worker(const struct shm_seat *seat, uint64_t now_ns, struct snapshot_worker *out)
{
	out->state = atomic_load(&seat->state);
	out->pid = atomic_load(&seat->pid);
	out->slot = atomic_load(&seat->slot);
	out->generation = atomic_load(&seat->generation);
	out->cpu = atomic_load(&seat->cpu);
	out->connections = atomic_load(&seat->sessions);
	out->udp_sessions = atomic_load(&seat->udp_sessions);
	out->loop_lag_ns = loop_lag(seat, now_ns);
	add_worker_row(&out->totals, seat);
	uint64_t before = atomic_load(&seat->base_accepts);
	out->accepts = out->totals.accepts > before ? out->totals.accepts - before : 0;
}

static struct snapshot_slot *find_slot(struct snapshot *snapshot, uint32_t slot)
{
	for (size_t i = 0; i < snapshot->n_slots; i++)
		if (snapshot->slots[i].slot == slot)
			return &snapshot->slots[i];
	struct snapshot_slot *new = &snapshot->slots[snapshot->n_slots++];
	new->slot = slot;
	return new;
}

static void add_seat(struct snapshot *snapshot, const struct shm_seat *seat, uint64_t now_ns)
{
	struct snapshot_slot *slot = find_slot(snapshot, atomic_load(&seat->slot));
	add_worker_row(&slot->totals, seat);
	if (atomic_load(&seat->state) == SEAT_FREE)
		return;
	struct snapshot_worker *worker = &snapshot->workers[snapshot->n_workers++];
	make_worker(seat, now_ns, worker);
	slot->connections += worker->connections;
	snapshot->udp_sessions += worker->udp_sessions;
	if (worker->loop_lag_ns > slot->loop_lag_ns)
		slot->loop_lag_ns = worker->loop_lag_ns;
}

static int by_number(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_slot(const void *a, const void *b)
{
	const struct snapshot_slot *first = a, *second = b;
	return by_number(first->slot, second->slot);
}

static int by_slot_and_generation(const void *a, const void *b)
{
	const struct snapshot_worker *first = a, *second = b;
	int order = by_number(first->slot, second->slot);
	if (order == 0)
		order = by_number(first->generation, second->generation);
	return order != 0 ? order : by_number((uint64_t)first->pid, (uint64_t)second->pid);
}

/* Put the servers of an upstream side by side: upstreams in the order in which they appear first, as are servers. */
static int group_servers(struct snapshot *snapshot)
{
	size_t n = snapshot->n_servers, done = 0;
	struct snapshot_server *grouped = calloc(n + 1, sizeof *grouped);
	bool *taken = calloc(n + 1, sizeof *taken);
	for (size_t i = 0; grouped != NULL && taken != NULL && i < n; i++)
		for (size_t j = i; !taken[i] && j < n; j++) {
			/* The first one of the group is marked last: the loop asks for it. */
			if (taken[j] || strcmp(snapshot->servers[j].upstream, snapshot->servers[i].upstream) != 0)
				continue;
			grouped[done++] = snapshot->servers[j];
			taken[j] = j > i;
		}
	free(taken);
	if (done < n) {
		free(grouped);
		return -ENOMEM;
	}
	free(snapshot->servers);
	snapshot->servers = grouped;
	return 0;
}

static void make_listeners(struct snapshot *snapshot, const struct shm *shm, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (shm->listeners[i].name[0] == '\0')
			continue;
		struct snapshot_listener *listener = &snapshot->listeners[snapshot->n_listeners++];
		make_listener(shm, i, listener);
		snapshot->has_udp = snapshot->has_udp || (listener->is_udp && listener->in_use);
		sums_add_listener(shm, i, &snapshot->totals);
	}
}

static void make_upstreams(struct snapshot *snapshot, const struct shm *shm, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (shm->upstreams[i].name[0] != '\0')
			make_upstream(shm, i, &snapshot->upstreams[snapshot->n_upstreams++]);
}

static void make_servers(struct snapshot *snapshot, const struct shm *shm, uint32_t n, uint64_t now_ns)
{
	const struct snapshot_upstream *upstream = NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (shm->servers[i].name[0] == '\0')
			continue;
		struct snapshot_server *server = &snapshot->servers[snapshot->n_servers++];
		make_server(shm, i, server);
		/* Mostly the one of the row before. */
		if (upstream == NULL || strcmp(upstream->name, server->upstream) != 0)
			upstream = snapshot_upstream(snapshot, server->upstream);
		standing_make(&server->standing, &shm->servers[i], upstream ? &shm->upstreams[upstream->row] : NULL, now_ns);
	}
}

static void make_certificates(struct snapshot *snapshot, const struct shm *shm, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct shm_certificate *from = &shm->certificates[i];
		uint32_t row = atomic_load(&from->listener);
		struct snapshot_certificate *certificate = &snapshot->certificates[snapshot->n_certificates];
		if (row >= sums_n_listeners(shm))
			continue;
		TAKE_STRING(certificate->listener, shm->listeners[row].name);
		TAKE_STRING(certificate->name, from->name);
		if (certificate->name[0] == '\0') /* nobody wrote it */
			continue;
		certificate->not_before = atomic_load(&from->not_before);
		certificate->not_after = atomic_load(&from->not_after);
		snapshot->n_certificates++;
	}
}

static int make_lists(struct snapshot *snapshot, const struct shm *shm, uint64_t now_ns)
{
	uint32_t seats = shm->dims.seats, listeners = sums_n_listeners(shm), upstreams = sums_n_upstreams(shm),
	         servers = sums_n_servers(shm);
	snapshot->listeners = calloc((size_t)listeners + 1, sizeof *snapshot->listeners);
	snapshot->upstreams = calloc((size_t)upstreams + 1, sizeof *snapshot->upstreams);
	snapshot->servers = calloc((size_t)servers + 1, sizeof *snapshot->servers);
	snapshot->workers = calloc((size_t)seats + 1, sizeof *snapshot->workers);
	snapshot->slots = calloc((size_t)seats + 1, sizeof *snapshot->slots);
	uint32_t certificates = sums_n_certificates(shm);
	snapshot->certificates = calloc((size_t)certificates + 1, sizeof *snapshot->certificates);
	if (!snapshot->certificates || !snapshot->listeners || !snapshot->upstreams || !snapshot->servers || !snapshot->workers ||
	        !snapshot->slots)
		return -ENOMEM;
	make_listeners(snapshot, shm, listeners);
	make_certificates(snapshot, shm, certificates);
	make_upstreams(snapshot, shm, upstreams);
	make_servers(snapshot, shm, servers, now_ns);
	for (uint32_t i = 0; i < seats; i++)
		if (shm_seat_ever_used(shm, i))
			add_seat(snapshot, &shm->seats[i], now_ns);
	qsort(snapshot->slots, snapshot->n_slots, sizeof *snapshot->slots, by_slot);
	qsort(snapshot->workers, snapshot->n_workers, sizeof *snapshot->workers, by_slot_and_generation);
	return group_servers(snapshot);
}

int snapshot_make(const struct shm *shm, uint64_t now_ns, struct snapshot **out)
{
	struct snapshot *snapshot = calloc(1, sizeof *snapshot);
	if (snapshot == NULL)
		return -ENOMEM;
	make_header(snapshot, shm->header, now_ns);
	const struct limit *limit = shm_limit(shm, limit_global());
	snapshot->active = atomic_load(&limit->used);
	snapshot->max = atomic_load(&limit->max);
	snapshot->rate_evictions = rate_table_evictions(&shm->rates);
	snapshot->rate_unbooked = rate_table_unbooked(&shm->rates);
	snapshot->affinity_evictions = affinity_evictions(&shm->affinities);
	int rc = make_lists(snapshot, shm, now_ns);
	if (rc < 0) {
		snapshot_free(snapshot);
		return rc;
	}
	*out = snapshot;
	return 0;
}

int snapshot_read(const char *path, uint64_t now_ns, struct snapshot **out, char *why, size_t why_size)
{
	struct segment_copy copy;
	int rc = segment_copy_read(&copy, path, why, why_size);
	if (rc < 0)
		return rc;
	rc = snapshot_make(&copy.shm, now_ns, out);
	segment_copy_free(&copy);
	return rc;
}

void snapshot_free(struct snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	free(snapshot->listeners);
	free(snapshot->upstreams);
	free(snapshot->servers);
	free(snapshot->workers);
	free(snapshot->slots);
	free(snapshot->certificates);
	free(snapshot);
}
