#include "shm/condition.h"

#include <assert.h>
#include <stddef.h>

#include "shm/moment.h"

/* The override: bits 0-7 mode, bit 8 has_weight, bits 16-31 weight. */
enum { HAS_WEIGHT_SHIFT = 8, WEIGHT_SHIFT = 16 };

enum { SLOW_START_STEPS = 10 };

static_assert(sizeof(struct condition) == 2 * CACHE_LINE_BYTES, "two lines, the second for what nobody needs to choose");
static_assert(offsetof(struct condition, health.last) == CACHE_LINE_BYTES, "checks write to the second one, unless they change something");

const char *usability_name(enum usability usability)
{
	static const char *const names[] = {
#define X(id, name) [USABILITY_##id] = name,
		USABILITIES(X)
#undef X
	};
	return usability < ARRAY_LEN(names) ? names[usability] : "unknown";
}

const char *override_mode_name(enum override_mode mode)
{
	static const char *const names[] = {
#define X(id, name) [OVERRIDE_##id] = name,
		OVERRIDES(X)
#undef X
	};
	return mode < ARRAY_LEN(names) ? names[mode] : "unknown";
}

static void tell(const struct condition_rules *rules)
{
	if (rules->epoch)
		atomic_fetch_add_explicit(rules->epoch, 1, memory_order_release);
}

static bool is_ejected(const struct condition *condition, const struct condition_rules *rules, uint64_t now_ns)
{
	return rules->outlier.failures > 0 && ejection_until_ns(&condition->ejection) > now_ns;
}

enum usability condition_usable(const struct condition *condition, const struct condition_rules *rules, bool is_disabled, uint64_t now_ns)
{
	const enum override_mode mode = condition_override(condition).mode;

	if (mode == OVERRIDE_DISABLED || (is_disabled && mode == OVERRIDE_NONE))
		return USABILITY_DISABLED;
	if (mode == OVERRIDE_DRAIN)
		return USABILITY_DRAINING;
	if (rules->is_checked && health_state(&condition->health) == HEALTH_DOWN)
		return USABILITY_DOWN;
	if (is_ejected(condition, rules, now_ns))
		return USABILITY_EJECTED;
	if (breaker_look(&condition->breaker, &rules->breaker, now_ns) == BREAKER_REFUSE)
		return breaker_state(&condition->breaker) == BREAKER_HALF_OPEN ? USABILITY_PROBES_TAKEN : USABILITY_BREAKER_OPEN;
	return USABILITY_USABLE;
}

enum breaker_verdict condition_ask(
        struct condition *condition, const struct condition_rules *rules, uint64_t now_ns, struct breaker_pass *pass)
{
	const enum breaker_verdict verdict = breaker_ask(&condition->breaker, &rules->breaker, now_ns, pass);
	/* Others learn of it with the last probe: that there are some they know from condition_due_ns(). */
	if (verdict == BREAKER_PROBE && breaker_look(&condition->breaker, &rules->breaker, now_ns) == BREAKER_REFUSE)
		tell(rules);
	return verdict;
}

void condition_report(struct condition *condition, const struct condition_rules *rules, struct breaker_pass *pass, bool ok, uint64_t now_ns)
{
	bool changed = breaker_report(&condition->breaker, &rules->breaker, pass, ok, now_ns);
	if (changed && ok)
		moment_raise(&condition->recovered_ns, now_ns);
	changed |= ejection_report(&condition->ejection, &rules->outlier, &rules->group, ok, now_ns);
	if (unlikely(changed))
		tell(rules);
}

void condition_abandon(struct condition *condition, const struct condition_rules *rules, struct breaker_pass *pass)
{
	if (breaker_abandon(&condition->breaker, pass))
		tell(rules);
}

