#include "control/checks.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/check_tls.h"
#include "control/prober.h"

#define FIRST_ROUND_NS NS_PER_S /* who waits for the first results waits no longer */

/* One server that is checked. */
struct check {
	const struct upstream_config *upstream;
	const struct server_config *server;
	uint32_t upstream_row, row;
	struct prober_target *target; /* NULL: not begun */
	bool first;                   /* the round waits for its result */
	struct condition *apart;      /* what the trial finds out while the row is about another address; NULL: the row has it */
	struct addr *moved;           /* where it is to be checked after the check that is under way; NULL = where it is */
	size_t n_moved;
};

struct checks {
	struct loop *loop;
	const struct control_args *args;
	struct prober *prober;
	struct check *checks;
	size_t n;
	size_t *first_of; /* [upstream]: its checks are that one and those that follow, in the order of the servers */
	size_t awaited;   /* first results */
	struct loop_timer round;
	checks_settled_fn *settled;
	void *settled_arg;
	struct log_gate unable;
	struct check_tls tls;
};

/* --- what the settings say ------------------------------------------------------------------------------------------------- */

bool control_checks(const struct upstream_config *upstream, const struct server_config *server)
{
	return upstream->health.type != HEALTH_TYPE_NONE && !server->disabled;
}

void checks_describe(const struct upstream_config *upstream, struct prober_settings *out)
{
	static const enum probe_kind kinds[] = { [HEALTH_TYPE_NONE] = PROBE_TCP, /* never asked for */
		[HEALTH_TYPE_TCP] = PROBE_TCP,
		[HEALTH_TYPE_HTTP] = PROBE_HTTP,
		[HEALTH_TYPE_HTTPS] = PROBE_HTTPS,
		[HEALTH_TYPE_UDP] = PROBE_UDP,
		[HEALTH_TYPE_REDIS] = PROBE_REDIS,
		[HEALTH_TYPE_POSTGRES] = PROBE_POSTGRES,
		[HEALTH_TYPE_MYSQL] = PROBE_MYSQL };
	const struct health_config *health = &upstream->health;
	bool http = health->type == HEALTH_TYPE_HTTP || health->type == HEALTH_TYPE_HTTPS;

	*out = (struct prober_settings){
		.interval_ns = health->interval_ns, .fast_interval_ns = health->fast_interval_ns, .timeout_ns = health->timeout_ns
	};
	out->rules = (struct probe_rules){ .kind = kinds[health->type], .user = health->user, .silent = health->silent };
	out->rules.introduced = upstream->send_proxy == SEND_PROXY_OFF ? 0 : upstream->send_proxy == SEND_PROXY_V1 ? 1 : 2;
	if (health->type == HEALTH_TYPE_TCP || health->type == HEALTH_TYPE_UDP) {
		out->rules.send = health->sent.bytes;
		out->rules.send_count = health->sent.count;
		out->rules.expect = health->expected.bytes;
		out->rules.expect_count = health->expected.count;
	}
	if (upstream->source_kind == SOURCE_ADDRESS) /* there is no client here */
		out->source.addr = upstream->source_addr;
	out->tls.wanted = health->tls;
	out->http.path = health->path;
	out->http.host = health->host;
	out->http.expect = http ? health->expect : "";
	out->http.verify = health->verify;
}

static struct condition_rules rules_of(const struct checks *checks, const struct check *check)
{
	return (struct condition_rules){ .health = { .rise = check->upstream->health.rise, .fall = check->upstream->health.fall },
		.is_checked = true,
		.slow_start_ns = check->upstream->slow_start_ns,
		.epoch = check->apart ? NULL : &checks->args->shm->upstreams[check->upstream_row].epoch };
}

/* Where it is checked: other than where its clients go when the settings name a port for that. */
static size_t take_addresses(const struct check *check, const struct addr *from, size_t n, struct addr *out)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = from[i];
		if (check->upstream->health.port && out[i].sa.sa_family != AF_UNIX)
			addr_set_port(&out[i], (uint16_t)check->upstream->health.port);
	}
	return n;
}

