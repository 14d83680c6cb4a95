#include "control/prober.h"

#include <errno.h>

#include "base/clock.h"
#include "base/text.h"
#include "control/check_plan.h"
#include "control/probe_datagram.h"
#include "control/probe_http.h"
#include "control/probe_stream.h"
#include "control/schedule.h"

struct prober {
	struct loop *loop;
	const struct prober_ops *ops;
	void *arg;
	struct loop_timer timer; /* for the schedule */
	struct schedule schedule;
	struct linger_set linger;
	struct probe_http *http; /* made for the first target that needs it */
	struct prober_target *targets;
};

struct prober_target {
	struct schedule_entry entry;
	struct prober *prober;
	struct prober_target *next;
	struct prober_target **link;
	struct check_plan *plan;
	size_t addr;  /* the one that is tried */
	size_t tried; /* in this check */
	uint64_t begun_ns;
	struct probe_stream *stream; /* the attempt: one of these, or none */
	struct probe_datagram *datagram;
	struct probe_http_check *http;
};

static void try_addresses(struct prober_target *target);

/* ---- settings ---- */

/* All that may fail about adding and changing. */
static int prepare(struct prober *prober, const struct prober_settings *settings, struct check_plan **out, const char **why)
{
	int error = prober_check(settings, why);

	if (error)
		return error;
	if (settings->n_addrs < 1 || settings->n_addrs > PROBER_MAX_ADDRESSES) {
		*why = "no address, or more than 8";
		return -EINVAL;
	}
	if (settings->tls.wanted && !settings->tls.client) {
		*why = "its TLS could not be set up";
		return -EINVAL;
	}
	bool by_libcurl = check_plan_is_by_libcurl(settings->rules.kind, &settings->tls);
	if (by_libcurl && !prober->http)
		prober->http = probe_http_new(&prober->linger);
	struct check_plan *plan = by_libcurl && !prober->http ? NULL : check_plan_new(settings);
	if (!plan) {
		*why = "out of memory";
		return -ENOMEM;
	}
	*out = plan;
	return 0;
}

/* ---- checks ---- */

/* Look at the schedule when it has something to do, which may be later in this turn: checks are begun from there only. */
static void set_timer(struct prober *prober)
{
	uint64_t next_ns = schedule_next_ns(&prober->schedule), now_ns = loop_now_ns(prober->loop);

	if (next_ns == WHEEL_NEVER)
		loop_timer_stop(prober->loop, &prober->timer);
	else
		loop_timer_start(prober->loop, &prober->timer, next_ns > now_ns ? next_ns - now_ns : 0);
}

/* The check is over. The target may be gone after that. */
static void conclude(struct prober_target *target, const struct outcome *outcome)
{
	struct prober *prober = target->prober;
	struct health_check check = {
		.result = outcome->result, .detail = outcome->detail, .latency_ns = clock_now_ns() - target->begun_ns
	};

	schedule_done(&prober->schedule, &target->entry, loop_now_ns(prober->loop));
	set_timer(prober);
	if (outcome->kind == OUTCOME_UNABLE)
		prober->ops->unable(prober->arg, target->plan->key, outcome->reason);
	else
		prober->ops->result(prober->arg, target->plan->key, &check, outcome->reason);
}

/* Whether there is an address that this check has not tried; it is the next one's turn, also in the next check. */
static bool goes_on(struct prober_target *target, const struct outcome *outcome)
{
	if (outcome->kind != OUTCOME_UNREACHABLE)
		return false;
	target->addr = (target->addr + 1) % target->plan->n_addrs;
	return target->tried < target->plan->n_addrs;
}

static void on_outcome(void *arg, const struct outcome *outcome)
{
	struct prober_target *target = arg;

	target->stream = NULL;
	target->datagram = NULL;
	target->http = NULL;
	if (goes_on(target, outcome))
		try_addresses(target);
	else
		conclude(target, outcome);
}

static int start(struct prober_target *target)
{
	const struct check_plan *plan = target->plan;
	const struct addr *addr = &plan->addrs[target->addr];
	const struct dial_source *source = plan->source.addr.length ? &plan->source : NULL;

	if (check_plan_is_by_libcurl(plan->rules.kind, &plan->tls))
		return probe_http_start(target->prober->http, addr, source, &plan->http, on_outcome, target, &target->http);
	if (plan->rules.kind == PROBE_UDP)
		return probe_datagram_start(
		        target->prober->loop, addr, source, &plan->rules, target->entry.timeout_ns, on_outcome, target, &target->datagram);
	return probe_stream_start(&target->prober->linger, addr, source, &plan->rules, &plan->tls, on_outcome, target, &target->stream);
}

static void try_addresses(struct prober_target *target)
{
	struct outcome outcome;

	do {
		target->tried++;
		int error = start(target);
		if (!error)
			return;
		outcome_not_connected(&outcome, error);
	} while (goes_on(target, &outcome));
	conclude(target, &outcome);
}

