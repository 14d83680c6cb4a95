#include "tcp/flight.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static_assert((int)CONFIG_MAX_LISTENERS <= UINT16_MAX && (int)CONFIG_MAX_SERVERS < (int)ROLL_NO_SERVER, "a row fits into a record");
static_assert(sizeof(((struct record *)0)->closed) == sizeof(((struct record *)0)->words), "all of the record is written");

static struct recorder *recorder_of(const struct session *session)
{
	return &session->tcp->recorder;
}

static bool is_on(const struct session *session)
{
	return likely(recorder_of(session)->size > 0);
}

/* The next record, to be filled in where it stands. */
static struct record *begin(const struct session *session, enum record_kind kind)
{
	struct record *record = recorder_next(recorder_of(session));
	*record = (struct record){ .time_ns = loop_now_ns(session->tcp->loop), .serial = session->serial, .kind = (uint8_t)kind };
	return record;
}

static uint16_t listener_row(const struct session *session)
{
	return (uint16_t)session->listener->shm_row;
}

static uint16_t server_row(const struct session *session)
{
	const struct server *server = session->server;
	return server ? (uint16_t)(server->shared - session->tcp->shm->servers) : ROLL_NO_SERVER;
}

static void publish(const struct session *session)
{
	recorder_publish(recorder_of(session));
}

void flight_begin(struct tcp *tcp, uint32_t generation, uint64_t bytes)
{
	recorder_begin(&tcp->recorder, &tcp->shm->recorder_heads[tcp->seat], shm_recorder_ring(tcp->shm, tcp->seat), bytes);
	if (tcp->recorder.size == 0)
		return;
	struct record record = {
		.time_ns = loop_now_ns(tcp->loop), .kind = RECORD_WORKER_BEGAN, .worker = { .pid = getpid(), .generation = generation }
	};
	recorder_write(&tcp->recorder, &record);
}

void flight_accepted(const struct session *session)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_ACCEPTED);
	record->row = listener_row(session);
	record_address_of(&record->client, &session->peer);
	publish(session);
}

/* --- refused ----------------------------------------------------------------------------------------------------------------- */

/* The door has said no; which rule did is asked again. */
static void describe_denial(const struct session *session, struct record *record)
{
	const struct listener_config *config = session->listener->config;
	struct access_verdict verdict = access_check(session->listener->door.access, (const struct sockaddr *)&session->peer);
	const struct cidr *rules = verdict.list == ACCESS_ALLOW ? config->allow : config->deny;
	record->kind = RECORD_DENIED;
	record->detail = verdict.list;
	record->number = verdict.rule;
	if (verdict.list == ACCESS_NO_RULE)
		return;
	const struct cidr *rule = &rules[verdict.rule];
	record->denied.range.family = rule->family == AF_INET ? 4 : rule->family == AF_INET6 ? 6 : 0;
	record->denied.range.bits = rule->bits;
	memcpy(record->denied.range.bytes, rule->bytes, sizeof record->denied.range.bytes);
}

static void describe_rate(const struct session *session, struct record *record)
{
	const struct listener_config *config = session->listener->config;
	record->kind = RECORD_RATE_LIMITED;
	record->detail = (uint8_t)config->rate_limit.per;
	record->number = config->rate_limit.connections_per_second;
	record->rate.burst = config->rate_limit.burst;
}

static void describe_limit(const struct session *session, struct record *record, enum record_limit which)
{
	const struct shm *shm = session->tcp->shm;
	uint32_t limit = which == RECORD_LIMIT_ALL ? limit_global() : session->listener->limit;
	record->kind = RECORD_FULL;
	record->detail = (uint8_t)which;
	record->full.used = limit_used(shm, limit);
	record->full.max = atomic_load_explicit(&shm_limit(shm, limit)->max, memory_order_relaxed);
}

void flight_refused(const struct session *session, enum reason reason)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_NONE);
	record->row = listener_row(session);
	if (reason == REASON_DENIED)
		describe_denial(session, record);
	else if (reason == REASON_RATE_LIMITED)
		describe_rate(session, record);
	else
		describe_limit(session, record, reason == REASON_FULL ? RECORD_LIMIT_ALL : RECORD_LIMIT_LISTENER);
	publish(session);
}

/* --- a server ---------------------------------------------------------------------------------------------------------------- */

void flight_chosen(const struct session *session)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_CHOSEN);
	record->row = server_row(session);
	record->choice = session->listener->upstream->last;
	publish(session);
}

void flight_not_chosen(const struct session *session, enum record_want want)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_NOT_CHOSEN);
	record->row = ROLL_NO_SERVER;
	record->detail = (uint8_t)want;
	record->number = session->listener->upstream->row;
	if (want != WANT_TURN)
		record->choice = session->listener->upstream->last;
	publish(session);
}

void flight_in_line(const struct session *session)
{
	if (!is_on(session))
		return;
	const struct shm *shm = session->tcp->shm;
	struct record *record = begin(session, RECORD_IN_LINE);
	record->row = ROLL_NO_SERVER;
	record->number = limit_used(shm, limit_upstream(shm, session->listener->upstream->row));
	publish(session);
}

static void describe_address(struct record *record, const struct addr *addr)
{
	struct sockaddr_in6 peer = { .sin6_family = AF_UNSPEC };
	if (!addr || addr->sa.sa_family == AF_UNIX)
		return;
	memcpy(&peer, &addr->sa, addr->length < sizeof peer ? addr->length : sizeof peer);
	record_address_of(&record->dial.to, &peer);
}

void flight_connected(const struct session *session)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_CONNECTED);
	record->row = server_row(session);
	record->dial.attempt = (uint8_t)(session->n_tried + 1);
	describe_address(record, server_addr(session->server));
	publish(session);
}

void flight_connect_failed(const struct session *session, const struct addr *addr, int error, bool last)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_CONNECT_FAILED);
	record->row = server_row(session);
	record->dial.error = (uint32_t)error;
	record->dial.attempt = (uint8_t)(session->n_tried + 1);
	record->dial.attempts = (uint8_t)(session->listener->upstream->config->retries + 1);
	record->dial.last = last;
	describe_address(record, addr);
	publish(session);
}

void flight_stale(const struct session *session)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_STALE);
	record->row = server_row(session);
	publish(session);
}

void flight_first_byte(const struct session *session)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_FIRST_BYTE);
	record->row = server_row(session);
	publish(session);
}

/* --- the end ----------------------------------------------------------------------------------------------------------------- */

void flight_closed(const struct session *session, enum reason reason)
{
	if (!is_on(session))
		return;
	struct record *record = begin(session, RECORD_CLOSED);
	uint64_t lived_ms = (record->time_ns - session->accepted_ns) / NS_PER_MS;
	record->row = listener_row(session);
	record->detail = (uint8_t)reason;
	record->number = (uint32_t)reason_closer(reason, session->relay.server_first) | (uint32_t)session->step << 8;
	record_address_of(&record->closed.client, &session->peer);
	record->closed.lived_ms = lived_ms < UINT32_MAX ? (uint32_t)lived_ms : UINT32_MAX;
	record->closed.up_bytes = session->bytes[SIDE_CLIENT];
	record->closed.down_bytes = session->bytes[SIDE_SERVER];
	publish(session);
}