/* Those that it was last known to have; its own when it was not named. */
static size_t known_addresses(const struct checks *checks, const struct check *check, struct addr *out)
{
	struct addr published[ADDRESSES_MOST];
	uint32_t sequence = 0;
	size_t n;

	if (check->server->endpoint.kind == ENDPOINT_NAME && !check->apart &&
	        addresses_read(&checks->args->shm->servers[check->row].addresses, &sequence, published, &n))
		return take_addresses(check, published, n, out);
	return take_addresses(check, check->server->addrs, check->server->n_addrs, out);
}

static void describe(struct checks *checks, const struct check *check, const struct addr *addrs, size_t n, struct prober_settings *out)
{
	checks_describe(check->upstream, out);
	check_tls_describe(&checks->tls, (size_t)(check->upstream - checks->args->config->upstreams),
	        (size_t)(check->server - check->upstream->servers), &out->tls);
	out->key = (uint64_t)(check - checks->checks);
	out->n_addrs = n;
	out->addrs = addrs;
}

static void move(struct checks *checks, struct check *check, const struct addr *addrs, size_t n)
{
	struct prober_settings settings;
	const char *why;

	describe(checks, check, addrs, n, &settings);
	if (prober_change(checks->prober, check->target, &settings, &why))
		log_error("upstream %s: server %s: goes on being checked at its old address: %s", check->upstream->name,
		        check->server->name, why);
}

/* A check has ended. */
static void move_if_due(struct checks *checks, struct check *check)
{
	if (!check->moved)
		return;
	move(checks, check, check->moved, check->n_moved);
	free(check->moved);
	check->moved = NULL;
}

/* --- results --------------------------------------------------------------------------------------------------------------- */

static struct condition *condition_of(const struct checks *checks, const struct check *check)
{
	return check->apart ? check->apart : &checks->args->shm->servers[check->row].condition;
}

/* Servers that are not surely up are looked at more often. */
static bool is_unsure(const struct checks *checks, const struct check *check)
{
	struct health_verdict verdict = health_verdict(&condition_of(checks, check)->health);
	return verdict.state != HEALTH_UP || verdict.against > 0;
}

static void settle(struct checks *checks)
{
	checks_settled_fn *settled = checks->settled;
	loop_timer_stop(checks->loop, &checks->round);
	checks->settled = NULL;
	if (settled)
		settled(checks->settled_arg);
}

static void note_first(struct checks *checks, struct check *check)
{
	if (!check->first)
		return;
	check->first = false;
	if (--checks->awaited == 0)
		settle(checks);
}

static void on_round_over(struct loop_timer *timer)
{
	settle(container_of(timer, struct checks, round));
}

static void log_verdict(const struct checks *checks, const struct check *check, enum health_state before, const char *reason)
{
	bool up = health_state(&condition_of(checks, check)->health) == HEALTH_UP;
	uint32_t count = up ? check->upstream->health.rise : check->upstream->health.fall;
	const char *upstream = check->upstream->name, *server = check->server->name, *address = check->server->address;
	/* A server that is called by its address is called so once. */
	const char *open = strcmp(server, address) == 0 ? "" : " (", *close = *open ? ")" : "";

	address = *open ? address : "";
	if (before == HEALTH_UNKNOWN)
		log_line(up ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "upstream %s: server %s%s%s%s is %s: %s (its first check)", upstream,
		        server, open, address, close, up ? "up" : "down", reason);
	else
		log_line(up ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "upstream %s: server %s%s%s%s is %s: %s (%u of %u checks %s)", upstream,
		        server, open, address, close, up ? "up again" : "down", reason, count, count, up ? "passed" : "failed");
}

