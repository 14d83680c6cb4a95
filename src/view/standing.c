#include "view/standing.h"

#include "shm/moment.h"

enum { SLOW_START_STEPS = 10 };

const char *standing_name(enum standing_state state)
{
	static const char *const names[] = {
#define X(id, name) [STANDING_##id] = name,
		STANDINGS(X)
#undef X
	};
	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

/* What a worker makes of the settings, as far as looking needs it. */
static struct condition_rules rules_of(const struct shm_upstream *upstream)
{
	if (upstream == NULL)
		return (struct condition_rules){ 0 };
	return (struct condition_rules){ .breaker = { .error_threshold = atomic_load(&upstream->breaker_threshold),
		                                 .probes = atomic_load(&upstream->breaker_probes),
		                                 .timeout_ns = atomic_load(&upstream->breaker_timeout_ns) },
		.outlier = { .failures = atomic_load(&upstream->outlier_failures) },
		.is_checked = atomic_load(&upstream->is_checked) != 0,
		.slow_start_ns = atomic_load(&upstream->slow_start_ns) };
}

static uint64_t ago_ns(uint64_t moment_ns, uint64_t now_ns)
{
	return moment_ns == 0 ? STANDING_NEVER : moment_age_ns(moment_ns, now_ns);
}

static void make_health(struct standing *out, const struct health *health, uint64_t now_ns)
{
	out->checks_passed = atomic_load(&health->passed);
	out->checks_failed = atomic_load(&health->failed);
	out->checked_ago_ns = out->health_changed_ago_ns = STANDING_NEVER;
	if (!out->is_checked)
		return;
	out->health = health_state(health);
	health_last(health, &out->last);
	out->checked_ago_ns = ago_ns(moment_get(&health->checked_ns), now_ns);
	out->health_changed_ago_ns = ago_ns(moment_get(&health->changed_ns), now_ns);
}

static enum standing_state judge(const struct standing *standing, enum usability usability)
{
	switch (usability) {
	case USABILITY_DISABLED:
		return STANDING_DISABLED;
	case USABILITY_DRAINING:
		return STANDING_DRAINING;
	case USABILITY_DOWN:
		return STANDING_DOWN;
	case USABILITY_EJECTED:
		return STANDING_EJECTED;
	default:
		break;
	}
	/* A breaker that is open lets the next one probe once its timeout is over; it is open until somebody does. */
	if (standing->breaker == BREAKER_OPEN)
		return STANDING_BREAKER_OPEN;
	if (standing->breaker != BREAKER_CLOSED)
		return STANDING_BREAKER_HALF_OPEN;
	if (standing->slow_start_percent < 100)
		return STANDING_SLOW_START;
	return standing->health == HEALTH_UP ? STANDING_UP : STANDING_UNKNOWN;
}

/* Workers let the weight grow in steps, as condition_due_ns() says: when the last one was. */
static uint64_t last_step_ns(uint64_t recovered_ns, uint64_t now_ns, uint64_t slow_start_ns)
{
	uint64_t age_ns = moment_age_ns(recovered_ns, now_ns), step_ns = slow_start_ns / SLOW_START_STEPS;
	return recovered_ns == 0 || step_ns == 0 || age_ns >= slow_start_ns ? now_ns : recovered_ns + age_ns - age_ns % step_ns;
}

void standing_make(struct standing *out, const struct shm_server *server, const struct shm_upstream *upstream, uint64_t now_ns)
{
	const struct condition *condition = &server->condition;
	const struct condition_rules rules = rules_of(upstream);
	const bool is_disabled = (atomic_load(&server->flags) & SHM_SERVER_DISABLED) != 0;
	const enum usability usability = condition_usable(condition, &rules, is_disabled, now_ns);
	const uint64_t recovered_ns = condition_recovered_ns(condition, &rules, now_ns);

	/* Who is disabled in the settings is left alone by checks, too. */
	*out = (struct standing){ .is_checked = rules.is_checked && !is_disabled };
	make_health(out, &condition->health, now_ns);
	out->breaker = rules.breaker.error_threshold > 0 ? breaker_state(&condition->breaker) : BREAKER_CLOSED;
	out->trips = atomic_load(&condition->breaker.trips);
	if (rules.outlier.failures > 0) {
		uint64_t until_ns = ejection_until_ns(&condition->ejection);
		out->ejected_for_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	}
	out->ejections = atomic_load(&condition->ejection.count);
	out->recovered_ago_ns = ago_ns(recovered_ns, now_ns);
	out->override = condition_override(condition).mode;
	const uint64_t step_ns = last_step_ns(recovered_ns, now_ns, rules.slow_start_ns);
	out->weight_now = condition_weight(condition, &rules, atomic_load(&server->weight), step_ns);
	out->slow_start_percent = slow_start_weight(1000, recovered_ns, step_ns, rules.slow_start_ns) / 10;
	out->is_usable = usability == USABILITY_USABLE && out->weight_now > 0;
	out->state = judge(out, usability);
}
