#include <errno.h>
#include <stdio.h>

#include "base/units.h"
#include "master/plan_checks.h"
#include "master/segment.h"
#include "net/dial.h"
#include "os/machine.h"
#include "os/privileges.h"
#include "tcp/tcp.h"
#include "udp/udp.h"
#include "worker/room.h"

enum { UNIT_SIZE = 32, MASTER_DESCRIPTORS = 32 };

static pid_t master_of(const struct plan_ground *ground)
{
	return ground->origin ? ground->origin->pid : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Of a start the limit is ours: raised as it would be, in this process alone. */
static uint64_t descriptors(const struct plan_ground *ground)
{
	uint64_t want = worker_wanted_descriptors(ground->after);
	return master_of(ground) ? machine_descriptors("", master_of(ground), want) : privileges_raise_descriptors(want);
}

static bool is_tcp(const struct listener_config *listener)
{
	return listener->endpoint.kind == ENDPOINT_ADDRESS && listener->endpoint.addr.sa.sa_family != AF_UNIX;
}

static size_t count_sockets(const struct plan_ground *ground, uint32_t each)
{
	size_t count = 0;
	for (size_t i = 0; i < ground->after->n_listeners; i++)
		count += is_tcp(&ground->after->listeners[i]) ? each : 1;
	return count;
}

static void check_descriptors(struct plan *plan, const struct plan_ground *ground)
{
	const struct plan_needs *needs = &plan->needs;
	const struct config *config = ground->after;
	/* The master has a socket for each listener and worker, a channel and a bell for each worker. */
	uint64_t master =
	        count_sockets(ground, ground->workers) + 2 * (uint64_t)ground->workers + house_box_descriptors(config) + MASTER_DESCRIPTORS;
	if (needs->descriptors == 0)
		return;
	if (master > needs->descriptors)
		plan_add(plan, PLAN_ERROR, "listeners",
		        "%zu listeners and %u workers take %llu descriptors, and the limit is %llu; raise LimitNOFILE= or `ulimit -n`, or "
		        "run "
		        "fewer workers",
		        config->n_listeners, ground->workers, (unsigned long long)master, (unsigned long long)needs->descriptors);
	else if (needs->connections < config->max_connections)
		plan_add(plan, PLAN_WARNING, "max_connections",
		        "the descriptor limit (%llu a worker) allows about %llu connections, fewer than %u; raise LimitNOFILE= or `ulimit "
		        "-n`, "
		        "or run more workers",
		        (unsigned long long)needs->descriptors, (unsigned long long)needs->connections, config->max_connections);
}

static void check_memory(struct plan *plan)
{
	const struct plan_needs *needs = &plan->needs;
	char total[UNIT_SIZE], have[UNIT_SIZE];
	if (needs->memory_bytes && needs->total_bytes > needs->memory_bytes)
		plan_add(plan, PLAN_WARNING, "max_connections",
		        "with buffer_memory and pools this can take %s, and %s has %s; lower max_connections, buffer_memory or pool.keep",
		        units_human_bytes(needs->total_bytes, total, sizeof total), needs->memory_is_cgroup ? "the cgroup" : "this machine",
		        units_human_bytes(needs->memory_bytes, have, sizeof have));
}

/* Where connections are to come from. The rights of another user cannot be tried. */
static void check_sources(struct plan *plan, const struct plan_ground *ground)
{
	char why[512], path[CONFIG_NAME_SIZE + 32];
	for (size_t i = 0; i < ground->after->n_upstreams; i++) {
		const struct upstream_config *upstream = &ground->after->upstreams[i];
		int error = dial_source_check(upstream, why, sizeof why);
		(void)snprintf(path, sizeof path, "upstreams.%s.source", upstream->name);
		if (error == -EPERM && !ground->same_rights)
			plan_add(plan, PLAN_NOTE, path, "cannot be tried by this user; ask as the user that started Aegis");
		else if (error)
			plan_add(plan, PLAN_ERROR, path, "%s", why);
	}
}

/* --- shared memory --------------------------------------------------------------------------------------------------------- */

enum { LEAST_WORKERS = 16 };

/* As the master makes it at a start. */
static struct shm_dims dims_of(const struct plan_ground *ground)
{
	uint32_t workers = ground->workers > LEAST_WORKERS ? ground->workers : LEAST_WORKERS;
	uint32_t draining = ground->after->drain.max_generations;
	if (ground->origin) {
		workers = ground->origin->max_workers;
		draining = ground->origin->max_draining;
	}
	return (struct shm_dims){
		.seats = workers * (draining + 3), .listeners = 2 * CONFIG_MAX_LISTENERS, .servers = 2 * CONFIG_MAX_SERVERS
	};
}

static uint64_t shared_bytes(const struct plan *plan, const struct plan_ground *ground)
{
	const struct config *config = ground->after;
	struct shm_dims dims = dims_of(ground);
	bool rates = false, affinities = false;
	for (size_t i = 0; i < config->n_listeners; i++)
		rates = rates || (config->listeners[i].rate_limit.connections_per_second &&
		                         config->listeners[i].rate_limit.per != RATE_LIMIT_PER_LISTENER);
	for (size_t i = 0; i < config->n_upstreams; i++)
		affinities = affinities || config->upstreams[i].affinity.ttl_ns;
	/* While one generation drains another one runs. */
	uint64_t seats = 2 * (uint64_t)ground->workers;
	return segment_bytes(&dims, plan->n_listeners, plan->n_servers, plan->n_upstreams, seats, rates, affinities) +
	       seats * segment_worker_bytes(config);
}

static void check_room(struct plan *plan, const struct plan_ground *ground)
{
	const struct config *config = ground->after;
	if (config->n_upstreams > SHM_UPSTREAMS)
		plan_add(plan, PLAN_ERROR, "upstreams", "there are %zu, and shared memory has room for %d", config->n_upstreams,
		        SHM_UPSTREAMS);
	if (!ground->origin)
		return;
	if (ground->workers > ground->origin->max_workers)
		plan_add(plan, PLAN_ERROR, "workers",
		        "the running instance has room for %u, and this asks for %u; restart Aegis to run more",
		        ground->origin->max_workers, ground->workers);
	if (config->drain.max_generations > ground->origin->max_draining)
		plan_add(plan, PLAN_WARNING, "drain.max_generations",
		        "the running instance has room for %u, and this asks for %u; restart Aegis to let more drain",
		        ground->origin->max_draining, config->drain.max_generations);
	uint64_t seats = (uint64_t)ground->origin->max_workers * (ground->origin->max_draining + 3);
	uint64_t taken = ground->snapshot ? ground->snapshot->n_workers : 0;
	if (plan->outcome == PLAN_NEW_GENERATION && taken + ground->workers > seats)
		plan_add(plan, PLAN_ERROR, "workers",
		        "%llu of %llu places for workers are taken by generations that drain; wait for them to end",
		        (unsigned long long)taken, (unsigned long long)seats);
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

static void add_up(struct plan *plan, const struct plan_ground *ground)
{
	struct plan_needs *needs = &plan->needs;
	const struct config *config = ground->after;
	struct worker_room room;
	uint32_t bells = ground->origin ? ground->origin->max_workers : dims_of(ground).seats / (config->drain.max_generations + 3);
	needs->descriptors = descriptors(ground);
	worker_make_room(&room, config, ground->workers, needs->descriptors ? needs->descriptors : worker_wanted_descriptors(config),
	        count_sockets(ground, 1), bells);
	needs->connections =
	        least((uint64_t)(room.flows > room.sessions ? room.flows : room.sessions) * ground->workers, config->max_connections);
	needs->per_worker_bytes = worker_room_bytes(&room, config);
	bool tcp = udp_is_wanted(config, PROTOCOL_TCP);
	needs->per_connection_bytes = tcp ? tcp_connection_bytes(config) : udp_session_bytes();
	needs->shared_bytes = shared_bytes(plan, ground);
	needs->total_bytes =
	        ground->workers * needs->per_worker_bytes + needs->connections * needs->per_connection_bytes + needs->shared_bytes;
	needs->memory_bytes = machine_memory("", master_of(ground), &needs->memory_is_cgroup);
}

void plan_check_needs(struct plan *plan, const struct plan_ground *ground)
{
	add_up(plan, ground);
	check_room(plan, ground);
	check_descriptors(plan, ground);
	check_sources(plan, ground);
	check_memory(plan);
}
