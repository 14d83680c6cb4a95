#include "upstream/pool.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "os/region.h"
#include "upstream/pool_states.h"
#include "upstream/upstream.h"

#define BEAT_NS NS_PER_S
#define YOUNG_NS NS_PER_S         /* a warm connection that the server ends so soon is no good */
enum { SPOKEN_MOST = 16 * 1024 }; /* by completion: what a server may say before its client comes */

/* --- the lists --------------------------------------------------------------------------------------------------------------- */

static void unlink_hot(struct hot *hot)
{
	struct hot_list *list = &hot->pool->lists[hot->state];
	*(hot->newer ? &hot->newer->older : &list->newest) = hot->older;
	*(hot->older ? &hot->older->newer : &list->oldest) = hot->newer;
	list->n--;
	if (hot->state != HOT_DIALLING)
		gauge_subtract(&hot->pool->server->row->hot, 1);
}

static void link_newest(struct hot *hot, enum hot_state state)
{
	struct hot_list *list = &hot->pool->lists[state];
	hot->state = state;
	hot->newer = NULL;
	hot->older = list->newest;
	*(list->newest ? &list->newest->newer : &list->oldest) = hot;
	list->newest = hot;
	list->n++;
	if (state != HOT_DIALLING)
		counter_add(&hot->pool->server->row->hot, 1);
}

void hot_move(struct hot *hot, enum hot_state state)
{
	if (hot->state != N_HOT_STATES)
		unlink_hot(hot);
	hot->since_ns = loop_now_ns(hot->pool->pools->loop);
	link_newest(hot, state);
}

void hot_remove(struct hot *hot)
{
	unlink_hot(hot);
	slab_give_back(&hot->pool->pools->hots, hot);
}

void hot_close(struct hot *hot)
{
	struct server *server = hot->pool->server;
	conn_close_at_once(hot->conn, false);
	hot_remove(hot);
	upstream_free_place(server);
}

/* --- what is heard of one that waits ----------------------------------------------------------------------------------------- */

static enum hot_look look_into_input(struct conn *conn)
{
	if (conn->input_end != CONN_OPEN)
		return HOT_ENDED;
	return conn->input != CONN_NO_BUFFER ? HOT_SPOKE : HOT_QUIET;
}

enum hot_look hot_look(struct conn *conn)
{
	char byte;
	enum hot_look known = conn->by_completion ? look_into_input(conn) : HOT_QUIET;
	if (known != HOT_QUIET)
		return known;
	if (conn->by_completion && ring_holds(conn->conns->ring, &conn->port, RING_RECV))
		return HOT_SPOKE; /* it is about to be told */
	ssize_t count = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (count > 0)
		return HOT_SPOKE;
	return count < 0 && (errno == EAGAIN || errno == EINTR) ? HOT_QUIET : HOT_ENDED;
}

/* May a server say something before a client does? */
static bool may_speak_first(const struct hot *hot)
{
	return hot->state == HOT_WARM && hot->pool->config->pool.framing == POOL_FRAMING_NONE;
}

/* Is what was heard of it all right? */
static bool is_good(const struct hot *hot)
{
	struct conn *conn = hot->conn;
	enum hot_look look = conn->by_completion ? look_into_input(conn) : hot_look(conn);
	if (look == HOT_QUIET)
		conn->readable = false;
	return look == HOT_QUIET || (look == HOT_SPOKE && may_speak_first(hot) && (conn->by_completion || !conn->ended));
}

static void end_stale(struct hot *hot)
{
	struct pool *pool = hot->pool;
	uint64_t now_ns = loop_now_ns(pool->pools->loop);
	if (hot->state == HOT_WARM && now_ns - hot->since_ns < YOUNG_NS)
		pool_back_off(pool, now_ns);
	counter_add(&pool->server->row->pool_stale, 1);
	hot_close(hot);
	pool_fill_soon(pool);
}

static void lend(struct hot *hot)
{
	struct pool *pool = hot->pool;
	struct conn *conn = hot->conn;
	if (conn->by_completion)
		conn_receive_stop(conn); /* or, where nothing was under way, it may wait for a buffer */
	hot_remove(hot);
	counter_add(&pool->server->row->pool_kept, pool_lend(pool, conn));
}

/* What is all right, by completion. There is one buffer of the ring for each: greetings in many pieces must not take all of them. */
static void on_input(struct hot *hot, unsigned events)
{
	struct conn *conn = hot->conn;
	if (events & CONN_READ)
		conn_pack_input(conn);
	if (conn->input_bytes > SPOKEN_MOST || conn->input_buffers > 4)
		conn_receive_stop(conn);
	else if ((events & CONN_STARVED) && !conn_busy(conn) && (conn->input != CONN_NO_BUFFER || conn_watch_instead(conn)))
		hot_close(hot); /* its end would not be heard */
}

