/* All that must change together is one word:
 *
 *   bits 0-1    state
 *   bits 2-17   count: failures in a row (closed), probes taken (half-open)
 *   bits 18-33  good: probes that succeeded
 *   bits 34-63  epoch
 *
 * since_ns stands beside it, and is raised before the word is changed, so that who sees the new word sees a moment that is not older. Who
 * loses the race for the word, or is killed before it, has made since_ns a little younger: the breaker then waits that much longer, once.
 */
#include "shm/breaker.h"

#include <assert.h>

#include "shm/moment.h"

enum { COUNT_SHIFT = 2, GOOD_SHIFT = 18, EPOCH_SHIFT = 34 };
#define EPOCH_MASK ((UINT32_C(1) << 30) - 1)

struct round {
	enum breaker_state state;
	uint32_t epoch, count, good;
};

static_assert(N_BREAKER_STATES <= 1 << COUNT_SHIFT, "a state has two bits");

const char *breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = {
#define X(id, name) [BREAKER_##id] = name,
		BREAKER_STATES(X)
#undef X
	};
	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

static inline uint64_t pack(struct round round)
{
	return (uint64_t)round.state | (uint64_t)round.count << COUNT_SHIFT | (uint64_t)round.good << GOOD_SHIFT |
	       (uint64_t)round.epoch << EPOCH_SHIFT;
}

static inline struct round unpack(uint64_t word)
{
	return (struct round){ .state = (enum breaker_state)(word & 3),
		.count = word >> COUNT_SHIFT & UINT16_MAX,
		.good = word >> GOOD_SHIFT & UINT16_MAX,
		.epoch = (uint32_t)(word >> EPOCH_SHIFT) };
}

static struct round next_epoch(struct round round, enum breaker_state state, uint32_t count)
{
	return (struct round){ .state = state, .epoch = (round.epoch + 1) & EPOCH_MASK, .count = count };
}

static uint32_t fitted(uint32_t limit)
{
	return limit == 0 ? 1 : limit < BREAKER_COUNT_MAX ? limit : BREAKER_COUNT_MAX;
}

static bool is_unanswered(struct round round)
{
	return round.good < round.count;
}

/* What to say to one more connection, and with BREAKER_PROBE *next, the round in which it has its probe. */
static enum breaker_verdict decide(
        struct round round, uint64_t since_ns, const struct breaker_limits *limits, uint64_t now_ns, struct round *next)
{
	bool is_over = moment_age_ns(since_ns, now_ns) >= limits->timeout_ns;

	if (round.state == BREAKER_OPEN) {
		if (!is_over)
			return BREAKER_REFUSE;
		*next = next_epoch(round, BREAKER_HALF_OPEN, 1);
		return BREAKER_PROBE;
	}
	if (round.state == BREAKER_HALF_OPEN) {
		if (is_over && is_unanswered(round)) {
			*next = next_epoch(round, BREAKER_HALF_OPEN, 1);
			return BREAKER_PROBE;
		}
		/* All taken and all good and yet half-open: a reload lowered the number meanwhile; one more success will do. */
		if (round.count >= fitted(limits->probes) && is_unanswered(round))
			return BREAKER_REFUSE;
		*next = round;
		next->count++;
		return BREAKER_PROBE;
	}
	return BREAKER_PASS;
}

/* Strong: who fails for no reason has moved since_ns already, and would then be told to wait for it. */
static bool try_change(struct breaker *breaker, uint64_t *word, struct round next)
{
	return atomic_compare_exchange_strong_explicit(&breaker->round, word, pack(next), memory_order_acq_rel, memory_order_acquire);
}

enum breaker_verdict breaker_ask(struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns, struct breaker_pass *pass)
{
	uint64_t word = atomic_load_explicit(&breaker->round, memory_order_relaxed);
	struct round round = unpack(word), next;

