#include "master/status.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "os/machine.h"
#include "os/notify.h"
#include "os/title.h"
#include "shm/limit.h"
#include "shm/sums.h"
#include "udp/udp.h"
#include "worker/room.h"

struct totals {
	uint64_t connections, rejected, errors, bytes;
};

static struct totals sum_up(const struct shm *shm)
{
	struct totals totals = { 0 };
	uint32_t listeners = sums_n_listeners(shm);
	for (uint32_t i = 0; i < listeners; i++) {
		struct listener_sum sum = { 0 };
		sums_add_listener(shm, i, &sum);
		totals.connections += sum.connections;
		totals.bytes += sum.received_bytes + sum.sent_bytes;
		totals.rejected += sums_closes(&sum, REASON_REJECTED);
		totals.errors += sums_closes(&sum, REASON_ERROR);
	}
	return totals;
}

/* A reader that stands still must not hold up the master. */
static bool takes_output(int fd)
{
	struct pollfd look = { .fd = fd, .events = POLLOUT };
	return poll(&look, 1, 0) > 0 && (look.revents & POLLOUT);
}

/* The same line as aegis-stat -l, each second that something is or was going on. */
static void print_live_line(struct master *master, const struct totals *totals, uint32_t active)
{
	uint64_t now_ns = clock_now_ns();
	double seconds = (double)(now_ns - master->live_ns) / (double)NS_PER_S;
	double gbps = master->live_ns && seconds > 0 ? (double)(totals->bytes - master->live_bytes) * 8 / seconds / 1e9 : 0;
	if (active || totals->bytes != master->live_bytes || totals->connections != master->live_connections) {
		if (!takes_output(STDOUT_FILENO))
			return;
		printf("%8u active | %6llu err | %6llu rej | %7.2f Gbps | %9.2f GB total\n", active, (unsigned long long)totals->errors,
		        (unsigned long long)totals->rejected, gbps, (double)totals->bytes / 1e9);
		fflush(stdout);
	}
	master->live_ns = now_ns;
	master->live_bytes = totals->bytes;
	master->live_connections = totals->connections;
}

void status_tick(struct master *master)
{
	const struct shm *shm = &master->shm;
	uint32_t active = limit_used(shm, limit_global());
	const char *state = instance_state_name(atomic_load(&shm->header->state));
	if (upgrade_is_replaced(master)) {
		title_set("aegis: old master, replaced by %d, draining", (int)atomic_load(&shm->header->master_pid));
		return;
	}
	if (master->guest || adopt_is_under_way(master))
		return;
	uint32_t generation = atomic_load(&shm->header->generation);
	title_set("aegis: master gen %u %s %u%s%s", generation, state, active, master->source.file ? " " : "",
	        master->source.file ? master->source.file : "");
	if (!notify_enabled() && !master->quick)
		return;
	struct totals totals = sum_up(shm);
	notify_send("STATUS=%s: generation %u, %u workers, %u connections, %llu accepted, %llu rejected, %llu errors", state, generation,
	        atomic_load(&shm->header->workers), active, (unsigned long long)totals.connections, (unsigned long long)totals.rejected,
	        (unsigned long long)totals.errors);
	if (master->quick)
		print_live_line(master, &totals, active);
}

static void log_listener(const struct generation *generation, size_t i)
{
	const struct listener_config *listener = &generation->config->listeners[i];
	char address[ADDR_TEXT_SIZE], routes[64] = "";
	addr_format(&generation->listeners[i]->bound, address, sizeof address);
	if (listener->n_routes > 0)
		snprintf(routes, sizeof routes, ", with %zu route%s by name", listener->n_routes, listener->n_routes == 1 ? "" : "s");
	if (listener->upstream == CONFIG_NO_UPSTREAM) {
		log_info(
		        "listening on %s (%s)%s", address, listener->name, listener->acme.only ? ", for challenges of ACME alone" : routes);
		return;
	}
	const struct upstream_config *upstream = &generation->config->upstreams[listener->upstream];
	log_info("listening on %s%s (%s) for upstream %s of %zu server%s%s", address, listener->protocol == PROTOCOL_UDP ? " by UDP" : "",
	        listener->name, upstream->name, upstream->n_servers, upstream->n_servers == 1 ? "" : "s", routes);
}

/* A port for each session, whatever its server and its worker: a datagram socket has it before it is connected. */
static void log_ports(const struct config *config, uint64_t possible)
{
	uint32_t ports = machine_local_ports("");
	if (ports && ports < possible)
		log_info("UDP sessions take a local port each, and there are %u (net.ipv4.ip_local_port_range), fewer than max_connections "
		         "= "
		         "%u; widen that range, or lower max_connections",
		        ports, config->max_connections);
}

static void log_room(const struct master *master, const struct config *config, uint32_t workers)
{
	bool tcp = udp_is_wanted(config, PROTOCOL_TCP), udp = udp_is_wanted(config, PROTOCOL_UDP);
	const char *what = tcp && udp ? "connections and as many UDP sessions" : udp ? "UDP sessions" : "connections";
	uint64_t per_worker = master->descriptors / worker_descriptors_each(config), all = per_worker * workers;
	log_info("max_connections %u; descriptor limit %llu a worker, enough for about %llu %s each", config->max_connections,
	        (unsigned long long)master->descriptors, (unsigned long long)per_worker, what);
	if (all < config->max_connections)
		log_info("the descriptor limit allows about %llu %s, fewer than max_connections = %u; raise LimitNOFILE= or "
		         "`ulimit -n`, or run more workers",
		        (unsigned long long)all, what, config->max_connections);
	if (udp)
		log_ports(config, all < config->max_connections ? all : config->max_connections);
}

void status_log_start(const struct master *master)
{
	const struct generation *generation = master->running;
	const struct config *config = generation->config;
	log_info("aegis %s: %u worker%s%s, engine %s, user %s", PACKAGE_VERSION, generation->n_workers,
	        generation->n_workers == 1 ? "" : "s", config->pin ? " (pinned)" : "", master->shm.header->engine, master->identity.user);
	for (size_t i = 0; i < config->n_listeners; i++)
		log_listener(generation, i);
	log_room(master, config, generation->n_workers);
}