static void on_result(void *arg, uint64_t key, const struct health_check *result, const char *reason)
{
	struct checks *checks = arg;
	struct check *check = &checks->checks[key];
	struct condition *condition = condition_of(checks, check);
	const struct condition_rules rules = rules_of(checks, check);
	enum health_state before = health_state(&condition->health);

	if (condition_checked(condition, &rules, result, clock_now_ns())) {
		bells_ring_all(checks->args->bells); /* clients may wait for it, or be with it */
		log_verdict(checks, check, before, reason);
	} else {
		log_debug("upstream %s: server %s: check: %s", check->upstream->name, check->server->name, reason);
	}
	prober_hurry(checks->prober, check->target, is_unsure(checks, check));
	move_if_due(checks, check);
	note_first(checks, check);
}

static void on_unable(void *arg, uint64_t key, const char *reason)
{
	struct checks *checks = arg;
	struct check *check = &checks->checks[key];
	const struct health_check untried = { .result = HEALTH_RESULT_UNTRIED };
	const struct condition_rules rules = rules_of(checks, check);
	uint64_t held_back;

	(void)condition_checked(condition_of(checks, check), &rules, &untried, clock_now_ns());
	if (log_gate_open(&checks->unable, loop_now_ns(checks->loop), &held_back))
		log_warn("upstream %s: server %s: cannot be checked: %s; it stays what it was (%llu more such checks not logged)",
		        check->upstream->name, check->server->name, reason, (unsigned long long)held_back);
	move_if_due(checks, check);
	note_first(checks, check);
}

/* --- from the settings to the prober --------------------------------------------------------------------------------------- */

static size_t count_checks(const struct config *config)
{
	size_t n = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			n += control_checks(&config->upstreams[i], &config->upstreams[i].servers[j]);
	return n;
}

static void list_checks(struct checks *checks)
{
	const struct config *config = checks->args->config;
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *upstream = &config->upstreams[i];
		checks->first_of[i] = checks->n;
		for (size_t j = 0; j < upstream->n_servers; j++)
			if (control_checks(upstream, &upstream->servers[j]))
				checks->checks[checks->n++] = (struct check){ .upstream = upstream,
					.server = &upstream->servers[j],
					.upstream_row = checks->args->upstreams[i],
					.row = checks->args->servers[i][j] };
	}
}

static uint64_t any_seed(void)
{
	uint64_t seed;
	return getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed ? seed : clock_now_ns();
}

struct checks *checks_new(struct loop *loop, const struct control_args *args)
{
	static const struct prober_ops ops = { .result = on_result, .unable = on_unable };
	struct checks *checks = calloc(1, sizeof *checks);
	size_t n = count_checks(args->config);

	if (!checks)
		return NULL;
	checks->loop = loop;
	checks->args = args;
	loop_timer_init(&checks->round, on_round_over);
	check_tls_init(&checks->tls, args->config, args->excerpt);
	checks->prober = prober_new(loop, &ops, checks, PROBER_MAX_IN_FLIGHT, any_seed());
	checks->checks = calloc(n ? n : 1, sizeof *checks->checks);
	checks->first_of = calloc(args->config->n_upstreams + 1, sizeof *checks->first_of);
	if (!checks->prober || !checks->checks || !checks->first_of) {
		checks_free(checks);
		return NULL;
	}
	list_checks(checks);
	return checks;
}

void checks_free(struct checks *checks)
{
	if (!checks)
		return;
	prober_free(checks->prober);
	check_tls_fini(&checks->tls);
	loop_timer_stop(checks->loop, &checks->round);
	for (size_t i = 0; checks->checks && i < checks->n; i++) {
		free(checks->checks[i].moved);
		free(checks->checks[i].apart);
	}
	free(checks->checks);
	free(checks->first_of);
	free(checks);
}

/* What another control process checked is due when that one would have checked it again. */
static uint64_t due_ns(const struct checks *checks, const struct check *check)
{
	uint64_t checked_ns = atomic_load_explicit(&condition_of(checks, check)->health.checked_ns, memory_order_relaxed);
	const struct health_config *health = &check->upstream->health;
	if (checked_ns == 0 || health_state(&condition_of(checks, check)->health) == HEALTH_UNKNOWN)
		return 0;
	return checked_ns + (is_unsure(checks, check) ? health->fast_interval_ns : health->interval_ns);
}

