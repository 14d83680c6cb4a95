#include "house/flight.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "house/caller.h"

static_assert((int)CONFIG_MAX_LISTENERS <= UINT16_MAX && (int)CONFIG_MAX_SERVERS < (int)ROLL_NO_SERVER, "a row fits into a record");
static_assert(sizeof(((struct record *)0)->closed) == sizeof(((struct record *)0)->words), "all of the record is written");

static struct recorder *recorder_of(const struct visit *visit)
{
	return &visit->entrance->house->recorder;
}

static bool is_on(const struct visit *visit)
{
	return likely(recorder_of(visit)->size > 0);
}

/* The next record, to be filled in where it stands. */
static struct record *begin(const struct visit *visit, enum record_kind kind)
{
	struct record *record = recorder_next(recorder_of(visit));
	*record = (struct record){ .time_ns = loop_now_ns(visit->entrance->house->loop), .serial = visit->serial, .kind = (uint8_t)kind };
	return record;
}

static uint16_t listener_row(const struct visit *visit)
{
	return (uint16_t)visit->entrance->shm_row;
}

static uint16_t server_row(const struct visit *visit)
{
	return visit->server ? (uint16_t)house_server_row(visit->entrance->house, visit->server) : ROLL_NO_SERVER;
}

static void publish(const struct visit *visit)
{
	recorder_publish(recorder_of(visit));
}

void flight_begin(struct house *house, uint32_t generation, uint64_t bytes)
{
	recorder_begin(&house->recorder, &house->shm->recorder_heads[house->seat], shm_recorder_ring(house->shm, house->seat), bytes);
	if (house->recorder.size == 0)
		return;
	struct record record = {
		.time_ns = loop_now_ns(house->loop), .kind = RECORD_WORKER_BEGAN, .worker = { .pid = getpid(), .generation = generation }
	};
	recorder_write(&house->recorder, &record);
}

void flight_accepted(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_ACCEPTED);
	record->row = listener_row(visit);
	record_address_of(&record->client, &visit->peer);
	publish(visit);
}

void flight_introduced(const struct visit *visit, int version, bool known)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_INTRODUCED);
	record->row = listener_row(visit);
	record->detail = (uint8_t)version;
	record->number = known;
	record_address_of(&record->client, &visit->peer);
	publish(visit);
}

/* --- refused ----------------------------------------------------------------------------------------------------------------- */

/* The door has said no; which rule did is asked again. */
static void describe_denial(const struct visit *visit, struct record *record)
{
	const struct listener_config *config = visit->entrance->config;
	struct access_verdict verdict = access_check(visit->entrance->door.access, (const struct sockaddr *)&visit->peer);
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

static void describe_rate(const struct visit *visit, struct record *record)
{
	const struct listener_config *config = visit->entrance->config;
	record->kind = RECORD_RATE_LIMITED;
	record->detail = (uint8_t)config->rate_limit.per;
	record->number = config->rate_limit.connections_per_second;
	record->rate.burst = config->rate_limit.burst;
}

static void describe_limit(const struct visit *visit, struct record *record, enum record_limit which)
{
	const struct shm *shm = visit->entrance->house->shm;
	uint32_t limit = which == RECORD_LIMIT_ALL ? limit_global() : visit->entrance->limit;
	record->kind = RECORD_FULL;
	record->detail = (uint8_t)which;
	record->full.used = limit_used(shm, limit);
	record->full.max = atomic_load_explicit(&shm_limit(shm, limit)->max, memory_order_relaxed);
}

void flight_refused(const struct visit *visit, enum reason reason)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_NONE);
	record->row = listener_row(visit);
	if (reason == REASON_DENIED)
		describe_denial(visit, record);
	else if (reason == REASON_RATE_LIMITED)
		describe_rate(visit, record);
	else
		describe_limit(visit, record, reason == REASON_FULL ? RECORD_LIMIT_ALL : RECORD_LIMIT_LISTENER);
	publish(visit);
}