static const char *awaits(const struct prober_target *target)
{
	if (target->datagram)
		return probe_datagram_awaits(target->datagram);
	return target->http ? probe_http_awaits(target->http) : probe_stream_awaits(target->stream);
}

static void stop(struct prober_target *target)
{
	if (target->stream)
		probe_stream_stop(target->stream);
	if (target->datagram)
		probe_datagram_stop(target->datagram);
	if (target->http)
		probe_http_stop(target->http);
	target->stream = NULL;
	target->datagram = NULL;
	target->http = NULL;
}

static void on_overdue(struct schedule_entry *entry, void *arg)
{
	struct prober_target *target = container_of(entry, struct prober_target, entry);
	struct outcome outcome = { .kind = OUTCOME_BAD, .result = HEALTH_RESULT_TIMEOUT };
	struct text reason = text_of(outcome.reason, sizeof outcome.reason);

	(void)arg;
	text_add(&reason, "timed out waiting for %s", awaits(target));
	stop(target);
	target->addr = (target->addr + 1) % target->plan->n_addrs;
	conclude(target, &outcome);
}

static void on_timer(struct loop_timer *timer)
{
	struct prober *prober = container_of(timer, struct prober, timer);
	uint64_t now_ns = loop_now_ns(prober->loop);
	struct schedule_entry *entry;

	schedule_advance(&prober->schedule, now_ns, on_overdue, NULL);
	while ((entry = schedule_take(&prober->schedule, now_ns)) != NULL) {
		struct prober_target *target = container_of(entry, struct prober_target, entry);
		target->tried = 0;
		target->begun_ns = clock_now_ns();
		try_addresses(target);
	}
	set_timer(prober);
}

/* ---- targets ---- */

struct prober *prober_new(struct loop *loop, const struct prober_ops *ops, void *arg, unsigned max_in_flight, uint64_t seed)
{
	struct prober *prober = calloc(1, sizeof *prober);

	if (!prober)
		return NULL;
	prober->loop = loop;
	prober->ops = ops;
	prober->arg = arg;
	loop_timer_init(&prober->timer, on_timer);
	schedule_init(&prober->schedule, loop_now_ns(loop), max_in_flight, seed);
	linger_init(&prober->linger, loop);
	return prober;
}

void prober_free(struct prober *prober)
{
	if (!prober)
		return;
	while (prober->targets)
		prober_remove(prober, prober->targets);
	probe_http_free(prober->http);
	linger_fini(&prober->linger);
	loop_timer_stop(prober->loop, &prober->timer);
	free(prober);
}

/* It will be looked at before the loop sleeps. */
static void enter(struct prober *prober, struct prober_target *target, const struct prober_settings *settings, struct check_plan *plan)
{
	target->plan = plan;
	target->addr = 0;
	target->entry.interval_ns = settings->interval_ns;
	target->entry.fast_interval_ns = settings->fast_interval_ns ? settings->fast_interval_ns : settings->interval_ns;
	target->entry.timeout_ns = settings->timeout_ns;
	target->entry.first_ns = settings->first_ns;
	schedule_add(&prober->schedule, &target->entry);
	set_timer(prober);
}

int prober_add(struct prober *prober, const struct prober_settings *settings, struct prober_target **out, const char **why)
{
	struct check_plan *plan;
	int error = prepare(prober, settings, &plan, why);

	if (error)
		return error;
	struct prober_target *target = calloc(1, sizeof *target);
	if (!target) {
		free(plan);
		*why = "out of memory";
		return -ENOMEM;
	}
	target->prober = prober;
	target->next = prober->targets;
	target->link = &prober->targets;
	if (target->next)
		target->next->link = &target->next;
	prober->targets = target;
	enter(prober, target, settings, plan);
	*out = target;
	return 0;
}

int prober_change(struct prober *prober, struct prober_target *target, const struct prober_settings *settings, const char **why)
{
	struct check_plan *plan;
	int error = prepare(prober, settings, &plan, why);

	if (error)
		return error;
	stop(target);
	schedule_remove(&prober->schedule, &target->entry);
	free(target->plan);
	enter(prober, target, settings, plan);
	return 0;
}

void prober_remove(struct prober *prober, struct prober_target *target)
{
	stop(target);
	schedule_remove(&prober->schedule, &target->entry);
	*target->link = target->next;
	if (target->next)
		target->next->link = target->link;
	free(target->plan);
	free(target);
	set_timer(prober);
}

void prober_hurry(struct prober *prober, struct prober_target *target, bool hurries)
{
	schedule_hurry(&prober->schedule, &target->entry, hurries, loop_now_ns(prober->loop));
	set_timer(prober);
}

bool prober_is_checking(const struct prober_target *target)
{
	return target->stream || target->datagram || target->http;
}

unsigned prober_in_flight(const struct prober *prober)
{
	return prober->schedule.in_flight;
}
