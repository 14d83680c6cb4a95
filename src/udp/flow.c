#include <string.h>

#include "house/flight.h"
#include "udp/flow_own.h"

enum { LAST_READ = 64 }; /* parcels of the server, before a session ends for silence */

static_assert(sizeof(struct flow) % 16 == 0, "as slabs round them");

static struct flow *flow_of_visit(const struct visit *visit)
{
	return container_of(visit, struct flow, visit);
}

struct flow *flow_find(const struct udp *udp, const struct flow_key *key, uint64_t hash)
{
	int64_t number;
	uint32_t at = flow_table_start(&udp->table, hash);
	while ((number = flow_table_next(&udp->table, hash, &at)) >= 0) {
		struct flow *flow = (struct flow *)(void *)udp->flows.region + number;
		if (likely(flow_key_equal(&flow->key, key)))
			return flow;
	}
	return NULL;
}

void flow_leave_table(struct flow *flow)
{
	struct udp *udp = flow->udp;
	if (flow->in_table)
		flow_table_remove(&udp->table, flow->hash, (uint32_t)(flow - (struct flow *)(void *)udp->flows.region));
	flow->in_table = false;
	if (flow->cell)
		flows_drop(udp->transfer.flows, flow->cell);
	flow->cell = 0;
}

/* One that drains has no session that others are to look for: it begins one only for what was late. Nor is there to be a second one where
 * a worker has the client's already. */
static void enter_shared_table(struct flow *flow, const struct transfer_found *found)
{
	const struct transfer *transfer = &flow->udp->transfer;
	if (!transfer->flows || flow->udp->refuses)
		return;
	uint32_t server = upstream_server_number(flow->visit.upstream, flow->visit.server);
	if (!found->lives)
		flow->cell = flows_put(transfer->flows, flow->hash, transfer->self, server);
	if (!flow->cell)
		counter_add(&flow->visit.entrance->row->udp_unlisted, 1);
}

static void enter_table(struct flow *flow, const struct transfer_found *found)
{
	struct udp *udp = flow->udp;
	flow_table_add(&udp->table, flow->hash, (uint32_t)(flow - (struct flow *)(void *)udp->flows.region));
	flow->in_table = true;
	enter_shared_table(flow, found);
}

/* --- deadlines: lazily, as those of tcp/session.c ------------------------------------------------------------------------------ */

static uint64_t idle_deadline(const struct flow *flow)
{
	return flow->active_ns + flow->visit.entrance->config->udp.idle_ns;
}

static uint64_t lifetime_deadline(const struct flow *flow)
{
	uint64_t lifetime_ns = flow->visit.entrance->config->timeout.lifetime_ns;
	return lifetime_ns ? flow->visit.accepted_ns + lifetime_ns : WHEEL_NEVER;
}

static void arm(struct flow *flow)
{
	uint64_t due_ns = idle_deadline(flow), lifetime_ns = lifetime_deadline(flow), access_ns = access_due_ns(&flow->visit);
	due_ns = lifetime_ns < due_ns ? lifetime_ns : due_ns;
	due_ns = access_ns < due_ns ? access_ns : due_ns;
	wheel_arm(&flow->udp->wheel, &flow->timer, due_ns);
}

/* What its server has said by now goes to the client first: that the worker had no time for it is no silence. False when that ended it. */
static bool take_what_waits(struct flow *flow)
{
	int n = 1;
	for (uint32_t read = 0; n > 0 && flow->fd >= 0 && read < LAST_READ; read += (uint32_t)n)
		n = flow_take_replies(flow);
	return n >= 0;
}

