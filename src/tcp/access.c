#include "tcp/access.h"

#include "base/clock.h"
#include "shm/log_records.h"
#include "tcp/tcp.h"

void access_init(struct access_log *access, const struct config *config, struct shm *shm, uint32_t seat, const struct bells *bell)
{
	*access = (struct access_log){ .on = config->access_log.path[0] != '\0', .interval_ns = config->access_log.interval_ns };
	if (access->on)
		log_port_open(&access->port, shm, seat, LOG_KIND_ACCESS, log_ring_capacity(config->access_log.buffer_bytes), bell);
}

/* --- a record ---------------------------------------------------------------------------------------------------------------- */

static void write_record(struct session *session, enum access_phase phase, enum reason reason)
{
	const struct tcp *tcp = session->tcp;
	bool relays = session->step == STEP_RELAY;
	uint64_t now_ns = loop_now_ns(tcp->loop);
	struct access_record *record = log_port_reserve(&session->tcp->access.port, sizeof *record);
	if (unlikely(!record))
		return;
	*record = (struct access_record){
		.at_ns = now_ns,
		.duration_ns = now_ns - session->accepted_ns,
		.connect_ns = relays ? session->step_ns - session->accepted_ns : ACCESS_NEVER,
		.first_byte_ns = relays && session->first_byte_ns ? session->first_byte_ns - session->accepted_ns : ACCESS_NEVER,
		.received_bytes = session->bytes[SIDE_CLIENT],
		.sent_bytes = session->bytes[SIDE_SERVER],
		.serial = session->serial,
		.waited_ms = session->waited_ms,
		.listener = session->listener->limit - limit_listener(0),
		.upstream = session->listener->upstream->row,
		.server = session->server ? session->server->limit - limit_server(tcp->shm, 0) : ACCESS_NO_SERVER,
		.phase = (uint8_t)phase,
		.reason = (uint8_t)reason,
		.server_first = session->relay.server_first,
	};
	record_address_of(&record->client, &session->peer);
	log_port_commit(&session->tcp->access.port);
}

void access_ended(struct session *session, enum reason reason)
{
	write_record(session, ACCESS_CLOSE, reason);
}

/* --- those that last --------------------------------------------------------------------------------------------------------- */

/* How often access_log.interval has passed. */
static uint64_t intervals(const struct session *session)
{
	uint64_t lived_ns = loop_now_ns(session->tcp->loop) - session->accepted_ns, interval_ns = session->tcp->access.interval_ns;
	return likely(lived_ns < interval_ns) ? 0 : lived_ns / interval_ns;
}

uint64_t access_due_ns(const struct session *session)
{
	const struct access_log *access = &session->tcp->access;
	if (!access->on || !access->interval_ns)
		return WHEEL_NEVER;
	uint64_t passed = intervals(session);
	uint64_t next = (uint8_t)passed == session->intervals ? passed + 1 : passed;
	return session->accepted_ns + next * access->interval_ns;
}

void access_lasts(struct session *session)
{
	uint64_t passed = intervals(session);
	bool first = session->intervals == 0 && passed <= UINT8_MAX;
	session->intervals = (uint8_t)passed;
	write_record(session, first ? ACCESS_OPEN : ACCESS_INTERVAL, REASON_FINISHED);
}
