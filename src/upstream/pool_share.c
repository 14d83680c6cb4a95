/* Lending idle connections to other workers, through a box (box.h).
 *
 * Of `keep`, each worker holds the half of its share by itself; the rest is the box's, so that there are never more than `keep` in all. A
 * boxed connection is nobody's: it has no place in the server's limit and is in no worker's counts, so that a worker that dies takes
 * nothing with it; who takes it out reserves a place again.
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

static uint32_t address_hash(const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text, sizeof text);
	uint64_t hash = hash_bytes(HASH_START, text, strlen(text));
	return (uint32_t)(hash ^ hash >> 32);
}

void pool_share_init(struct pool *pool, const struct box *box, uint32_t workers)
{
	const struct server_config *server = pool->server->config;
	pool->own_keep = pool->config->pool.keep;
	if (!box || box->put_fd < 0)
		return;
	pool->box = box;
	pool->own_keep = pool->config->pool.keep / (2 * workers);
	pool->box_keep = pool->config->pool.keep - pool->own_keep * workers;
	for (size_t i = 0; i < server->n_addrs; i++)
		pool->addresses[i] = address_hash(&server->addrs[i]);
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

static void drop_oldest(struct pool *pool)
{
	struct boxed boxed;
	int fd;
	if (box_take(pool->box, &boxed, &fd) == 0)
		close(fd);
	(void)count_box(pool);
}

bool pool_lend(struct pool *pool, struct conn *conn)
{
	struct pools *pools = pool->pools;
	struct boxed boxed;
	bool fits = count_box(pool) < pool->box_keep && describe(pool, conn->fd, &boxed);
	int fd = conn_detach(conn);
	limit_release(pools->shm, pools->seat, pool->server->limit);
	bool lent = fits && box_put(pool->box, &boxed, fd) == 0;
	close(fd);
	if (lent && count_box(pool) > pool->box_keep)
		drop_oldest(pool); /* another worker had seen the same last place */
	return lent;
}

/* Is it one for this pool, and not too old? */
static bool is_ours(const struct pool *pool, const struct boxed *boxed, uint64_t now_ns)
{
	uint64_t max_idle_ns = pool->config->pool.max_idle_ns;
	if (boxed->framing != (uint32_t)pool->config->pool.framing)
		return false;
	if (max_idle_ns && now_ns > boxed->since_ns && now_ns - boxed->since_ns >= max_idle_ns)
		return false;
	for (size_t i = 0; i < pool->server->config->n_addrs; i++)
		if (pool->addresses[i] == boxed->address)
			return true;
	return false;
}

static bool is_quiet(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* The next good one in the box: its descriptor, or -1. */
static int take_good(struct pool *pool, uint32_t tries, struct boxed *boxed)
{
	uint64_t now_ns = loop_now_ns(pool->pools->loop);
	int fd;
	for (uint32_t i = 0; i < tries && box_take(pool->box, boxed, &fd) == 0; i++) {
		bool ours = is_ours(pool, boxed, now_ns);
		if (ours && is_quiet(fd))
			return fd;
		counter_add(&pool->server->row->pool_stale, ours);
		close(fd);
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
	if (conns_room(pools->conns) == 0 || !limit_reserve(pools->shm, pools->seat, pool->server->limit))
		return false;
	int fd = take_good(pool, TRIES, &boxed);
	if (fd < 0) {
		limit_release(pools->shm, pools->seat, pool->server->limit);
		return false;
	}
	bool local = pool->server->config->addrs[0].sa.sa_family == AF_UNIX;
	*out = (struct hot_conn){ .conn = conn_adopt(pools->conns, fd, local), .sent_bytes = sent_so_far(fd), .used = true };
	ensure(out->conn);
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
		int error = box_put(pool->box, &boxed, fd);
		(void)error; /* then it is one less */
		close(fd);
	}
	if (count)
		(void)count_box(pool);
}