/* --- where to ----------------------------------------------------------------------------------------------------------------- */

static_assert(sizeof((struct record){ 0 }.route.name) < CALLER_NAME_SIZE, "it may be cut");

void flight_routed(const struct visit *visit, bool found)
{
	const struct caller *caller = visit->caller;
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_ROUTED);
	size_t length = strlen(caller->name), most = sizeof record->route.name - 1;
	record->row = listener_row(visit);
	record->detail = found;
	record->number = visit->upstream ? visit->upstream->row : UINT32_MAX;
	record->route.flags = (uint8_t)((length > most ? RECORD_ROUTE_CUT : 0) | (caller->ech ? RECORD_ROUTE_ECH : 0));
	memcpy(record->route.name, caller->name, length < most ? length : most);
	publish(visit);
}

/* --- a server ---------------------------------------------------------------------------------------------------------------- */

void flight_chosen(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_CHOSEN);
	record->row = server_row(visit);
	record->choice = visit->upstream->last;
	publish(visit);
}

void flight_not_chosen(const struct visit *visit, enum record_want want)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_NOT_CHOSEN);
	record->row = ROLL_NO_SERVER;
	record->detail = (uint8_t)want;
	record->number = visit->upstream->row;
	if (want != WANT_TURN)
		record->choice = visit->upstream->last;
	publish(visit);
}

void flight_in_line(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	const struct shm *shm = visit->entrance->house->shm;
	struct record *record = begin(visit, RECORD_IN_LINE);
	record->row = ROLL_NO_SERVER;
	record->number = limit_used(shm, limit_upstream(shm, visit->upstream->row));
	publish(visit);
}

static void describe_address(struct record *record, const struct addr *addr)
{
	struct sockaddr_in6 peer = { .sin6_family = AF_UNSPEC };
	if (!addr || addr->sa.sa_family == AF_UNIX)
		return;
	memcpy(&peer, &addr->sa, addr->length < sizeof peer ? addr->length : sizeof peer);
	record_address_of(&record->dial.to, &peer);
}

void flight_connected(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_CONNECTED);
	record->row = server_row(visit);
	record->dial.attempt = (uint8_t)(visit->n_tried + 1);
	describe_address(record, server_addr(visit->server));
	publish(visit);
}

void flight_connect_failed(const struct visit *visit, const struct addr *addr, int error, bool last)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_CONNECT_FAILED);
	record->row = server_row(visit);
	record->dial.error = (uint32_t)error;
	record->dial.attempt = (uint8_t)(visit->n_tried + 1);
	record->dial.attempts = (uint8_t)(visit->upstream->config->retries + 1);
	record->dial.last = last;
	describe_address(record, addr);
	publish(visit);
}

void flight_stale(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_STALE);
	record->row = server_row(visit);
	publish(visit);
}

void flight_first_byte(const struct visit *visit)
{
	if (!is_on(visit))
		return;
	struct record *record = begin(visit, RECORD_FIRST_BYTE);
	record->row = server_row(visit);
	publish(visit);
}

/* --- the end ----------------------------------------------------------------------------------------------------------------- */

void flight_closed(const struct visit *visit, enum reason reason)
{
	if (!is_on(visit))
		return;
	struct visit_moments moments;
	visit->entrance->kind->tell(visit, &moments);
	struct record *record = begin(visit, RECORD_CLOSED);
	uint64_t lived_ms = (record->time_ns - visit->accepted_ns) / NS_PER_MS;
	record->row = listener_row(visit);
	record->detail = (uint8_t)reason;
	record->number = (uint32_t)reason_closer(reason, moments.server_first) | (uint32_t)visit->step << 8;
	record_address_of(&record->closed.client, &visit->peer);
	record->closed.lived_ms = lived_ms < UINT32_MAX ? (uint32_t)lived_ms : UINT32_MAX;
	record->closed.up_bytes = visit->bytes[FROM_CLIENT];
	record->closed.down_bytes = visit->bytes[FROM_SERVER];
	publish(visit);
}
