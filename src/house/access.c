#include "house/access.h"

#include <string.h>

#include "base/clock.h"
#include "base/wheel.h"
#include "house/caller.h"
#include "house/house.h"
#include "shm/log_records.h"

enum { REFUSALS_A_SECOND = 100 };

void access_init(struct access_log *access, const struct config *config, struct shm *shm, uint32_t seat, const struct bells *bell)
{
	*access = (struct access_log){ .on = config->access_log.path[0] != '\0', .interval_ns = config->access_log.interval_ns };
	if (access->on)
		log_port_open(&access->port, shm, seat, LOG_KIND_ACCESS, log_ring_capacity(config->access_log.buffer_bytes), bell);
}

static_assert((int)CALLER_NAME_SIZE <= (int)ACCESS_TEXT_MOST, "any name fits");

/* --- what is known of a client of TLS ------------------------------------------------------------------------------------------ */

struct texts {
	const char *bytes[N_ACCESS_TEXTS];
	uint8_t length[N_ACCESS_TEXTS];
	bool resumed;
	char client[ACCESS_TEXT_MOST + 1];
};

static void put(struct texts *texts, enum access_text which, const char *bytes, size_t length)
{
	texts->bytes[which] = bytes ? bytes : "";
	texts->length[which] = (uint8_t)(length < ACCESS_TEXT_MOST ? length : ACCESS_TEXT_MOST);
}

static void collect_tls(struct texts *texts, struct ssl_st *ssl)
{
	struct tls_facts facts;
	tls_facts(ssl, &facts);
	texts->resumed = facts.resumed;
	put(texts, ACCESS_TEXT_NAME, facts.server_name, strlen(facts.server_name));
	put(texts, ACCESS_TEXT_VERSION, facts.version, strlen(facts.version));
	put(texts, ACCESS_TEXT_CIPHER, facts.cipher, strlen(facts.cipher));
	put(texts, ACCESS_TEXT_ALPN, (const char *)facts.alpn, facts.alpn_length);
	if (facts.peer_verified) {
		tls_peer_name(ssl, texts->client, sizeof texts->client);
		put(texts, ACCESS_TEXT_CLIENT, texts->client, strlen(texts->client));
	}
}

/* How many bytes they are, all in all. */
static size_t collect(struct texts *texts, const struct visit *visit)
{
	const struct visit_kind *kind = visit->entrance->kind;
	struct ssl_st *ssl = kind->secured ? kind->secured(visit, ROLL_CLIENT) : NULL;
	size_t sum = 0;
	*texts = (struct texts){ .resumed = false };
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++)
		texts->bytes[i] = "";
	if (ssl)
		collect_tls(texts, ssl);
	if (visit->caller && visit->caller->name[0])
		put(texts, ACCESS_TEXT_NAME, visit->caller->name, strlen(visit->caller->name));
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++)
		sum += texts->length[i];
	return sum;
}

/* --- a record ---------------------------------------------------------------------------------------------------------------- */

static void write_record(struct visit *visit, enum access_phase phase, enum reason reason)
{
	struct house *house = visit->entrance->house;
	bool relays = visit->step == STEP_RELAY;
	uint64_t now_ns = loop_now_ns(house->loop);
	struct visit_moments moments;
	visit->entrance->kind->tell(visit, &moments);
	struct texts texts;
	size_t texts_length = collect(&texts, visit);
	struct access_record *record = log_port_reserve(&house->access.port, sizeof *record + texts_length);
	if (unlikely(!record))
		return;
	*record = (struct access_record){
		.at_ns = now_ns,
		.duration_ns = now_ns - visit->accepted_ns,
		.connect_ns = relays ? visit->step_ns - visit->accepted_ns : ACCESS_NEVER,
		.first_byte_ns = relays && moments.first_byte_ns ? moments.first_byte_ns - visit->accepted_ns : ACCESS_NEVER,
		.received_bytes = visit->bytes[FROM_CLIENT],
		.sent_bytes = visit->bytes[FROM_SERVER],
		.received_datagrams = moments.datagrams[FROM_CLIENT],
		.sent_datagrams = moments.datagrams[FROM_SERVER],
		.serial = visit->serial,
		.waited_ms = visit->waited_ms,
		.listener = visit->entrance->shm_row,
		.upstream = visit->upstream ? visit->upstream->row : ACCESS_NO_UPSTREAM,
		.server = visit->server ? house_server_row(house, visit->server) : ACCESS_NO_SERVER,
		.phase = (uint8_t)phase,
		.reason = (uint8_t)reason,
		.server_first = moments.server_first,
		.is_udp = visit->entrance->kind->is_udp,
		.tls_resumed = texts.resumed,
	};
	char *to = (char *)(record + 1);
	for (size_t i = 0; i < N_ACCESS_TEXTS; to += texts.length[i++]) {
		record->text_lengths[i] = texts.length[i];
		memcpy(to, texts.bytes[i], texts.length[i]);
	}
	record_address_of(&record->client, &visit->peer);
	log_port_commit(&house->access.port);
}

static bool is_one_too_many(struct access_log *access, const struct visit *visit)
{
	uint64_t now_ns = loop_now_ns(visit->entrance->house->loop);
	if (likely(!visit->entrance->kind->is_udp || visit->server || visit->step > STEP_CHOOSE))
		return false;
	if (now_ns - access->refusals_ns >= NS_PER_S) {
		access->refusals_ns = now_ns;
		access->refusals = 0;
	}
	return ++access->refusals > REFUSALS_A_SECOND;
}

void access_ended(struct visit *visit, enum reason reason)
{
	struct access_log *access = &visit->entrance->house->access;
	if (unlikely(is_one_too_many(access, visit)))
		log_port_drop(&access->port);
	else
		write_record(visit, ACCESS_CLOSE, reason);
}

/* --- those that last --------------------------------------------------------------------------------------------------------- */

/* How often access_log.interval has passed. */
static uint64_t intervals(const struct visit *visit)
{
	const struct house *house = visit->entrance->house;
	uint64_t lived_ns = loop_now_ns(house->loop) - visit->accepted_ns, interval_ns = house->access.interval_ns;
	return likely(lived_ns < interval_ns) ? 0 : lived_ns / interval_ns;
}

uint64_t access_due_ns(const struct visit *visit)
{
	const struct access_log *access = &visit->entrance->house->access;
	if (!access->on || !access->interval_ns)
		return WHEEL_NEVER;
	uint64_t passed = intervals(visit);
	uint64_t next = (uint8_t)passed == visit->intervals ? passed + 1 : passed;
	return visit->accepted_ns + next * access->interval_ns;
}

void access_lasts(struct visit *visit)
{
	uint64_t passed = intervals(visit);
	bool first = visit->intervals == 0 && passed <= UINT8_MAX;
	visit->intervals = (uint8_t)passed;
	write_record(visit, first ? ACCESS_OPEN : ACCESS_INTERVAL, REASON_FINISHED);
}