static void begin(struct checks *checks, struct check *check)
{
	struct addr addrs[PROBER_MAX_ADDRESSES];
	struct prober_settings settings;
	const char *why;

	describe(checks, check, addrs, known_addresses(checks, check, addrs), &settings);
	settings.first_ns = due_ns(checks, check);
	if (prober_add(checks->prober, &settings, &check->target, &why)) {
		log_error("upstream %s: server %s: cannot be checked: %s", check->upstream->name, check->server->name, why);
		return;
	}
	prober_hurry(checks->prober, check->target, is_unsure(checks, check));
	check->first = health_state(&condition_of(checks, check)->health) == HEALTH_UNKNOWN;
	checks->awaited += check->first;
}

/* The row tells of another address, and will until the master forgets that at the switch. */
static bool has_moved(const struct checks *checks, const struct check *check)
{
	const char *address = checks->args->shm->servers[check->row].address;
	return address[0] && strncmp(address, check->server->address, SHM_ADDRESS_SIZE - 1) != 0;
}

/* In the trial: all but those that another control process checks, and writes about to the row. */
static void try_out(struct checks *checks, struct check *check)
{
	const bool *held = checks->args->held;

	if (has_moved(checks, check)) {
		check->apart = aligned_alloc(_Alignof(struct condition), sizeof *check->apart);
		if (!check->apart)
			return; /* it is checked after the trial */
		memset(check->apart, 0, sizeof *check->apart);
	} else if (held && held[check->row]) {
		return;
	}
	begin(checks, check);
}

/* What the trial found out, to the row. */
static void hand_in(struct checks *checks, struct check *check)
{
	struct condition *apart = check->apart;
	struct health_check last;

	health_last(&apart->health, &last);
	check->apart = NULL;
	if (last.result != HEALTH_RESULT_NONE) {
		const struct condition_rules rules = rules_of(checks, check);
		(void)condition_checked(condition_of(checks, check), &rules, &last, clock_now_ns());
		bells_ring_all(checks->args->bells);
	}
	free(apart);
}

void checks_begin(struct checks *checks, bool trial, checks_settled_fn *settled, void *arg)
{
	checks->settled = settled;
	checks->settled_arg = arg;
	for (size_t i = 0; i < checks->n; i++) {
		struct check *check = &checks->checks[i];
		if (check->apart)
			hand_in(checks, check);
		else if (!check->target && trial)
			try_out(checks, check);
		else if (!check->target)
			begin(checks, check);
	}
	loop_timer_start(checks->loop, &checks->round, checks->awaited ? FIRST_ROUND_NS : 0);
}

void checks_renew_certificates(struct checks *checks, int excerpt)
{
	check_tls_renew(&checks->tls, excerpt);
}

/* --- names ----------------------------------------------------------------------------------------------------------------- */

static struct check *find_check(const struct checks *checks, size_t upstream, size_t server)
{
	const struct upstream_config *config = &checks->args->config->upstreams[upstream];
	for (size_t i = checks->first_of[upstream]; i < checks->n && checks->checks[i].upstream == config; i++)
		if (checks->checks[i].server == &config->servers[server])
			return &checks->checks[i];
	return NULL;
}

void checks_move(struct checks *checks, size_t upstream, size_t server, const struct addr *addrs, size_t n)
{
	struct check *check = find_check(checks, upstream, server);
	struct addr moved[PROBER_MAX_ADDRESSES];

	if (!check || !check->target)
		return;
	n = take_addresses(check, addrs, n, moved);
	if (!prober_is_checking(check->target)) {
		move(checks, check, moved, n);
		return;
	}
	/* A name that stands for other addresses each time would otherwise never see the end of a check. */
	if (!check->moved)
		check->moved = calloc(PROBER_MAX_ADDRESSES, sizeof *check->moved);
	if (!check->moved) {
		move(checks, check, moved, n);
		return;
	}
	memcpy(check->moved, moved, n * sizeof *moved);
	check->n_moved = n;
}