void flow_due(struct flow *flow)
{
	uint64_t now = flow_now_ns(flow);
	if (now >= idle_deadline(flow) || now >= lifetime_deadline(flow))
		if (!take_what_waits(flow))
			return;
	if (now >= idle_deadline(flow)) {
		flow_end(flow, REASON_IDLE_TIMEOUT);
		return;
	}
	if (now >= lifetime_deadline(flow)) {
		flow_end(flow, REASON_LIFETIME);
		return;
	}
	if (now >= access_due_ns(&flow->visit))
		access_lasts(&flow->visit);
	arm(flow);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------------ */

static bool admit(struct flow *flow, enum reason *why_not)
{
	struct visit *visit = &flow->visit;
	bool admitted = door_admit(&visit->entrance->door, &visit->peer, visit->accepted_ns, why_not);
	if (likely(admitted)) {
		flow_set_step(flow, STEP_RESERVE);
		visit->reserved = house_reserve(visit->entrance, why_not);
	}
	if (!visit->reserved)
		flight_refused(visit, *why_not);
	return visit->reserved;
}

struct flow *flow_begin(struct udp *udp, struct udp_socket *socket, const struct sockaddr_in6 *peer, const struct flow_key *key,
        uint64_t hash, const struct transfer_found *found)
{
	enum reason why_not;
	struct flow *flow = slab_take(&udp->flows);
	if (!flow)
		return NULL;
	memset(flow, 0, sizeof *flow);
	flow->udp = udp;
	flow->socket = socket;
	flow->key = *key;
	flow->hash = hash;
	flow->had = found->server;
	flow->fd = -1;
	loop_io_init(&flow->io, flow_on_server);
	flow->visit.entrance = socket->entrance;
	flow->visit.peer = *peer;
	house_enter(udp->house, &flow->visit);
	flow_set_step(flow, STEP_ADMIT);
	flow->visit.accepted_ns = flow->active_ns = flow->visit.step_ns;
	counter_add(&socket->entrance->row->connections, 1);
	flight_accepted(&flow->visit);
	udp_count_sessions(udp);
	if (!admit(flow, &why_not) || !flow_dial(flow, &why_not)) {
		flow_end(flow, why_not);
		return NULL;
	}
	enter_table(flow, found);
	arm(flow);
	return flow;
}

bool flow_goes_on(struct flow *flow)
{
	const struct server *server = flow->visit.server;
	if (likely(!server || server->usability != USABILITY_DISABLED || flow->visit.upstream->config->lame_duck))
		return true;
	flow_end(flow, REASON_SERVER_DISABLED);
	return false;
}

void flow_end(struct flow *flow, enum reason reason)
{
	struct udp *udp = flow->udp;
	struct visit *visit = &flow->visit;
	const struct entrance *entrance = visit->entrance;
	if (unlikely(log_enabled(LOG_LEVEL_DEBUG)))
		house_log_end(visit, reason);
	flight_closed(visit, reason);
	if (unlikely(visit->judged))
		flow_judge_at_end(flow);
	wheel_disarm(&flow->timer);
	flow_leave_table(flow);
	if (udp->house->access.on)
		access_ended(visit, reason);
	flow_close_socket(flow);
	if (visit->server)
		upstream_give_back(visit->upstream, visit->server);
	if (visit->reserved)
		house_release(entrance);
	counter_add(&entrance->row->closes[reason], 1);
	gauge_subtract(&entrance->row->udp_awaited, flow_awaits(flow));
	histogram_record(&entrance->row->duration, flow_now_ns(flow) - visit->accepted_ns);
	house_leave(udp->house, visit);
	slab_give_back(&udp->flows, flow);
	udp_count_sessions(udp);
}

/* --- for those who know of no kind --------------------------------------------------------------------------------------------- */

static void on_end(struct visit *visit, enum reason reason)
{
	flow_end(flow_of_visit(visit), reason);
}

static void on_server_fell(struct visit *visit)
{
	flow_end(flow_of_visit(visit), REASON_SERVER_DOWN);
}

static bool is_idle(const struct visit *visit, uint64_t now, uint64_t quiet_ns)
{
	return now - flow_of_visit(visit)->active_ns >= quiet_ns;
}

static void tell(const struct visit *visit, struct visit_moments *out)
{
	const struct flow *flow = flow_of_visit(visit);
	*out = (struct visit_moments){ .active_ns = flow->active_ns,
		.first_byte_ns = flow->first_byte_ns,
		.datagrams = { flow->datagrams[FROM_CLIENT], flow->datagrams[FROM_SERVER] } };
}

const struct visit_kind flow_kind = { .is_udp = true, .end = on_end, .is_idle = is_idle, .tell = tell, .server_fell = on_server_fell };
