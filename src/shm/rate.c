#include "shm/rate.h"

#include "base/clock.h"

static const uint64_t depth_max = UINT64_C(1) << 58; /* so that no sum of it and a time overflows */

struct rate_limit rate_limit_make(uint64_t per_s, uint64_t burst, uint32_t quantum)
{
	struct rate_limit limit = { .quantum = quantum ? quantum : 1 };
	if (!per_s)
		return limit;
	limit.interval = (NS_PER_S << 32) / per_s;
	limit.most = burst > UINT32_MAX - limit.quantum ? UINT32_MAX : (uint32_t)burst + limit.quantum;
	uint64_t unit = (limit.interval >> (32 - RATE_FRACTION_BITS)) + 1;
	if (limit.most > depth_max / unit)
		limit.most = (uint32_t)(depth_max / unit);
	if (limit.quantum > limit.most)
		limit.quantum = limit.most;
	limit.depth = rate_cost(&limit, limit.most);
	return limit;
}

/* Until `cost` will fit, with the TAT as it is. Rounded up: whoever comes back then is not refused for a fraction. */
static uint64_t wait_for(const struct rate_limit *limit, uint64_t tat, uint64_t now, uint64_t cost)
{
	uint64_t at = (tat > now ? tat : now) + cost, latest = now + limit->depth;
	return at <= latest ? 0 : (at - latest + (1u << RATE_FRACTION_BITS) - 1) >> RATE_FRACTION_BITS;
}

static void tell(uint64_t *wait_ns, uint64_t value)
{
	if (wait_ns)
		*wait_ns = value;
}

bool rate_take(struct rate *rate, const struct rate_limit *limit, uint64_t now_ns, uint64_t *wait_ns)
{
	if (!limit->interval) {
		tell(wait_ns, 0);
		return true;
	}
	uint64_t now = rate_time(now_ns), cost = rate_cost(limit, 1);
	uint64_t tat = atomic_load_explicit(&rate->tat, memory_order_relaxed);
	for (int attempt = 0; attempt < RATE_TRIES; attempt++) {
		bool passes;
		uint64_t next = rate_next(limit, tat, now, cost, &passes);
		if (next == tat ||
		        atomic_compare_exchange_weak_explicit(&rate->tat, &tat, next, memory_order_relaxed, memory_order_relaxed)) {
			tell(wait_ns, passes ? 0 : wait_for(limit, next, now, cost));
			return passes;
		}
	}
	tell(wait_ns, (cost >> RATE_FRACTION_BITS) + 1);
	return false;
}

uint64_t rate_wait_ns(struct rate *rate, const struct rate_limit *limit, uint64_t now_ns)
{
	if (!limit->interval)
		return 0;
	bool passes;
	uint64_t now = rate_time(now_ns), cost = rate_cost(limit, 1);
	uint64_t tat = atomic_load_explicit(&rate->tat, memory_order_relaxed);
	uint64_t next = rate_next(limit, tat, now, cost, &passes);
	if (passes)
		return 0;
	if (next != tat) /* what a former limit left behind: else who only asks would wait for it to pass */
		(void)atomic_compare_exchange_strong_explicit(&rate->tat, &tat, next, memory_order_relaxed, memory_order_relaxed);
	return wait_for(limit, next, now, cost);
}

/* How many units fit into room, which is less than n of them cost. */
static uint32_t units_in(const struct rate_limit *limit, uint64_t room, uint32_t n)
{
	double unit = (double)limit->interval / (double)(UINT64_C(1) << (32 - RATE_FRACTION_BITS));
	double estimate = (double)room / unit + 1; /* 53 bits for a number of 32: off by less than one */
	uint32_t units = estimate < (double)n ? (uint32_t)estimate : n;
	while (units > 0 && rate_cost(limit, units) > room)
		units--;
	return units;
}

uint32_t rate_take_many(struct rate *rate, const struct rate_limit *limit, uint32_t n, uint64_t now_ns, uint64_t *wait_ns)
{
	if (!limit->interval || !n) {
		tell(wait_ns, 0);
		return n;
	}
	uint32_t wanted = n < limit->most ? n : limit->most, least = n < limit->quantum ? n : limit->quantum;
	uint64_t now = rate_time(now_ns), wanted_cost = rate_cost(limit, wanted);
	uint64_t tat = atomic_load_explicit(&rate->tat, memory_order_relaxed);
	for (int attempt = 0; attempt < RATE_TRIES; attempt++) {
		uint64_t busy = tat > now ? tat - now : 0, room = busy < limit->depth ? limit->depth - busy : 0;
		uint32_t units = wanted_cost <= room ? wanted : units_in(limit, room, wanted);
		bool passes;
		uint64_t next = rate_next(limit, tat, now, rate_cost(limit, units < least ? least : units), &passes);
		if (next == tat ||
		        atomic_compare_exchange_weak_explicit(&rate->tat, &tat, next, memory_order_relaxed, memory_order_relaxed)) {
			uint32_t taken = passes ? units : 0, rest = n - taken;
			tell(wait_ns, rest ? wait_for(limit, next, now, rate_cost(limit, rest < least ? rest : least)) : 0);
			return taken;
		}
	}
	tell(wait_ns, (rate_cost(limit, least) >> RATE_FRACTION_BITS) + 1);
	return 0;
}

void rate_give_back(struct rate *rate, const struct rate_limit *limit, uint32_t n)
{
	atomic_fetch_sub_explicit(&rate->tat, rate_cost(limit, n < limit->most ? n : limit->most), memory_order_relaxed);
}

bool rate_book(struct rate *rate, const struct rate_limit *limit, uint32_t n, uint64_t now_ns, uint64_t patience_ns, uint64_t *at_ns)
{
	if (!limit->interval || !n) {
		*at_ns = now_ns;
		return true;
	}
	uint64_t now = rate_time(now_ns), full = now + limit->depth, farthest = full + rate_time(patience_ns);
	uint64_t cost = rate_cost(limit, n < limit->most ? n : limit->most);
	uint64_t tat = atomic_load_explicit(&rate->tat, memory_order_relaxed);
	for (int attempt = 0; attempt < RATE_TRIES; attempt++) {
		bool other_limit = tat > full + 2 * rate_time(RATE_PATIENCE_NS); /* nobody books so far ahead with this one */
		uint64_t next = (other_limit ? full : tat > now ? tat : now) + cost;
		if (next > farthest) {
			*at_ns = now_ns + ((next - farthest) >> RATE_FRACTION_BITS) + 1;
			return false;
		}
		if (atomic_compare_exchange_weak_explicit(&rate->tat, &tat, next, memory_order_relaxed, memory_order_relaxed)) {
			*at_ns = now_ns + (next > full ? ((next - full - 1) >> RATE_FRACTION_BITS) + 1 : 0);
			return true;
		}
	}
	*at_ns = now_ns + (cost >> RATE_FRACTION_BITS) + 1;
	return false;
}