bool condition_checked(struct condition *condition, const struct condition_rules *rules, const struct health_check *check, uint64_t now_ns)
{
	const enum health_state before = health_state(&condition->health);
	/* First, lest a kill in between cost the slow start: the check that is made again then says it once more. */
	if (before == HEALTH_DOWN && health_would_become(&condition->health, &rules->health, check) == HEALTH_UP)
		moment_raise(&condition->recovered_ns, now_ns);
	health_note(&condition->health, &rules->health, check, now_ns);
	if (health_state(&condition->health) == before)
		return false;
	tell(rules);
	return true;
}

struct override condition_override(const struct condition *condition)
{
	uint64_t word = atomic_load_explicit(&condition->override, memory_order_relaxed);
	return (struct override){ .mode = (enum override_mode)(word & 0xff),
		.has_weight = word >> HAS_WEIGHT_SHIFT & 1,
		.weight = (uint16_t)(word >> WEIGHT_SHIFT) };
}

void condition_set_override(struct condition *condition, const struct condition_rules *rules, struct override override)
{
	uint64_t word =
	        (uint64_t) override.mode | (uint64_t) override.has_weight << HAS_WEIGHT_SHIFT | (uint64_t) override.weight << WEIGHT_SHIFT;
	atomic_store_explicit(&condition->override, word, memory_order_relaxed);
	tell(rules);
}

void condition_reset(struct condition *condition, const struct condition_rules *rules)
{
	breaker_reset(&condition->breaker);
	ejection_reset(&condition->ejection);
	health_forget(&condition->health);
	atomic_store_explicit(&condition->recovered_ns, 0, memory_order_relaxed);
	tell(rules);
}

uint64_t condition_recovered_ns(const struct condition *condition, const struct condition_rules *rules, uint64_t now_ns)
{
	uint64_t recovered_ns = moment_get(&condition->recovered_ns);
	uint64_t until_ns = rules->outlier.failures > 0 ? ejection_until_ns(&condition->ejection) : 0;
	return until_ns <= now_ns && until_ns > recovered_ns ? until_ns : recovered_ns;
}

uint32_t condition_weight(const struct condition *condition, const struct condition_rules *rules, uint32_t configured, uint64_t now_ns)
{
	const struct override override = condition_override(condition);
	uint32_t weight = override.has_weight ? override.weight : configured;
	return slow_start_weight(weight, condition_recovered_ns(condition, rules, now_ns), now_ns, rules->slow_start_ns);
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

static uint64_t slow_start_due_ns(uint64_t since_ns, uint64_t now_ns, uint64_t duration_ns)
{
	uint64_t age_ns = moment_age_ns(since_ns, now_ns);
	if (since_ns == 0 || age_ns >= duration_ns)
		return UINT64_MAX;
	uint64_t step_ns = duration_ns / SLOW_START_STEPS;
	uint64_t next_ns = step_ns > 0 ? (age_ns / step_ns + 1) * step_ns : duration_ns;
	return moment_after(since_ns, earlier(next_ns, duration_ns));
}

uint64_t condition_due_ns(const struct condition *condition, const struct condition_rules *rules, uint64_t now_ns)
{
	uint64_t due_ns = breaker_due_ns(&condition->breaker, &rules->breaker, now_ns);
	if (is_ejected(condition, rules, now_ns))
		due_ns = earlier(due_ns, ejection_until_ns(&condition->ejection));
	return earlier(due_ns, slow_start_due_ns(condition_recovered_ns(condition, rules, now_ns), now_ns, rules->slow_start_ns));
}

uint32_t slow_start_weight(uint32_t weight, uint64_t since_ns, uint64_t now_ns, uint64_t duration_ns)
{
	uint64_t age_ns = moment_age_ns(since_ns, now_ns);
	if (since_ns == 0 || age_ns >= duration_ns || weight == 0)
		return weight;
	while (duration_ns > UINT32_MAX) { /* so that the product below fits */
		duration_ns >>= 1;
		age_ns >>= 1;
	}
	uint32_t least = weight / 10 > 0 ? weight / 10 : 1;
	return least + (uint32_t)((weight - least) * age_ns / duration_ns);
}