static void on_idle_event(struct conn *conn, unsigned events)
{
	struct hot *hot = conn->owner;
	if ((events & (CONN_READ | CONN_END)) && !is_good(hot))
		end_stale(hot);
	else if (hot->state == HOT_LEAVING && (events & CONN_IDLE))
		lend(hot);
	else if (conn->by_completion)
		on_input(hot, events);
}

bool hot_rest(struct hot *hot, enum hot_state state)
{
	struct conn *conn = hot->conn;
	hot_move(hot, state);
	conn_hand_over(conn, on_idle_event, hot);
	if (conn->options_due)
		conn_set_options(conn, &hot->pool->config->tcp);
	if (conn->by_completion) {
		if (state == HOT_LEAVING)
			conn_receive_stop(conn);
		else
			conn_receive(conn);
		return true;
	}
	if (conn_watch(conn) == 0)
		return true;
	hot_close(hot);
	return false;
}

/* --- taking and giving back -------------------------------------------------------------------------------------------------- */

/* What is known of it without a system call. */
static bool seems_good(const struct hot *hot)
{
	const struct conn *conn = hot->conn;
	if (conn->by_completion ? conn->input_end != CONN_OPEN : conn->ended)
		return false;
	return may_speak_first(hot) || !(conn->by_completion ? conn->input != CONN_NO_BUFFER : conn->readable);
}

bool pool_take(struct pool *pool, struct hot_conn *out)
{
	static const enum hot_state order[] = { HOT_KEPT, HOT_LEAVING, HOT_WARM };
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		struct hot *hot;
		while ((hot = pool->lists[order[i]].newest) != NULL) {
			if (!seems_good(hot)) {
				end_stale(hot);
				continue;
			}
			*out = (struct hot_conn){ .conn = hot->conn, .sent_bytes = hot->sent_bytes, .used = hot->state == HOT_KEPT };
			hot_remove(hot);
			pool_fill_soon(pool);
			counter_add(&pool->server->row->pool_hits, 1);
			return true;
		}
	}
	bool borrowed = pool->box && pool_borrow(pool, out);
	counter_add(borrowed ? &pool->server->row->pool_hits : &pool->server->row->pool_misses, 1);
	return borrowed;
}

static bool has_room(const struct pools *pools)
{
	return !pools->closed && pools->hots.in_use < pools->hots.capacity;
}

bool pool_wants(const struct pool *pool)
{
	bool keeps = pool->lists[HOT_KEPT].n < pool->own_keep || pool->box;
	return has_room(pool->pools) && keeps && pool->server->usability == USABILITY_USABLE;
}

/* To the other workers: now, or as soon as nothing is under way on it. */
static void leave_to_all(struct hot *hot)
{
	struct conn *conn = hot->conn;
	hot_move(hot, HOT_LEAVING);
	if (conn->options_due)
		conn_set_options(conn, &hot->pool->config->tcp);
	if (!conn->by_completion || !conn_busy(conn))
		lend(hot);
	else
		ensure(hot_rest(hot, HOT_LEAVING));
}

/* Clients of other workers wait, and it is their turn: they can have it out of the box, or its place. */
static bool others_wait(const struct pool *pool)
{
	const struct line *line = &pool->server->upstream->line;
	return line_is_busy(line) && !line_is_ours(line);
}

bool pool_give_back(struct pool *pool, const struct hot_conn *given)
{
	bool others = others_wait(pool);
	bool wanted = pool_wants(pool) && (pool->box || !others);
	struct hot *hot = wanted ? slab_take(&pool->pools->hots) : NULL;
	if (!hot)
		return false;
	*hot = (struct hot){ .pool = pool, .conn = given->conn, .sent_bytes = given->sent_bytes, .state = N_HOT_STATES };
	if (pool->box && (others || pool->lists[HOT_KEPT].n >= pool->own_keep))
		leave_to_all(hot);
	else if (hot_rest(hot, HOT_KEPT))
		counter_add(&pool->server->row->pool_kept, 1);
	return true;
}

/* --- from time to time ------------------------------------------------------------------------------------------------------- */

static void end_old(struct pool *pool, enum hot_state state, uint64_t now_ns)
{
	uint64_t max_idle_ns = pool->config->pool.max_idle_ns;
	struct hot *hot;
	while (max_idle_ns && (hot = pool->lists[state].oldest) != NULL && now_ns - hot->since_ns >= max_idle_ns)
		hot_close(hot);
}

