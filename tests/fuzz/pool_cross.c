/* Hot pools: can a byte of one client ever reach another one?
 *
 * usage: pool_cross [SECONDS [SEED]]
 *
 * The real sessions, pools, relays and engines of two workers, in one process, so that between two turns of the loop the clients and the
 * server do just one thing at a time: what was said when is certain, and any byte in the wrong place is a bug and no race. One world after
 * the other, each with settings of its own. Prints the seed of the world in which something was found. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/shm/segment.h"
#include "base/clock.h"
#include "os/ring_loop.h"
#include "pool_actors.h"
#include "tcp/tcp.h"
#include "tcp/wait.h"

enum { WORKERS = 2, ROOM = 64, STEPS = 4000, ENDING_TURNS = 2000 };
#define WORLD_NS (400 * NS_PER_MS)

struct world {
	struct chance chance;
	struct manners manners;
	struct loop *loop;
	struct ring *ring;
	struct ring_loop ring_loop;
	struct config *config;
	struct shm shm;
	struct box box;
	struct house house[WORKERS];
	struct tcp tcp[WORKERS];
	struct accept_socket sockets[WORKERS];
	char *scratch[WORKERS]; /* taken away, so that relays do without buffers */
	int server;
	struct loop_timer timer;
	uint64_t end_ns;
	uint32_t steps, ending;
	uint8_t next_tag;
	struct client clients[CLIENTS];
	struct peer peers[PEERS];
};

struct sums {
	uint64_t worlds, hits, kept, pinned, stale, retries, lent;
} sums;

/* A connection through which a byte goes after all the others: on one CPU the loopback delivers in the order in which was sent. */
static int last_in, last_out;

/* What was sent is delivered: without Nagle it is under way at once, and so it is before this byte. */
static void wait_for_delivery(void)
{
	char byte = 0;
	ensure(send(last_in, &byte, 1, MSG_NOSIGNAL) == 1 && recv(last_out, &byte, 1, 0) == 1);
}

static void send_at_once(int fd)
{
	ensure(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0);
}

static void stay_on_one_cpu(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	ensure(sched_setaffinity(0, sizeof one, &one) == 0);
}

static int listen_on_loopback(struct sockaddr_in *address)
{
	socklen_t length = sizeof *address;
	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ensure(fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0 && listen(fd, 512) == 0);
	ensure(getsockname(fd, (struct sockaddr *)address, &length) == 0);
	return fd;
}

static void open_last(void)
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address);
	last_in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ensure(last_in >= 0 && connect(last_in, (struct sockaddr *)&address, sizeof address) == 0);
	last_out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ensure(last_out >= 0);
	send_at_once(last_in);
	close(listener);
}

/* --- settings ---------------------------------------------------------------------------------------------------------------- */

static void load(struct world *world)
{
	static const char *const names[] = { "none", "http1", "redis", "line" };
	struct chance *chance = &world->chance;
	char text[768];
	bool share = chance_percent(chance, 40);
	(void)snprintf(text, sizeof text,
	        "listeners = ( { name = \"l\"; address = \"127.0.0.1:1\"; upstream = \"u\"; timeout = { idle = \"%ums\"; }; } );"
	        "upstreams = ( { name = \"u\"; servers = ( { address = \"127.0.0.1:2\"; } );"
	        "pool = { framing = \"%s\"; keep = %u; warm = %u; share = %s; max_idle = \"%ums\"; }; } );",
	        20 + chance_below(chance, 200), names[world->manners.kind], 1 + chance_below(chance, 4), chance_below(chance, 3),
	        share ? "true" : "false", 10 + chance_below(chance, 400));
	const char *overrides[] = { text };
	struct config_source source = { .overrides = overrides, .n_overrides = 1 };
	struct config_errors errors = { 0 };
	if (config_load(&source, &world->config, &errors)) {
		fprintf(stderr, "%s", errors.lines);
		exit(1);
	}
	world->box = (struct box){ -1, -1 };
	if (share)
		ensure(box_open(&world->box) == 0);
}

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

static void on_ring_lost(int error)
{
	ensure(error == 0);
}

static void use_ring(struct world *world)
{
	static const struct ring_shape shape = {
		.entries = 256, .completions = 1024, .buffers = CONNS_RING_BUFFERS, .buffer_bytes = CONNS_RING_BUFFER_BYTES
	};
	char why[160];
	world->ring = ring_new(&shape, why, sizeof why);
	if (!world->ring)
		return;
	ring_loop_join(&world->ring_loop, world->loop, world->ring, on_ring_lost);
}

static void before_sleep(void *arg)
{
	struct world *world = arg;
	for (int i = 0; i < WORKERS; i++)
		tcp_before_sleep(&world->tcp[i], house_before_sleep(&world->house[i]));
}

