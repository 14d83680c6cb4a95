#include "tools/events.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"

const struct event *events_at(const struct events *events, unsigned back)
{
	return back < events->n ? &events->kept[(events->next + EVENTS_KEPT - 1 - back) % EVENTS_KEPT] : NULL;
}

void events_add(struct events *events, uint64_t unix_s, enum canvas_style style, const char *format, ...)
{
	struct event *event = &events->kept[events->next];
	va_list arguments;
	va_start(arguments, format);
	if (vsnprintf(event->text, sizeof event->text, format, arguments) < 0)
		event->text[0] = '\0';
	va_end(arguments);
	event->unix_s = unix_s;
	event->style = style;
	events->next = (events->next + 1) % EVENTS_KEPT;
	if (events->n < EVENTS_KEPT)
		events->n++;
}

void events_lost(struct events *events, int32_t pid, const char *why, uint64_t unix_s)
{
	if (events->is_lost)
		return;
	events->is_lost = true;
	events->lost_pid = pid;
	events_add(events, unix_s, STYLE_BAD, "%s", why);
}

/* The instance came, or came back, or another one took its place. */
static void compare_instance(struct events *events, const struct snapshot *before, const struct snapshot *now, uint64_t unix_s)
{
	int32_t pid = events->is_lost ? events->lost_pid : before != NULL ? before->master_pid : now->master_pid;
	if (events->is_lost && (pid == 0 || pid == now->master_pid))
		events_add(events, unix_s, STYLE_GOOD, "Aegis can be read again, pid %" PRId32, now->master_pid);
	else if (pid != now->master_pid)
		events_add(events, unix_s, STYLE_WARN, "Aegis was restarted: Aegis %s, pid %" PRId32 ", before %" PRId32, now->version,
		        now->master_pid, pid);
	events->is_lost = false;
	if (before == NULL)
		return;
	if (before->state != now->state)
		events_add(events, unix_s, now->state == INSTANCE_RUNNING ? STYLE_GOOD : STYLE_WARN, "Aegis is %s, before %s",
		        instance_state_name(now->state), instance_state_name(before->state));
	if (before->max != now->max)
		events_add(events, unix_s, STYLE_PLAIN, "max_connections is %" PRIu32 ", before %" PRIu32, now->max, before->max);
}

static void compare_reloads(struct events *events, const struct snapshot *before, const struct snapshot *now, uint64_t unix_s)
{
	const char *note = now->last_reload_note, *colon = note[0] != '\0' ? ": " : "";
	if (now->master.reloads_failed > before->master.reloads_failed)
		events_add(events, unix_s, STYLE_BAD, "a reload failed, the settings before stay%s%s", now->last_reload_ok ? "" : colon,
		        now->last_reload_ok ? "" : note);
	if (now->master.reloads_ok > before->master.reloads_ok)
		events_add(events, unix_s, STYLE_GOOD, "reloaded, generation %" PRIu32 "%s%s", now->generation,
		        now->last_reload_ok ? colon : "", now->last_reload_ok ? note : "");
	else if (now->generation != before->generation)
		events_add(events, unix_s, STYLE_PLAIN, "generation %" PRIu32 " runs", now->generation);
}

static const struct snapshot_worker *find_worker(const struct snapshot *snapshot, uint32_t slot, uint32_t generation)
{
	for (size_t i = 0; i < snapshot->n_workers; i++)
		if (snapshot->workers[i].slot == slot && snapshot->workers[i].generation == generation)
			return &snapshot->workers[i];
	return NULL;
}

static void compare_workers(struct events *events, const struct snapshot *before, const struct snapshot *now, uint64_t unix_s)
{
	uint64_t told = 0, restarts = 0;
	if (now->master.worker_restarts > before->master.worker_restarts)
		restarts = now->master.worker_restarts - before->master.worker_restarts;
	for (size_t i = 0; i < now->n_workers; i++) {
		const struct snapshot_worker *worker = &now->workers[i];
		const struct snapshot_worker *was = find_worker(before, worker->slot, worker->generation);
		if (was == NULL || was->pid == worker->pid || worker->pid == 0 || was->pid == 0)
			continue;
		events_add(events, unix_s, STYLE_BAD,
		        "worker %" PRIu32 " died (pid %" PRId32 ", %" PRIu32 " connections) and was replaced by pid %" PRId32, worker->slot,
		        was->pid, was->connections, worker->pid);
		told++;
	}
	if (restarts > told)
		events_add(events, unix_s, STYLE_BAD, "%" PRIu64 " %sworker%s replaced", restarts - told, told ? "more " : "",
		        restarts - told == 1 ? " was" : "s were");
	if (now->master.control_restarts > before->master.control_restarts)
		events_add(events, unix_s, STYLE_WARN, "the control process was replaced");
}