	if (likely(round.state == BREAKER_CLOSED) || limits->error_threshold == 0) {
		*pass = (struct breaker_pass){ .verdict = BREAKER_PASS, .epoch = round.epoch };
		return BREAKER_PASS;
	}
	word = atomic_load_explicit(&breaker->round, memory_order_acquire); /* since_ns belongs to it */
	for (;;) {
		round = next = unpack(word);
		enum breaker_verdict verdict = decide(round, moment_get(&breaker->since_ns), limits, now_ns, &next);
		if (verdict == BREAKER_PROBE) {
			moment_raise(&breaker->since_ns, now_ns);
			if (!try_change(breaker, &word, next))
				continue;
			if (round.state == BREAKER_HALF_OPEN && next.epoch != round.epoch)
				atomic_fetch_add_explicit(&breaker->trips, 1, memory_order_relaxed);
		}
		if (verdict != BREAKER_REFUSE)
			*pass = (struct breaker_pass){ .verdict = verdict, .epoch = next.epoch };
		return verdict;
	}
}

/* The round after the outcome of a pass of this epoch. False when it makes no difference. */
static bool count_outcome(struct round *round, enum breaker_verdict held, const struct breaker_limits *limits, bool ok)
{
	if (round->state == BREAKER_CLOSED) {
		if (ok && round->count == 0)
			return false;
		if (ok)
			round->count = 0;
		else if (round->count + 1 < fitted(limits->error_threshold))
			round->count++;
		else
			*round = next_epoch(*round, BREAKER_OPEN, 0);
		return true;
	}
	if (round->state != BREAKER_HALF_OPEN || held != BREAKER_PROBE)
		return false;
	if (!ok)
		*round = next_epoch(*round, BREAKER_OPEN, 0);
	else if (round->good + 1 < fitted(limits->probes))
		round->good++;
	else
		*round = next_epoch(*round, BREAKER_CLOSED, 0);
	return true;
}

bool breaker_report(struct breaker *breaker, const struct breaker_limits *limits, struct breaker_pass *pass, bool ok, uint64_t now_ns)
{
	const struct breaker_pass held = *pass;
	*pass = (struct breaker_pass){ 0 };
	if (held.verdict == BREAKER_REFUSE || limits->error_threshold == 0)
		return false;

	uint64_t word = atomic_load_explicit(&breaker->round, memory_order_relaxed);
	struct round round, next;
	do {
		round = next = unpack(word);
		if (round.epoch != held.epoch || !count_outcome(&next, held.verdict, limits, ok))
			return false;
		if (next.state == BREAKER_OPEN)
			moment_raise(&breaker->since_ns, now_ns);
	} while (!try_change(breaker, &word, next));
	if (next.state == BREAKER_OPEN)
		atomic_fetch_add_explicit(&breaker->trips, 1, memory_order_relaxed);
	return next.state != round.state;
}

bool breaker_abandon(struct breaker *breaker, struct breaker_pass *pass)
{
	const struct breaker_pass held = *pass;
	*pass = (struct breaker_pass){ 0 };
	if (held.verdict != BREAKER_PROBE)
		return false;

	uint64_t word = atomic_load_explicit(&breaker->round, memory_order_relaxed);
	struct round round;
	do {
		round = unpack(word);
		if (round.epoch != held.epoch || round.state != BREAKER_HALF_OPEN || !is_unanswered(round))
			return false;
		round.count--;
	} while (!try_change(breaker, &word, round));
	return true;
}

enum breaker_verdict breaker_look(const struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns)
{
	struct round next, round = unpack(atomic_load_explicit(&breaker->round, memory_order_acquire));
	if (likely(round.state == BREAKER_CLOSED) || limits->error_threshold == 0)
		return BREAKER_PASS;
	return decide(round, moment_get(&breaker->since_ns), limits, now_ns, &next);
}

uint64_t breaker_due_ns(const struct breaker *breaker, const struct breaker_limits *limits, uint64_t now_ns)
{
	if (breaker_look(breaker, limits, now_ns) != BREAKER_REFUSE)
		return UINT64_MAX;
	return moment_after(moment_get(&breaker->since_ns), limits->timeout_ns);
}

enum breaker_state breaker_state(const struct breaker *breaker)
{
	return unpack(atomic_load_explicit(&breaker->round, memory_order_relaxed)).state;
}

void breaker_reset(struct breaker *breaker)
{
	uint64_t word = atomic_load_explicit(&breaker->round, memory_order_relaxed);
	while (!try_change(breaker, &word, next_epoch(unpack(word), BREAKER_CLOSED, 0)))
		;
}