/* --- what happens ------------------------------------------------------------------------------------------------------------ */

static void client_comes(struct world *world, struct client *client)
{
	struct sockaddr_in address;
	socklen_t length = sizeof address;
	ensure(getsockname(world->sockets[chance_below(&world->chance, WORKERS)].fd, (struct sockaddr *)&address, &length) == 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ensure(fd >= 0 && connect(fd, (struct sockaddr *)&address, length) == 0);
	send_at_once(fd);
	client_begin(client, fd, world->next_tag, &world->manners, &world->chance);
	world->next_tag = (world->next_tag + 1) & 0x7f;
}

static void server_accepts(struct world *world)
{
	for (size_t i = 0; i < PEERS; i++) {
		if (world->peers[i].fd >= 0)
			continue;
		int fd = accept4(world->server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		send_at_once(fd);
		peer_begin(&world->peers[i], fd, &world->manners);
	}
}

static void act(struct world *world)
{
	struct client *client = &world->clients[chance_below(&world->chance, CLIENTS)];
	if (client->fd < 0 && chance_percent(&world->chance, 30))
		client_comes(world, client);
	else if (client->fd >= 0)
		client_act(client, &world->manners, &world->chance);
	server_accepts(world);
	uint32_t first = chance_below(&world->chance, PEERS);
	for (uint32_t i = 0; i < PEERS; i++) {
		struct peer *peer = &world->peers[(first + i) % PEERS];
		if (peer->fd < 0)
			continue;
		peer_act(peer, &world->manners, &world->chance);
		return;
	}
}

static bool is_empty(struct world *world)
{
	for (int i = 0; i < WORKERS; i++)
		if (world->tcp[i].sessions.in_use || world->house[i].conns.slab.in_use)
			return false;
	return true;
}

/* Everybody leaves; then nothing may be left. */
static void end_all(struct world *world)
{
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&world->clients[i]);
	for (int i = 0; i < WORKERS; i++) {
		acceptor_stop(&world->tcp[i].acceptor, true);
		house_end_all(&world->house[i], REASON_DRAIN_TIMEOUT);
		house_close_pools(&world->house[i]);
	}
}

static void on_step(struct loop_timer *timer)
{
	struct world *world = container_of(timer, struct world, timer);
	bool over = found || ++world->steps >= STEPS || loop_now_ns(world->loop) >= world->end_ns;
	if (over && world->ending++ == 0)
		end_all(world);
	if (over && (is_empty(world) || world->ending > ENDING_TURNS)) {
		loop_stop(world->loop);
		return;
	}
	for (uint32_t i = over ? 0 : 1 + chance_below(&world->chance, 3); i > 0; i--)
		act(world);
	wait_for_delivery();
	loop_timer_start(world->loop, timer, world->ending > 1 ? NS_PER_MS : 0);
}

/* --- from the first to the last turn ----------------------------------------------------------------------------------------- */

static void start_worker(
        struct world *world, uint32_t index, const uint32_t *listener_row, uint32_t upstream_row, const uint32_t *const *server_rows)
{
	static const struct box none = { -1, -1 };
	const struct box *boxes[] = { world->box.put_fd >= 0 ? &world->box : &none };
	const struct house_places places = {
		.listeners = listener_row, .upstreams = &upstream_row, .servers = server_rows, .boxes = boxes, .workers = WORKERS
	};
	struct sockaddr_in address;
	struct tcp *tcp = &world->tcp[index];
	world->sockets[index] = (struct accept_socket){ .fd = listen_on_loopback(&address) };
	const struct house_room room = tcp_room(world->config, ROOM, tcp_hot_most(world->config));
	ensure(house_init(&world->house[index], world->loop, world->ring, world->config, &places, &world->shm, index, &room, 0,
	               wait_serve) == 0);
	ensure(tcp_init(tcp, &world->house[index], world->ring, world->config, &places, ROOM, 8, 4, &world->sockets[index], 1) == 0);
	if (chance_percent(&world->chance, 15)) {
		tcp->engine.buffers.slab.capacity = tcp->engine.buffers.slab.in_use;
		world->scratch[index] = buffers_keep_scratch(&tcp->engine.buffers, 0, 0);
	}
	acceptor_start(&tcp->acceptor);
}

static void begin(struct world *world, uint64_t seed)
{
	static const enum framing_kind kinds[] = { FRAMING_HTTP1, FRAMING_HTTP1, FRAMING_REDIS, FRAMING_LINE };
	static const uint32_t manners[] = { 0, 2, 10, 30 };
	struct chance *chance = &world->chance;
	*world = (struct world){ .chance = { seed } };
	world->manners = (struct manners){ .kind = kinds[chance_below(chance, ARRAY_LEN(kinds))],
		.bad_client = manners[chance_below(chance, ARRAY_LEN(manners))],
		.bad_server = manners[chance_below(chance, ARRAY_LEN(manners))] };
	for (size_t i = 0; i < CLIENTS; i++)
		world->clients[i].fd = -1;
	for (size_t i = 0; i < PEERS; i++)
		world->peers[i].fd = -1;
	load(world);
	struct server_config *server = world->config->upstreams[0].servers;
	world->server = listen_on_loopback(&server->addrs[0].in);
	server->addrs[0].length = sizeof server->addrs[0].in;
	server->n_addrs = 1;
	world->loop = loop_new();
	ensure(world->loop);
	if (getenv("POOL_CROSS_VERBOSE"))
		fprintf(stderr, "seed %llu kind %d bad client %u bad server %u share %d\n", (unsigned long long)seed, world->manners.kind,
		        world->manners.bad_client, world->manners.bad_server, world->box.put_fd >= 0);
	if (chance_percent(chance, 50))
		use_ring(world);
	segment_make(&world->shm, WORKERS, 1, 1);
	uint32_t listener_row, upstream_row, server_row;
	ensure(shm_claim_listener(&world->shm, "l", &listener_row) == 0 && shm_claim_upstream(&world->shm, "u", &upstream_row) == 0 &&
	        shm_claim_server(&world->shm, "u", "s", &server_row) == 0);
	const uint32_t *const server_rows[] = { &server_row };
	for (uint32_t i = 0; i < WORKERS; i++)
		start_worker(world, i, &listener_row, upstream_row, server_rows);
	loop_on_turn(world->loop, before_sleep, world);
	loop_timer_init(&world->timer, on_step);
	loop_timer_start(world->loop, &world->timer, 0);
	world->end_ns = clock_now_ns() + WORLD_NS;
}

static void count(const struct world *world)
{
	sums.worlds++;
	for (uint32_t i = 0; i < WORKERS; i++) {
		const struct server_row *row = shm_server_row(&world->shm, i, 0);
		sums.hits += counter_get(&row->pool_hits);
		sums.kept += counter_get(&row->pool_kept);
		sums.pinned += counter_get(&row->pool_pinned);
		sums.stale += counter_get(&row->pool_stale);
		sums.retries += counter_get(&row->pool_stale_retries);
		uint32_t boxed = world->box.put_fd >= 0 ? box_count(&world->box) : 0;
		if (!found && (counter_get(&row->hot) || limit_used(&world->shm, limit_server(&world->shm, 0)) != boxed))
			found = "connections are counted that are not there any more";
	}
}

static void end(struct world *world)
{
	if (!found && !is_empty(world))
		found = "connections are left over";
	count(world);
	if (world->box.put_fd >= 0)
		sums.lent++;
	for (size_t i = 0; i < PEERS; i++)
		peer_close(&world->peers[i]);
	ring_free(world->ring);
	for (uint32_t i = 0; i < WORKERS; i++) {
		tcp_fini(&world->tcp[i]);
		house_fini(&world->house[i]);
		close(world->sockets[i].fd);
	}
	box_close(&world->box);
	close(world->server);
	loop_free(world->loop);
	segment_drop(&world->shm);
	config_free(world->config);
}

int main(int argc, char **argv)
{
	static struct world world;
	uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 4;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : clock_now_ns();
	uint64_t end_ns = clock_now_ns() + seconds * NS_PER_S;
	(void)signal(SIGPIPE, SIG_IGN);
	stay_on_one_cpu();
	open_last();
	do {
		begin(&world, seed);
		loop_run(world.loop);
		end(&world);
		if (found) {
			fprintf(stderr, "pool_cross: %s; once more with: pool_cross 1 %llu\n", found, (unsigned long long)seed);
			return 1;
		}
		seed += UINT64_C(0x9e3779b97f4a7c15);
	} while (clock_now_ns() < end_ns);
	printf("pool_cross: %llu worlds: %llu hits, %llu kept, %llu pinned, %llu stale, %llu retries; %llu bytes, each with its client\n",
	        (unsigned long long)sums.worlds, (unsigned long long)sums.hits, (unsigned long long)sums.kept,
	        (unsigned long long)sums.pinned, (unsigned long long)sums.stale, (unsigned long long)sums.retries,
	        (unsigned long long)tagged_bytes);
	if (sums.hits == 0 || sums.kept == 0) {
		fprintf(stderr, "pool_cross: no connection was used by two clients: this shows nothing\n");
		return 1;
	}
	return 0;
}