static enum canvas_style standing_style(enum standing_state state)
{
	switch (state) {
	case STANDING_UP:
	case STANDING_UNKNOWN:
		return STYLE_GOOD;
	case STANDING_DOWN:
	case STANDING_BREAKER_OPEN:
	case STANDING_EJECTED:
		return STYLE_BAD;
	default:
		return STYLE_WARN;
	}
}

/* What a state calls for besides its name. */
static void describe(const struct standing *standing, char *out, size_t size)
{
	char text[32], why[HEALTH_WHY_SIZE];
	out[0] = '\0';
	if (standing->state == STANDING_DOWN && health_check_why(&standing->last, why, sizeof why)[0])
		snprintf(out, size, ": %s (%s)", health_result_text(standing->last.result), why);
	else if (standing->state == STANDING_DOWN)
		snprintf(out, size, ": %s", health_result_text(standing->last.result));
	else if (standing->state == STANDING_EJECTED)
		snprintf(out, size, " for %s", units_human_ns(standing->ejected_for_ns, text, sizeof text));
}

static unsigned compare_standing(
        struct events *events, const struct snapshot_server *server, const struct standing *before, uint64_t unix_s)
{
	const struct standing *now = &server->standing;
	char more[96];
	unsigned n = 0;
	if (now->state != before->state) {
		describe(now, more, sizeof more);
		events_add(events, unix_s, standing_style(now->state), "%s/%s: %s%s, before %s", server->upstream, server->name,
		        standing_name(now->state), more, standing_name(before->state));
		n++;
	}
	if (now->trips > before->trips && now->state != STANDING_BREAKER_OPEN) {
		events_add(events, unix_s, STYLE_BAD, "%s/%s: its breaker opened", server->upstream, server->name);
		n++;
	}
	if (now->ejections > before->ejections && now->state != STANDING_EJECTED) {
		events_add(events, unix_s, STYLE_BAD, "%s/%s: it was ejected", server->upstream, server->name);
		n++;
	}
	if (now->override != before->override) {
		events_add(events, unix_s, STYLE_WARN, "%s/%s: set by the operator: %s", server->upstream, server->name,
		        now->override == OVERRIDE_NONE ? "nothing any more" : override_mode_name(now->override));
		n++;
	}
	return n;
}

static unsigned compare_server(
        struct events *events, const struct snapshot_server *before, const struct snapshot_server *server, uint64_t unix_s)
{
	bool was = before != NULL && before->in_use;
	if (was != server->in_use) {
		events_add(events, unix_s, STYLE_PLAIN, "%s/%s: %s", server->upstream, server->name,
		        server->in_use ? "new in the settings" : "gone from the settings");
		return 1;
	}
	return was && server->in_use ? compare_standing(events, server, &before->standing, unix_s) : 0;
}

/* Beyond so many only their number is told. */
static void compare_servers(
        struct events *events, const struct snapshot *before, const struct snapshot *now, const struct rates *rates, uint64_t unix_s)
{
	unsigned told = 0;
	size_t untold = 0;
	for (size_t i = 0; i < now->n_servers; i++) {
		size_t at = rates->servers[i].before;
		const struct snapshot_server *was = at == RATES_NO_ROW ? NULL : &before->servers[at];
		const struct snapshot_server *server = &now->servers[i];
		if (told < EVENTS_SERVERS_AT_ONCE)
			told += compare_server(events, was, server, unix_s);
		else
			untold += was == NULL || was->in_use != server->in_use || was->standing.state != server->standing.state;
	}
	if (untold > 0)
		events_add(events, unix_s, STYLE_WARN, "%zu more servers changed", untold);
}

static const char *lasted(const struct spell *spell, char *out, size_t size)
{
	return units_human_ns((spell->last_s - spell->began_s + 1) * NS_PER_S, out, size);
}

/* Note so many more. True when it begins; *over when it has ended. */
static bool spell_note(struct spell *spell, uint64_t more, uint64_t unix_s, bool *over)
{
	bool begins = more > 0 && spell->last_s == 0;
	*over = more == 0 && spell->last_s != 0 && unix_s >= spell->last_s + EVENTS_QUIET_S;
	if (begins)
		*spell = (struct spell){ .began_s = unix_s };
	if (more > 0) {
		spell->last_s = unix_s;
		spell->count += more;
	}
	return begins;
}

