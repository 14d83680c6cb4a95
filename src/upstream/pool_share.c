/* Lending idle connections to other workers, through a box (box.h).
 *
 * Of `keep`, each worker holds the half of its share by itself; the rest is the box's, so that there are never more than `keep` in all. A
 * boxed connection is nobody's: its place in the server's limit stays taken, in no worker's ledger (limit_pass_begin()), so that a worker
 * that dies takes nothing with it. Who takes it out has the place, too; clients that need one for a connection of their own may close it
 * for that.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/hash.h"
#include "upstream/pool_states.h"
#include "upstream/upstream.h"

enum { TRIES = 8, SWEEP = 4 };

static_assert((int)ADDRESSES_MOST <= (int)SERVER_MAX_ADDRESSES, "there is a hash for each");

static uint32_t address_hash(const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text, sizeof text);
	uint64_t hash = hash_bytes(HASH_START, text, strlen(text));
	return (uint32_t)(hash ^ hash >> 32);
}

/* The name may have got other addresses. */
static void hash_addresses(struct pool *pool)
{
	struct server *server = pool->server;
	(void)server_addr(server);
	uint32_t version = server->name ? server->name->sequence + 1 : 1; /* sequences are even */
	if (pool->addresses_version == version)
		return;
	pool->addresses_version = version;
	for (size_t i = 0; i < server->n_addrs; i++)
		pool->addresses[i] = address_hash(&server->addrs[i]);
}

void pool_share_init(struct pool *pool, const struct box *box, uint32_t workers)
{
	pool->own_keep = pool->config->pool.keep;
	if (!box || box->put_fd < 0)
		return;
	pool->box = box;
	pool->own_keep = pool->config->pool.keep / (2 * workers);
	pool->box_keep = pool->config->pool.keep - pool->own_keep * workers;
	hash_addresses(pool);
}

/* For the statistics; who looks last is right. */
static uint32_t count_box(const struct pool *pool)
{
	uint32_t count = box_count(pool->box);
	atomic_store_explicit(&pool->shared_row->boxed, count, memory_order_relaxed);
	return count;
}

static bool describe(const struct pool *pool, int fd, struct boxed *out)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof peer;
	struct addr addr;
	if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
		return false; /* it is broken */
	addr_from_sockaddr(&addr, (const struct sockaddr *)&peer, length);
	*out = (struct boxed){ .address = address_hash(&addr), .framing = pool->config->pool.framing, .since_ns = clock_now_ns() };
	return true;
}

/* With its place, which is this worker's or the box's. */
static int take_from_box(struct pool *pool, struct boxed *out, int *fd)
{
	struct pools *pools = pool->pools;
	limit_pass_begin(pools->shm, pools->seat);
	int error = box_take(pool->box, out, fd);
	limit_pass_end(pools->shm, pools->seat, pool->server->limit, !error || error == -EPROTO);
	if (error == -EPROTO) /* the connection is closed */
		upstream_free_place(pool->server);
	return error;
}

static bool put_into_box(struct pool *pool, const struct boxed *boxed, int fd)
{
	struct pools *pools = pool->pools;
	limit_pass_begin(pools->shm, pools->seat);
	int error = box_put(pool->box, boxed, fd);
	limit_pass_end(pools->shm, pools->seat, pool->server->limit, error ? 0 : -1);
	return !error;
}

static void close_place(struct pool *pool, int fd)
{
	shutdown(fd, SHUT_RDWR); /* who left it there may not have closed his own yet */
	close(fd);
	upstream_free_place(pool->server);
}

bool pool_drop_boxed(struct pool *pool)
{
	struct boxed boxed;
	int fd;
	bool dropped = take_from_box(pool, &boxed, &fd) == 0;
	if (dropped)
		close_place(pool, fd);
	(void)count_box(pool);
	return dropped;
}

bool pool_lend(struct pool *pool, struct conn *conn)
{
	struct boxed boxed;
	bool fits = count_box(pool) < pool->box_keep && describe(pool, conn->fd, &boxed);
	int fd = conn_detach(conn);
	if (!fits || !put_into_box(pool, &boxed, fd)) {
		close_place(pool, fd);
		return false;
	}
	close(fd);
	if (count_box(pool) > pool->box_keep)
		(void)pool_drop_boxed(pool);       /* another worker had seen the same last place */
	line_freed(&pool->server->upstream->line); /* who waits may take it, or have it closed */
	return true;
}

/* Is it one for this pool, and not too old? */
static bool is_ours(struct pool *pool, const struct boxed *boxed, uint64_t now_ns)
{
	uint64_t max_idle_ns = pool->config->pool.max_idle_ns;
	if (boxed->framing != (uint32_t)pool->config->pool.framing)
		return false;
	if (max_idle_ns && now_ns > boxed->since_ns && now_ns - boxed->since_ns >= max_idle_ns)
		return false;
	hash_addresses(pool);
	for (size_t i = 0; i < pool->server->n_addrs; i++)
		if (pool->addresses[i] == boxed->address)
			return true;
	return false;
}

static bool is_quiet(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* The next good one in the box, with its place: its descriptor, or -1. */
static int take_good(struct pool *pool, uint32_t tries, struct boxed *boxed)
{
	uint64_t now_ns = loop_now_ns(pool->pools->loop);
	int fd;
	for (uint32_t i = 0; i < tries && take_from_box(pool, boxed, &fd) == 0; i++) {
		bool ours = is_ours(pool, boxed, now_ns);
		if (ours && is_quiet(fd))
			return fd;
		counter_add(&pool->server->row->pool_stale, ours);
		close_place(pool, fd);
	}
	return -1;
}

/* What former clients sent over it, all of which is acknowledged. */
static uint64_t sent_so_far(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof info;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 || info.tcpi_bytes_acked == 0)
		return 0;
	return info.tcpi_bytes_acked - 1; /* the SYN counts */
}

bool pool_borrow(struct pool *pool, struct hot_conn *out)
{
	struct pools *pools = pool->pools;
	struct boxed boxed;
	if (conns_room(pools->conns) == 0)
		return false;
	int fd = take_good(pool, TRIES, &boxed);
	if (fd < 0)
		return false;
	bool local = pool->server->addrs[0].sa.sa_family == AF_UNIX;
	*out = (struct hot_conn){ .conn = conn_adopt(pools->conns, fd, local), .sent_bytes = sent_so_far(fd), .used = true };
	ensure(out->conn);
	out->conn->passed = true;
	(void)count_box(pool);
	return true;
}

void pool_sweep_box(struct pool *pool)
{
	struct boxed boxed;
	uint32_t count = count_box(pool);
	for (uint32_t i = 0; i < SWEEP && i < count; i++) {
		int fd = take_good(pool, 1, &boxed);
		if (fd < 0)
			continue;
		if (put_into_box(pool, &boxed, fd))
			close(fd);
		else
			close_place(pool, fd);
	}
	if (count)
		(void)count_box(pool);
}
