/* Warm connections: dialling them ahead of the clients. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "net/dial.h"
#include "shm/reasons.h"
#include "upstream/pool_states.h"
#include "upstream/upstream.h"

#define BACKOFF_FIRST_NS (50 * NS_PER_MS)
#define BACKOFF_MOST_NS NS_PER_S
#define MORE_SOON_NS NS_PER_MS
enum { DIALS_AT_ONCE = 8 };

/* So that clients are served between two handfuls, and a dead server is not hammered. */
static void fill_again_at(struct pool *pool, uint64_t due_ns, uint64_t now_ns)
{
	struct pools *pools = pool->pools;
	pool->retry_ns = due_ns;
	if (!loop_timer_active(&pools->beat) || pools->beat.due_ns > due_ns)
		loop_timer_start(pools->loop, &pools->beat, due_ns > now_ns ? due_ns - now_ns : 0);
}

void pool_back_off(struct pool *pool, uint64_t now_ns)
{
	pool->backoff_ns = pool->backoff_ns ? pool->backoff_ns * 2 : BACKOFF_FIRST_NS;
	if (pool->backoff_ns > BACKOFF_MOST_NS)
		pool->backoff_ns = BACKOFF_MOST_NS;
	fill_again_at(pool, now_ns + pool->backoff_ns, now_ns);
}

static void log_failure(struct pool *pool, int error, uint64_t now_ns)
{
	uint64_t held_back;
	if (log_gate_open(&pool->gate, now_ns, &held_back))
		log_warn("upstream %s: server %s: cannot keep connections warm: %s (%llu more failures not logged)", pool->config->name,
		        pool->server->config->name, reason_connect_words(error), (unsigned long long)held_back);
}

static bool is_our_trouble(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == ENONET;
}

static void dial_failed(struct pool *pool, struct breaker_pass pass, int error)
{
	uint64_t now_ns = loop_now_ns(pool->pools->loop);
	if (!is_our_trouble(error))
		counter_add(&pool->server->row->failures, 1);
	if (!is_our_trouble(error) && error != EADDRNOTAVAIL)
		condition_report(pool->server->condition, pool->rules, &pass, false, now_ns);
	server_addr_failed(pool->server);
	log_failure(pool, error, now_ns);
	pool_back_off(pool, now_ns);
}

static void established(struct hot *hot)
{
	struct pool *pool = hot->pool;
	counter_add(&pool->server->row->connections, 1);
	condition_report(pool->server->condition, pool->rules, &hot->pass, true, loop_now_ns(pool->pools->loop));
	if (hot_rest(hot, HOT_WARM))
		return;
	pool_back_off(pool, loop_now_ns(pool->pools->loop));
}

static void on_dialled(struct conn *conn, unsigned events)
{
	struct hot *hot = conn->owner;
	struct pool *pool = hot->pool;
	if (!(events & CONN_WRITE))
		return;
	int error = conn_dial_result(conn);
	if (error) {
		struct breaker_pass pass = hot->pass;
		hot_close(hot);
		dial_failed(pool, pass, -error);
		return;
	}
	established(hot);
	pool_fill_soon(pool);
}

/* Only to a server that everybody may connect to: probes are for clients. */
static bool may_dial(const struct pool *pool, uint64_t now_ns, struct breaker_pass *pass)
{
	struct condition *condition = pool->server->condition;
	if (breaker_look(&condition->breaker, &pool->rules->breaker, now_ns) != BREAKER_PASS)
		return false;
	enum breaker_verdict verdict = condition_ask(condition, pool->rules, now_ns, pass);
	if (verdict == BREAKER_PROBE)
		condition_abandon(condition, pool->rules, pass);
	return verdict == BREAKER_PASS;
}

/* Clients that wait come first, and connect_rate counts all. */
static bool is_its_turn(struct pool *pool)
{
	const struct upstream *upstream = pool->server->upstream;
	uint64_t now_ns = loop_now_ns(pool->pools->loop), due_ns = upstream_dial_ns(upstream, now_ns);
	if (line_is_busy(&upstream->line))
		return false;
	if (due_ns > now_ns)
		fill_again_at(pool, due_ns, now_ns);
	return due_ns <= now_ns;
}

/* True when another one may be dialled, too. */
static bool dial(struct pool *pool)
{
	struct breaker_pass pass;
	struct dial_source room;
	struct pools *pools = pool->pools;
	const struct addr *addr = server_addr(pool->server);
	if (!addr || conns_room(pools->conns) <= pools->spare || pools->hots.in_use >= pools->hots.capacity)
		return false;
	if (!is_its_turn(pool) || !may_dial(pool, loop_now_ns(pools->loop), &pass))
		return false;
	if (!limit_reserve(pools->shm, pools->seat, pool->server->limit))
		return false;
	if (!upstream_may_dial(pool->server->upstream, loop_now_ns(pools->loop))) {
		upstream_free_place(pool->server);
		return false;
	}
	struct hot *hot = slab_take(&pools->hots);
	ensure(hot);
	*hot = (struct hot){ .pool = pool, .state = N_HOT_STATES, .pass = pass };
	int error = conn_dial(pools->conns, addr, dial_source(pool->config, NULL, &room), &pool->config->tcp, on_dialled, hot, &hot->conn);
	if (error && error != -EINPROGRESS) {
		slab_give_back(&pools->hots, hot);
		upstream_free_place(pool->server);
		dial_failed(pool, pass, -error);
		return false;
	}
	if (error == 0)
		established(hot);
	else
		hot_move(hot, HOT_DIALLING);
	return pool->retry_ns <= loop_now_ns(pools->loop);
}

static bool is_wanted(const struct pool *pool)
{
	return pool->lists[HOT_WARM].n + pool->lists[HOT_DIALLING].n < pool->config->pool.warm;
}

void pool_fill(struct pool *pool, uint64_t now_ns)
{
	const struct server *server = pool->server;
	if (pool->pools->closed || server->usability != USABILITY_USABLE || server->weight == 0 || now_ns < pool->retry_ns)
		return;
	for (uint32_t dialled = 0; is_wanted(pool) && pool->lists[HOT_DIALLING].n < DIALS_AT_ONCE; dialled++) {
		if (dialled == DIALS_AT_ONCE) {
			fill_again_at(pool, now_ns + MORE_SOON_NS, now_ns);
			return;
		}
		if (!dial(pool))
			return;
	}
	if (!is_wanted(pool) && pool->lists[HOT_DIALLING].n == 0 && pool->lists[HOT_WARM].n > 0 &&
	        now_ns - pool->lists[HOT_WARM].oldest->since_ns >= NS_PER_S)
		pool->backoff_ns = 0;
}

void pool_end_overdue(struct pool *pool, uint64_t now_ns)
{
	uint64_t limit_ns = pool->config->timeout.connect_ns;
	struct hot *hot;
	while (limit_ns && (hot = pool->lists[HOT_DIALLING].oldest) != NULL && now_ns - hot->since_ns >= limit_ns) {
		struct breaker_pass pass = hot->pass;
		hot_close(hot);
		dial_failed(pool, pass, ETIMEDOUT);
	}
}