/* Which listener has the most of it. */
static const char *most_at(const struct snapshot *before, const struct snapshot *now, enum reason reason)
{
	const char *name = "a listener";
	uint64_t most = 0;
	for (size_t i = 0; i < now->n_listeners; i++) {
		uint64_t was = i < before->n_listeners && strcmp(before->listeners[i].name, now->listeners[i].name) == 0
		                       ? before->listeners[i].totals.closes[reason]
		                       : 0;
		uint64_t more = now->listeners[i].totals.closes[reason] > was ? now->listeners[i].totals.closes[reason] - was : 0;
		if (more > most) {
			most = more;
			name = now->listeners[i].name;
		}
	}
	return name;
}

static void compare_closes(struct events *events, const struct snapshot *before, const struct snapshot *now, uint64_t unix_s)
{
	for (unsigned i = 0; i < N_REASONS; i++) {
		enum reason_class class = reason_class(i);
		uint64_t was = before->totals.closes[i], is = now->totals.closes[i];
		struct spell *spell = &events->reasons[i];
		char text[32];
		bool over;
		if (class != REASON_REJECTED && class != REASON_ERROR)
			continue;
		if (spell_note(spell, is > was ? is - was : 0, unix_s, &over))
			events_add(events, unix_s, class == REASON_REJECTED ? STYLE_WARN : STYLE_BAD, "%s: %s began, %" PRIu64 ": %s",
			        most_at(before, now, i), reason_name(i), is - was, reason_text(i));
		if (!over)
			continue;
		events_add(events, unix_s, STYLE_PLAIN, "%s is over: %" PRIu64 " in %s", reason_name(i), spell->count,
		        lasted(spell, text, sizeof text));
		*spell = (struct spell){ 0 };
	}
}

static void sum_workers(const struct snapshot *snapshot, struct worker_totals *out)
{
	*out = (struct worker_totals){ 0 };
	for (size_t i = 0; i < snapshot->n_slots; i++) {
#define X(field, metric, help) out->field += snapshot->slots[i].totals.field;
		WORKER_COUNTERS(X)
#undef X
	}
}

/* Something that should not be at all. */
static void compare_trouble(struct events *events, struct spell *spell, uint64_t was, uint64_t is, uint64_t unix_s, const char *what)
{
	char text[32];
	bool over;
	if (spell_note(spell, is > was ? is - was : 0, unix_s, &over))
		events_add(events, unix_s, STYLE_BAD, "%s began, %" PRIu64, what, is - was);
	if (!over)
		return;
	events_add(events, unix_s, STYLE_PLAIN, "%s: over, %" PRIu64 " in %s", what, spell->count, lasted(spell, text, sizeof text));
	*spell = (struct spell){ 0 };
}

static void compare_worker_trouble(struct events *events, const struct snapshot *before, const struct snapshot *now, uint64_t unix_s)
{
	struct worker_totals was, is;
	sum_workers(before, &was);
	sum_workers(now, &is);
	compare_trouble(events, &events->pauses, was.accept_pauses, is.accept_pauses, unix_s,
	        "pauses of accepting (out of descriptors, memory or room)");
	compare_trouble(events, &events->log_drops, was.log_drops, is.log_drops, unix_s, "losing lines of the log");
	compare_trouble(events, &events->access_drops, was.access_drops, is.access_drops, unix_s, "losing records of the access log");
}

static void compare_lines(struct events *events, const struct snapshot *now, uint64_t unix_s)
{
	for (size_t i = 0; i < now->n_upstreams; i++) {
		const struct snapshot_upstream *upstream = &now->upstreams[i];
		struct spell *spell = &events->lines[upstream->row % SHM_UPSTREAMS];
		char text[32];
		bool over;
		if (spell_note(spell, upstream->waiting, unix_s, &over))
			events_add(events, unix_s, STYLE_WARN, "%s: clients wait in line: %" PRIu32, upstream->name, upstream->waiting);
		if (!over)
			continue;
		events_add(events, unix_s, STYLE_GOOD, "%s: nobody waits in line any more, after %s", upstream->name,
		        lasted(spell, text, sizeof text));
		*spell = (struct spell){ 0 };
	}
}

void events_compare(
        struct events *events, const struct snapshot *before, const struct snapshot *now, const struct rates *rates, uint64_t unix_s)
{
	compare_instance(events, before, now, unix_s);
	if (before == NULL || !rates->is_known)
		return;
	compare_reloads(events, before, now, unix_s);
	compare_workers(events, before, now, unix_s);
	compare_servers(events, before, now, rates, unix_s);
	compare_lines(events, now, unix_s);
	compare_closes(events, before, now, unix_s);
	compare_trouble(
	        events, &events->drops, snapshot_drops(&before->totals), snapshot_drops(&now->totals), unix_s, "dropping datagrams");
	compare_worker_trouble(events, before, now, unix_s);
}
