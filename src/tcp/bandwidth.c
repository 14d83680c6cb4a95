#include "tcp/bandwidth.h"

#include "base/clock.h"
#include "base/hash.h"

enum { BURST_PARTS = 10, PIECE_PARTS = 100, CRUMB_PARTS = 1000 }; /* of a second's worth */
enum { BURST_LEAST = 4096, PIECE_LEAST = 1024, PIECE_MOST = RELAY_TURN_BYTES };

#define BUSY_NS (RATE_PATIENCE_NS / 8)
#define CROWDED_NS (RATE_PATIENCE_NS / 2)
#define PASSED_OVER_NS (RATE_PATIENCE_NS / 4) /* and up to three times as much again */
#define GRANT_NS (100 * NS_PER_MS)            /* what was not used for so long is void: the bucket would have been full without it */

static uint64_t at_least(uint64_t part, uint64_t bytes, uint64_t bytes_per_s)
{
	uint64_t least = bytes < bytes_per_s ? bytes : bytes_per_s;
	return part > least ? part : least;
}

static void way_init(struct bandwidth_way *way, uint64_t bytes_per_s, struct rate *shared)
{
	uint64_t piece = at_least(bytes_per_s / PIECE_PARTS, PIECE_LEAST, bytes_per_s);
	uint64_t crumb = at_least(bytes_per_s / CRUMB_PARTS, PIECE_LEAST, bytes_per_s);
	*way = (struct bandwidth_way){ .bytes_per_s = bytes_per_s,
		.shared = shared,
		.limit = rate_limit_make(bytes_per_s, at_least(bytes_per_s / BURST_PARTS, BURST_LEAST, bytes_per_s), 1),
		.piece_bytes = (uint32_t)(piece < PIECE_MOST ? piece : PIECE_MOST),
		.crumb_bytes = (uint32_t)(crumb < PIECE_MOST ? crumb : PIECE_MOST) };
}

void bandwidth_init(struct bandwidth *bandwidth, const struct listener_config *config, struct shm_listener *shared)
{
	bool share = config->bandwidth.per == BANDWIDTH_PER_LISTENER;
	way_init(&bandwidth->from[SIDE_CLIENT], config->bandwidth.up_bytes_per_s, share ? &shared->up : NULL);
	way_init(&bandwidth->from[SIDE_SERVER], config->bandwidth.down_bytes_per_s, share ? &shared->down : NULL);
}

void lane_init(struct lane *lane, const struct bandwidth_way *way)
{
	*lane = (struct lane){ .due_ns = LANE_NOT_PAUSED };
	if (!way->shared)
		shaper_init(&lane->shaper, way->bytes_per_s);
}

static void give_back(struct lane *lane, const struct bandwidth_way *way)
{
	if (lane->booked)
		rate_give_back(way->shared, &way->limit, lane->booked);
	lane->booked = 0;
}

void lane_fini(struct lane *lane, const struct bandwidth_way *way)
{
	if (way->shared)
		give_back(lane, way);
	lane->due_ns = LANE_NOT_PAUSED;
}

static uint64_t allow_of_its_own(struct lane *lane, uint64_t now_ns)
{
	uint64_t bytes = shaper_allow(&lane->shaper, now_ns);
	if (bytes == 0)
		lane->due_ns = shaper_ready_ns(&lane->shaper, now_ns);
	return bytes;
}

/* Those that were passed over come back at times of their own: none of them is always the first one. */
static uint64_t some_time(const struct lane *lane, uint64_t now_ns)
{
	uint64_t random = hash_mix(now_ns ^ (uint64_t)(uintptr_t)lane);
	return PASSED_OVER_NS + random % (RATE_PATIENCE_NS - PASSED_OVER_NS);
}

static uint32_t least(uint64_t a, uint32_t b)
{
	return a < b ? (uint32_t)a : b;
}

static bool book(struct lane *lane, const struct bandwidth_way *way, uint64_t unread, uint64_t now_ns, uint64_t *at_ns)
{
	lane->booked = least(unread, way->piece_bytes);
	if (rate_book(way->shared, &way->limit, lane->booked, now_ns, BUSY_NS, at_ns))
		return true;
	lane->booked = least(unread, way->crumb_bytes);
	if (rate_book(way->shared, &way->limit, lane->booked, now_ns, lane->passed_over ? RATE_PATIENCE_NS : CROWDED_NS, at_ns))
		return true;
	lane->booked = 0;
	return false;
}

static uint64_t allow_of_the_shared(struct lane *lane, const struct bandwidth_way *way, uint64_t unread, uint64_t now_ns)
{
	uint64_t at_ns;
	if (lane->booked && now_ns - lane->since_ns <= GRANT_NS)
		return lane->booked;
	lane->passed_over = !book(lane, way, unread, now_ns, &at_ns);
	lane->since_ns = now_ns;
	if (!lane->passed_over && at_ns <= now_ns)
		return lane->booked;
	lane->due_ns = lane->passed_over ? now_ns + some_time(lane, now_ns) : at_ns;
	return 0;
}

uint64_t lane_allow(struct lane *lane, const struct bandwidth_way *way, uint64_t unread, uint64_t now_ns)
{
	if (!way->bytes_per_s)
		return SHAPER_NO_LIMIT;
	if (lane->due_ns != LANE_NOT_PAUSED && !lane_resume(lane, now_ns))
		return 0;
	return way->shared ? allow_of_the_shared(lane, way, unread, now_ns) : allow_of_its_own(lane, now_ns);
}

/* They came before anyone could ask: who books next waits for them. */
static void take_unasked(const struct bandwidth_way *way, uint64_t bytes, uint64_t now_ns)
{
	uint32_t count = bytes < way->limit.most ? (uint32_t)bytes : way->limit.most;
	uint64_t at_ns;
	bool counted = rate_book(way->shared, &way->limit, count, now_ns, RATE_PATIENCE_NS, &at_ns);
	(void)counted; /* where even that is booked, they are few beside it */
}

void lane_moved(struct lane *lane, const struct bandwidth_way *way, uint64_t bytes, bool all, uint64_t now_ns)
{
	if (!way->bytes_per_s)
		return;
	if (!way->shared) {
		shaper_spent(&lane->shaper, bytes, now_ns);
		return;
	}
	uint32_t used = bytes < lane->booked ? (uint32_t)bytes : lane->booked;
	lane->booked -= used;
	if (unlikely(bytes > used))
		take_unasked(way, bytes - used, now_ns);
	if (all)
		give_back(lane, way);
}

bool lane_resume(struct lane *lane, uint64_t now_ns)
{
	if (now_ns < lane->due_ns)
		return false;
	lane->due_ns = LANE_NOT_PAUSED;
	lane->since_ns = now_ns;
	return true;
}
