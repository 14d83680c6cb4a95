#include "view/access_record.h"

#include <inttypes.h>
#include <string.h>

#include "base/addr.h"
#include "base/clock.h"
#include "base/log_format.h"

static const char *phase_name(unsigned phase)
{
	static const char *const names[N_ACCESS_PHASES] = {
#define X(id, name) [ACCESS_##id] = name,
		ACCESS_PHASES(X)
#undef X
	};
	return names[phase];
}

static const char *const text_keys[] = {
#define X(id, key) [ACCESS_TEXT_##id] = key,
	ACCESS_TEXTS(X)
#undef X
};

bool access_record_is_sound(const struct access_record *record)
{
	bool sound = record->phase < N_ACCESS_PHASES && record->reason < N_REASONS;
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++)
		sound = sound && record->text_lengths[i] <= ACCESS_TEXT_MOST;
	return sound;
}

static void add_client(struct text *out, const struct record_address *client)
{
	char bytes[ADDR_TEXT_SIZE];
	struct addr addr;
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(client->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(client->port) };
	memcpy(&v4.sin_addr, client->bytes, sizeof v4.sin_addr);
	memcpy(&v6.sin6_addr, client->bytes, sizeof v6.sin6_addr);
	if (client->family == 4)
		addr_from_sockaddr(&addr, (const struct sockaddr *)&v4, sizeof v4);
	else if (client->family == 6)
		addr_from_sockaddr(&addr, (const struct sockaddr *)&v6, sizeof v6);
	text_add(out, "%s", client->family == 4 || client->family == 6 ? addr_format(&addr, bytes, sizeof bytes) : "unix");
}

static void add_ms(struct text *out, uint64_t ns, const char *none)
{
	if (ns == ACCESS_NEVER)
		text_add(out, "%s", none);
	else
		text_add(out, "%" PRIu64 ".%03u", ns / NS_PER_MS, (unsigned)(ns % NS_PER_MS / NS_PER_US));
}

static const char *closed_by(const struct access_record *record)
{
	return closer_name(reason_closer((enum reason)record->reason, record->server_first));
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------- */

static void add_member(struct text *out, const char *key, const char *value)
{
	text_add(out, ",\"%s\":", key);
	if (!value) {
		text_add(out, "null");
		return;
	}
	text_add(out, "\"");
	text_add_escaped(out, value);
	text_add(out, "\"");
}

static void add_ms_member(struct text *out, const char *key, uint64_t ns)
{
	text_add(out, ",\"%s\":", key);
	add_ms(out, ns, "null");
}

void access_record_add_json(struct text *out, const struct access_entry *entry)
{
	const struct access_record *record = entry->record;
	bool closed = record->phase == ACCESS_CLOSE;
	text_add(out, "{\"time\":\"");
	log_add_time(out, entry->unix_ns);
	text_add(out, "\",\"id\":\"%" PRIu32 ".%" PRIu32 "\",\"phase\":\"%s\",\"client\":\"", entry->seat, record->serial,
	        phase_name(record->phase));
	add_client(out, &record->client);
	text_add(out, "\"");
	add_member(out, "listener", entry->listener);
	add_member(out, "upstream", entry->upstream);
	add_member(out, "server", entry->server);
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++)
		if (entry->texts[i])
			add_member(out, text_keys[i], entry->texts[i]);
	if (entry->texts[ACCESS_TEXT_VERSION])
		text_add(out, ",\"tls_resumed\":%s", record->tls_resumed ? "true" : "false");
	text_add(out, ",\"bytes_up\":%" PRIu64 ",\"bytes_down\":%" PRIu64, record->received_bytes, record->sent_bytes);
	if (record->is_udp)
		text_add(out, ",\"datagrams_up\":%" PRIu64 ",\"datagrams_down\":%" PRIu64, record->received_datagrams,
		        record->sent_datagrams);
	text_add(out, ",\"waited_ms\":%" PRIu32, record->waited_ms);
	add_ms_member(out, "connect_ms", record->connect_ns);
	add_ms_member(out, "first_byte_ms", record->first_byte_ns);
	add_ms_member(out, "duration_ms", record->duration_ns);
	add_member(out, "reason", closed ? reason_name((enum reason)record->reason) : NULL);
	add_member(out, "closed_by", closed ? closed_by(record) : NULL);
	text_add(out, "}");
}

/* --- text -------------------------------------------------------------------------------------------------------------------- */

/* Names have no spaces; what shared memory holds instead of one must not look like another field. */
static void add_name(struct text *out, const char *name)
{
	size_t from = out->length;
	text_add_escaped(out, name && *name ? name : "-");
	for (char *p = out->bytes + from; *p; p++)
		if (*p == ' ')
			*p = '?';
}

static void add_field(struct text *out, const char *key, uint64_t ns)
{
	text_add(out, " %s=", key);
	add_ms(out, ns, "-");
}

void access_record_add_text(struct text *out, const struct access_entry *entry, bool with_time)
{
	const struct access_record *record = entry->record;
	if (with_time) {
		log_add_time(out, entry->unix_ns);
		text_add(out, " ");
	}
	text_add(out, "%" PRIu32 ".%" PRIu32 " %s ", entry->seat, record->serial, phase_name(record->phase));
	add_client(out, &record->client);
	text_add(out, " ");
	add_name(out, entry->listener);
	text_add(out, " ");
	add_name(out, entry->upstream);
	text_add(out, "/");
	add_name(out, entry->server);
	text_add(out, " up=%" PRIu64 " down=%" PRIu64, record->received_bytes, record->sent_bytes);
	if (record->is_udp)
		text_add(out, " datagrams_up=%" PRIu64 " datagrams_down=%" PRIu64, record->received_datagrams, record->sent_datagrams);
	text_add(out, " waited=%" PRIu32, record->waited_ms);
	add_field(out, "connect", record->connect_ns);
	add_field(out, "first_byte", record->first_byte_ns);
	add_field(out, "duration", record->duration_ns);
	if (record->phase == ACCESS_CLOSE)
		text_add(out, " %s %s", reason_name((enum reason)record->reason), closed_by(record));
	else
		text_add(out, " - -");
	for (size_t i = 0; i < N_ACCESS_TEXTS; i++) {
		if (!entry->texts[i])
			continue;
		text_add(out, " %s=", text_keys[i]);
		add_name(out, entry->texts[i]);
	}
	if (entry->texts[ACCESS_TEXT_VERSION])
		text_add(out, " tls_resumed=%u", record->tls_resumed != 0);
}
