/* MySQL and MariaDB, protocol 10: the server greets, we log in, it answers, we leave. Every packet is three bytes of length (least first),
 * a sequence number, and the payload. */
#include <stdio.h>
#include <string.h>

#include "proto/probe_kinds.h"

enum { HEADER_BYTES = 4, GREETING_MIN = 17 };
enum { PROTOCOL_10 = 10, OK = 0x00, SWITCH_METHOD = 0xfe, ERROR = 0xff };
enum { UTF8 = 33 };

enum step { AT_GREETING, AT_ANSWER };

enum {
	CLIENT_LONG_PASSWORD = 1,
	CLIENT_PROTOCOL_41 = 1 << 9,
	CLIENT_SECURE_CONNECTION = 1 << 15,
	CLIENT_PLUGIN_AUTH = 1 << 19,
};

/* After the greeting: errors that mean the server and not who logs in. */
static const uint16_t serves_nobody[] = {
	1037, 1038, 1041, /* out of memory */
	1040,             /* too many connections */
	1053,             /* shutting down */
	1129, 1130,       /* the host is blocked, or not allowed */
	1135,             /* cannot make a thread */
};

struct packet {
	const uint8_t *payload;
	size_t length;
	uint8_t sequence;
};

static void log_in(struct probe *probe, uint8_t sequence)
{
	static const char method[] = "mysql_native_password";
	uint32_t flags = CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH;
	uint8_t message[HEADER_BYTES + 32 + PROBE_USER_MAX + 2 + sizeof method] = { 0 };
	size_t length = HEADER_BYTES;

	for (int i = 0; i < 4; i++)
		message[length++] = (uint8_t)(flags >> 8 * i);
	message[length + 3] = 1; /* packets of up to 16 MB */
	message[length + 4] = UTF8;
	length += 4 + 1 + 23;
	strcpy((char *)message + length, probe_user(probe));
	length += strlen(probe_user(probe)) + 2; /* with its NUL and the length of the password */
	memcpy(message + length, method, sizeof method);
	length += sizeof method;
	message[0] = (uint8_t)(length - HEADER_BYTES);
	message[3] = sequence;
	probe_say(probe, message, length);
}

static void error(struct probe *probe, const struct packet *packet)
{
	unsigned code = packet->length >= 3 ? packet->payload[1] | (unsigned)packet->payload[2] << 8 : 0;
	size_t begin = packet->length > 9 && packet->payload[3] == '#' ? 9 : 3; /* "#" and an SQLSTATE, not before logging in */
	bool is_bad = probe->step == AT_GREETING;
	char what[48];

	if (code == 0) {
		probe_conclude(probe, PROBE_BAD, "an error without its code");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(serves_nobody); i++)
		is_bad |= code == serves_nobody[i];
	(void)snprintf(what, sizeof what, "%s, error %u", is_bad ? "refuses connections" : "alive, but refused the login", code);
	probe_conclude_said(probe, is_bad ? PROBE_BAD : PROBE_GOOD, what, (const char *)packet->payload + begin, packet->length - begin);
}

static void greeting(struct probe *probe, const struct packet *packet)
{
	if (packet->length < GREETING_MIN || !memchr(packet->payload + 1, 0, packet->length - 1)) {
		probe_conclude(probe, PROBE_BAD, "not the greeting of MySQL");
		return;
	}
	log_in(probe, (uint8_t)(packet->sequence + 1));
	probe->step = AT_ANSWER;
	probe_wait_for(probe, "the answer to the login");
}

static void answer(struct probe *probe, const struct packet *packet)
{
	static const uint8_t quit[] = { 1, 0, 0, 0, 1 };

	switch (packet->payload[0]) {
	case OK:
		probe_say(probe, quit, sizeof quit);
		probe_conclude(probe, PROBE_GOOD, "let us in");
		break;
	case SWITCH_METHOD: /* no password is an empty packet for all of them */
		probe_say(probe, (const uint8_t[]){ 0, 0, 0, (uint8_t)(packet->sequence + 1) }, HEADER_BYTES);
		break;
	default:
		probe_conclude(probe, PROBE_GOOD, "asks for a password");
	}
}

/* The first packet tells early whether this is MySQL at all. */
static bool cannot_be(const struct probe *probe, const struct packet *packet, size_t count)
{
	if (packet->length == 0 || packet->length > PROBE_KEPT_MAX - HEADER_BYTES)
		return true;
	if (probe->step != AT_GREETING || count == HEADER_BYTES)
		return false;
	return packet->payload[0] != ERROR && (packet->payload[0] != PROTOCOL_10 || packet->sequence != 0);
}

bool probe_mysql_step(struct probe *probe)
{
	size_t count;
	const uint8_t *at = probe_unread(probe, &count);

	if (count < HEADER_BYTES)
		return false;
	struct packet packet = { at + HEADER_BYTES, at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16, at[3] };
	if (cannot_be(probe, &packet, count)) {
		probe_conclude(probe, PROBE_BAD, "not an answer of MySQL");
		return false;
	}
	if (count < HEADER_BYTES + packet.length)
		return false;
	probe->read += HEADER_BYTES + packet.length;
	if (packet.payload[0] == ERROR)
		error(probe, &packet);
	else if (probe->step == AT_GREETING)
		greeting(probe, &packet);
	else
		answer(probe, &packet);
	return probe->kept > probe->read;
}

void probe_mysql_begin(struct probe *probe)
{
	probe->step = AT_GREETING;
	probe_wait_for(probe, "the greeting");
}