static void on_beat(struct loop_timer *timer)
{
	struct pools *pools = container_of(timer, struct pools, beat);
	uint64_t now_ns = loop_now_ns(pools->loop);
	uint64_t next_ns = now_ns + BEAT_NS;
	for (struct pool *pool = pools->all; pool; pool = pool->next) {
		end_old(pool, HOT_KEPT, now_ns);
		end_old(pool, HOT_WARM, now_ns);
		pool_end_overdue(pool, now_ns);
		pool_fill(pool, now_ns);
		if (pool->box)
			pool_sweep_box(pool);
		if (pool->retry_ns > now_ns && pool->retry_ns < next_ns)
			next_ns = pool->retry_ns;
	}
	loop_timer_start(pools->loop, &pools->beat, next_ns - now_ns);
}

void pool_fill_soon(struct pool *pool)
{
	if (pool->due)
		return;
	pool->due = true;
	pool->next_due = pool->pools->due;
	pool->pools->due = pool;
}

void pools_before_sleep(struct pools *pools)
{
	struct pool *due = pools->due;
	pools->due = NULL;
	while (due) {
		struct pool *pool = due;
		due = pool->next_due;
		pool->due = false;
		pool_fill(pool, loop_now_ns(pools->loop));
	}
}

static bool evict_oldest(struct pool *pool, enum hot_state state)
{
	struct hot *hot = pool->lists[state].oldest;
	if (hot)
		hot_close(hot);
	return hot != NULL;
}

bool pool_evict(struct pool *pool)
{
	return evict_oldest(pool, HOT_KEPT) || evict_oldest(pool, HOT_LEAVING) || evict_oldest(pool, HOT_WARM) ||
	       (pool->box && pool_drop_boxed(pool)) || evict_oldest(pool, HOT_DIALLING);
}

uint32_t pools_evict(struct pools *pools, uint32_t count)
{
	uint32_t evicted = 0, before;
	do {
		before = evicted;
		for (struct pool *pool = pools->all; pool && evicted < count; pool = pool->next)
			evicted += evict_oldest(pool, HOT_KEPT) || evict_oldest(pool, HOT_WARM);
	} while (evicted < count && evicted > before);
	return evicted;
}

/* --- from the first to the last ---------------------------------------------------------------------------------------------- */

uint32_t pool_most(const struct upstream_config *config)
{
	uint64_t most = (uint64_t)config->n_servers * (config->pool.warm + config->pool.keep);
	return most < CONFIG_MAX_HOT ? (uint32_t)most : CONFIG_MAX_HOT;
}

int pools_init(struct pools *pools, struct loop *loop, struct conns *conns, struct shm *shm, uint32_t seat, uint32_t workers, uint32_t most,
        size_t spare)
{
	void *region = NULL;
	*pools = (struct pools){ .loop = loop, .conns = conns, .shm = shm, .seat = seat, .workers = workers, .spare = spare };
	loop_timer_init(&pools->beat, on_beat);
	int error = most ? region_reserve(slab_region_bytes(sizeof(struct hot), most), &region) : 0;
	if (!error)
		slab_init(&pools->hots, region, sizeof(struct hot), most);
	return error;
}

void pool_init(struct pool *pool, struct pools *pools, struct server *server, const struct upstream_config *config,
        const struct condition_rules *rules, struct shm_server *shared_row, const struct box *box)
{
	*pool = (struct pool){
		.pools = pools, .next = pools->all, .server = server, .config = config, .rules = rules, .shared_row = shared_row
	};
	pool_share_init(pool, box, pools->workers);
	if (!pools->all)
		loop_timer_start(pools->loop, &pools->beat, BEAT_NS);
	pools->all = pool;
	pool_fill_soon(pool);
}

/* What the draining generation has, the next one may use. */
static void leave(struct pool *pool)
{
	struct hot *hot, *older;
	for (hot = pool->lists[HOT_KEPT].newest; hot && pool->box; hot = older) {
		older = hot->older;
		if (!hot->conn->by_completion || !conn_busy(hot->conn))
			lend(hot);
	}
}

void pools_close(struct pools *pools)
{
	pools->closed = true;
	if (pools->loop)
		loop_timer_stop(pools->loop, &pools->beat);
	for (struct pool *pool = pools->all; pool; pool = pool->next) {
		leave(pool);
		for (enum hot_state state = 0; state < N_HOT_STATES; state++)
			while (pool->lists[state].oldest)
				hot_close(pool->lists[state].oldest);
	}
}

void pools_fini(struct pools *pools)
{
	pools_close(pools);
	if (pools->hots.region)
		region_close(pools->hots.region, slab_region_bytes(sizeof(struct hot), pools->hots.capacity));
	*pools = (struct pools){ 0 };
}
