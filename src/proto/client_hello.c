#include "proto/client_hello.h"

#include <string.h>

#include "base/host_name.h"

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_APPLICATION = 23, RECORD_CHANGE_CIPHER = 20 };
enum { RECORD_MAX = 1 << 14, MAJOR_VERSION = 3, MESSAGE_CLIENT_HELLO = 1, MESSAGE_HEADER = 4 };
enum { RANDOM_BYTES = 32, SESSION_ID_MAX = 32, NAME_TYPE_HOST = 0 };
enum { EXTENSION_SERVER_NAME = 0, EXTENSION_ALPN = 16, EXTENSION_ECH = 0xfe0d, EXTENSION_HEADER = 4 };
#define ECH_SEEN (UINT64_C(1) << 63) /* no extension has the number 63 */

/* What is read next. Those of the first group are numbers, of as many bytes as number_bytes says; the others are runs. */
enum state {
	AT_TYPE,
	AT_MESSAGE_LENGTH,
	AT_VERSION,
	AT_SESSION_LENGTH,
	AT_CIPHERS_LENGTH,
	AT_COMPRESSIONS_LENGTH,
	AT_EXTENSIONS_LENGTH,
	AT_EXTENSION, /* type and length */
	AT_NAMES_LENGTH,
	AT_NAME_HEADER, /* type and length */
	AT_PROTOCOLS_LENGTH,
	AT_PROTOCOL_LENGTH,
	N_NUMBERS,
	AT_RANDOM = N_NUMBERS,
	AT_SESSION,
	AT_CIPHERS,
	AT_COMPRESSIONS,
	AT_EXTENSION_BODY,
	AT_NAME,
	AT_PROTOCOL,
	N_STATES
};

static const uint8_t number_bytes[N_NUMBERS] = {
	[AT_TYPE] = 1,
	[AT_MESSAGE_LENGTH] = 3,
	[AT_VERSION] = 2,
	[AT_SESSION_LENGTH] = 1,
	[AT_CIPHERS_LENGTH] = 2,
	[AT_COMPRESSIONS_LENGTH] = 1,
	[AT_EXTENSIONS_LENGTH] = 2,
	[AT_EXTENSION] = 4,
	[AT_NAMES_LENGTH] = 2,
	[AT_NAME_HEADER] = 3,
	[AT_PROTOCOLS_LENGTH] = 2,
	[AT_PROTOCOL_LENGTH] = 1,
};

static void refuse(struct client_hello *hello, enum client_hello_verdict verdict, enum tls_alert alert, const char *fault)
{
	hello->verdict = verdict;
	hello->alert = alert;
	hello->fault = fault;
}

static void bad(struct client_hello *hello, enum tls_alert alert, const char *fault)
{
	refuse(hello, CLIENT_HELLO_BAD, alert, fault);
}

static void too_large(struct client_hello *hello)
{
	refuse(hello, CLIENT_HELLO_TOO_LARGE, TLS_ALERT_ILLEGAL_PARAMETER, "a hello that is longer than the bound");
}

static void run_of(struct client_hello *hello, enum state state, uint32_t length)
{
	hello->state = (uint8_t)state;
	hello->item_left = length;
}

static void number_at(struct client_hello *hello, enum state state)
{
	hello->state = (uint8_t)state;
	hello->n_number = 0;
	hello->number = 0;
	if (state > AT_MESSAGE_LENGTH && hello->message_left < number_bytes[state])
		bad(hello, TLS_ALERT_DECODE_ERROR, "a hello that ends too early");
}

/* --- names ------------------------------------------------------------------------------------------------------------------- */

static void end_of_name(struct client_hello *hello)
{
	size_t length = host_name_fold(hello->name, hello->name_length);
	hello->name[length] = '\0';
	hello->name_length = (uint8_t)length;
	if (length == 0)
		bad(hello, TLS_ALERT_ILLEGAL_PARAMETER, "a server name that is no host name");
}

/* --- what is inside of what -------------------------------------------------------------------------------------------------- */

/* The next extension, or the end of the message. */
static void next_extension(struct client_hello *hello)
{
	if (hello->extensions_left == 0)
		hello->verdict = CLIENT_HELLO_DONE;
	else if (hello->extensions_left < EXTENSION_HEADER)
		bad(hello, TLS_ALERT_DECODE_ERROR, "extensions that end within one");
	else
		number_at(hello, AT_EXTENSION);
}

static void after_compressions(struct client_hello *hello)
{
	if (hello->message_left == 0)
		hello->verdict = CLIENT_HELLO_DONE; /* a hello of TLS 1.0 may have no extensions at all */
	else
		number_at(hello, AT_EXTENSIONS_LENGTH);
}

/* The end of a run of bytes. */
static void after_run(struct client_hello *hello)
{
	switch (hello->state) {
	case AT_RANDOM:
		number_at(hello, AT_SESSION_LENGTH);
		break;
	case AT_SESSION:
		number_at(hello, AT_CIPHERS_LENGTH);
		break;
	case AT_CIPHERS:
		number_at(hello, AT_COMPRESSIONS_LENGTH);
		break;
	case AT_COMPRESSIONS:
		after_compressions(hello);
		break;
	case AT_NAME:
		end_of_name(hello);
		if (hello->verdict == CLIENT_HELLO_MORE)
			next_extension(hello);
		break;
	case AT_PROTOCOL:
		if (hello->list_left > 0)
			number_at(hello, AT_PROTOCOL_LENGTH);
		else
			next_extension(hello);
		break;
	default:
		next_extension(hello);
	}
}

/* An extension begins: those that are of interest are read, the others passed over. */
static void extension(struct client_hello *hello, uint32_t type, uint32_t length)
{
	uint64_t bit = type == EXTENSION_ECH ? ECH_SEEN : type < 63 ? UINT64_C(1) << type : 0;
	if (length > hello->extensions_left) {
		bad(hello, TLS_ALERT_DECODE_ERROR, "an extension that is longer than the rest");
		return;
	}
	if (hello->extensions_seen & bit) {
		bad(hello, TLS_ALERT_ILLEGAL_PARAMETER, "an extension that is there twice");
		return;
	}
	hello->extensions_seen |= bit;
	hello->extension_left = length;
	hello->ech = hello->ech || type == EXTENSION_ECH;
	if (type == EXTENSION_SERVER_NAME || type == EXTENSION_ALPN) {
		number_at(hello, type == EXTENSION_ALPN ? AT_PROTOCOLS_LENGTH : AT_NAMES_LENGTH);
		if (length < 2)
			bad(hello, TLS_ALERT_DECODE_ERROR, "an extension that is too short");
		return;
	}
	run_of(hello, AT_EXTENSION_BODY, length);
	if (length == 0)
		next_extension(hello);
}

/* A list fills its extension, and is not empty. */
static void list_of(struct client_hello *hello, uint32_t length, uint32_t least, enum state first)
{
	if (length != hello->extension_left || length < least) {
		bad(hello, TLS_ALERT_DECODE_ERROR, "a list that does not fill its extension");
		return;
	}
	hello->list_left = length;
	number_at(hello, first);
}

static void name_header(struct client_hello *hello, uint32_t type, uint32_t length)
{
	if (type != NAME_TYPE_HOST || length > hello->list_left || length == 0)
		bad(hello, TLS_ALERT_DECODE_ERROR, "a server name that is none");
	else if (length < hello->list_left)
		bad(hello, TLS_ALERT_ILLEGAL_PARAMETER, "more than one server name");
	else if (length > CLIENT_HELLO_NAME_MAX)
		bad(hello, TLS_ALERT_ILLEGAL_PARAMETER, "a server name that is too long");
	else
		run_of(hello, AT_NAME, length);
}

static void protocol_length(struct client_hello *hello, uint32_t length)
{
	if (length == 0 || length > hello->list_left) {
		bad(hello, TLS_ALERT_DECODE_ERROR, "a list of protocols that is broken");
		return;
	}
	if (hello->protocols_length + 1U + length > sizeof hello->protocols)
		hello->protocols_cut = true;
	if (!hello->protocols_cut)
		hello->protocols[hello->protocols_length++] = (uint8_t)length;
	run_of(hello, AT_PROTOCOL, length);
}

/* --- numbers ----------------------------------------------------------------------------------------------------------------- */

/* A length of what comes next in the message, and what must come behind it. */
static void field(struct client_hello *hello, enum state state, uint32_t length, uint32_t behind)
{
	if (length + behind > hello->message_left) {
		bad(hello, TLS_ALERT_DECODE_ERROR, "a field that is longer than the message");
		return;
	}
	run_of(hello, state, length);
	if (length == 0)
		after_run(hello);
}

static void message_length(struct client_hello *hello, uint32_t length)
{
	enum { SHORTEST = 2 + RANDOM_BYTES + 1 + 2 + 2 + 1 + 1 };
	hello->message_left = length;
	if (length + MESSAGE_HEADER > hello->most)
		too_large(hello);
	else if (length < SHORTEST)
		bad(hello, TLS_ALERT_DECODE_ERROR, "a hello that is too short");
	else
		number_at(hello, AT_VERSION);
}

static void extensions_length(struct client_hello *hello, uint32_t length)
{
	hello->extensions_left = length;
	if (length != hello->message_left)
		bad(hello, TLS_ALERT_DECODE_ERROR, "extensions that do not fill the message");
	else
		next_extension(hello);
}

static void after_number(struct client_hello *hello)
{
	uint32_t number = hello->number;
	switch (hello->state) {
	case AT_TYPE:
		if (number != MESSAGE_CLIENT_HELLO)
			bad(hello, TLS_ALERT_UNEXPECTED_MESSAGE, "a message that is not a hello");
		number_at(hello, AT_MESSAGE_LENGTH);
		break;
	case AT_MESSAGE_LENGTH:
		message_length(hello, number);
		break;
	case AT_VERSION:
		if (number >> 8 != MAJOR_VERSION || number == MAJOR_VERSION << 8)
			bad(hello, TLS_ALERT_PROTOCOL_VERSION, "a version that is not TLS");
		run_of(hello, AT_RANDOM, RANDOM_BYTES);
		break;
	case AT_SESSION_LENGTH:
		if (number > SESSION_ID_MAX)
			bad(hello, TLS_ALERT_DECODE_ERROR, "a session id that is too long");
		else
			field(hello, AT_SESSION, number, 0);
		break;
	case AT_CIPHERS_LENGTH:
		if (number == 0 || number % 2 != 0)
			bad(hello, TLS_ALERT_DECODE_ERROR, "a list of ciphers that is none");
		else
			field(hello, AT_CIPHERS, number, 1);
		break;
	case AT_COMPRESSIONS_LENGTH:
		if (number == 0)
			bad(hello, TLS_ALERT_DECODE_ERROR, "no way of compression, not even none");
		else
			field(hello, AT_COMPRESSIONS, number, 0);
		break;
	case AT_EXTENSIONS_LENGTH:
		extensions_length(hello, number);
		break;
	case AT_EXTENSION:
		extension(hello, number >> 16, number & 0xffff);
		break;
	case AT_NAMES_LENGTH:
		list_of(hello, number, 3, AT_NAME_HEADER);
		break;
	case AT_NAME_HEADER:
		name_header(hello, number >> 16, number & 0xffff);
		break;
	case AT_PROTOCOLS_LENGTH:
		list_of(hello, number, 2, AT_PROTOCOL_LENGTH);
		break;
	default: /* AT_PROTOCOL_LENGTH */
		protocol_length(hello, number);
	}
}

/* --- the message ------------------------------------------------------------------------------------------------------------- */

/* How deep inside of the message it is what the next bytes count for. */
static void count_off(struct client_hello *hello, uint32_t taken)
{
	bool in_name = hello->state == AT_NAME_HEADER || hello->state == AT_NAME;
	bool in_protocols = hello->state == AT_PROTOCOL_LENGTH || hello->state == AT_PROTOCOL;
	bool in_extension = in_name || in_protocols || hello->state == AT_NAMES_LENGTH || hello->state == AT_PROTOCOLS_LENGTH ||
	                    hello->state == AT_EXTENSION_BODY;
	if (hello->state > AT_MESSAGE_LENGTH)
		hello->message_left -= taken;
	if (in_extension || hello->state == AT_EXTENSION)
		hello->extensions_left -= taken;
	if (in_extension)
		hello->extension_left -= taken;
	if (in_name || in_protocols)
		hello->list_left -= taken;
}

static void keep(struct client_hello *hello, const uint8_t *at, uint32_t count)
{
	if (hello->state == AT_NAME) {
		memcpy(hello->name + hello->name_length, at, count);
		hello->name_length = (uint8_t)(hello->name_length + count);
	} else if (hello->state == AT_PROTOCOL && !hello->protocols_cut) {
		memcpy(hello->protocols + hello->protocols_length, at, count);
		hello->protocols_length = (uint8_t)(hello->protocols_length + count);
	}
}

/* Bytes of the message. Returns how many were taken. */
static uint32_t take(struct client_hello *hello, const uint8_t *at, uint32_t count)
{
	if (hello->state >= N_NUMBERS) {
		uint32_t run = count < hello->item_left ? count : hello->item_left;
		keep(hello, at, run);
		count_off(hello, run);
		hello->item_left -= run;
		if (hello->item_left == 0)
			after_run(hello);
		return run;
	}
	hello->number = hello->number << 8 | *at;
	count_off(hello, 1);
	if (++hello->n_number == number_bytes[hello->state])
		after_number(hello);
	return 1;
}

/* --- records ----------------------------------------------------------------------------------------------------------------- */

/* Of bytes that no record begins with. */
static const char *what_instead(uint8_t first)
{
	return first >= 'A' && first <= 'Z' ? "another protocol, perhaps HTTP without TLS" : "another protocol";
}

/* The first bytes tell other protocols apart, as soon as they are there. */
static void check_header(struct client_hello *hello)
{
	const uint8_t *header = hello->header;
	uint8_t type = header[0];
	bool first = hello->consumed == hello->header_length; /* in all that came */
	uint32_t length = (uint32_t)header[3] << 8 | header[4];
	if (type == RECORD_ALERT || type == RECORD_APPLICATION || type == RECORD_CHANGE_CIPHER) {
		if (hello->header_length == 2 && header[1] != MAJOR_VERSION && first)
			refuse(hello, CLIENT_HELLO_NOT_TLS, TLS_ALERT_NONE, "another protocol");
		else if (hello->header_length > 1)
			bad(hello, type == RECORD_ALERT ? TLS_ALERT_NONE : TLS_ALERT_UNEXPECTED_MESSAGE, "a record that is no handshake");
	} else if (first && (type & 0x80)) {
		if (hello->header_length == 3)
			refuse(hello, CLIENT_HELLO_NOT_TLS, header[2] == MESSAGE_CLIENT_HELLO ? TLS_ALERT_PROTOCOL_VERSION : TLS_ALERT_NONE,
			        "SSL 2.0, or another protocol");
	} else if (type != RECORD_HANDSHAKE || (hello->header_length > 1 && header[1] != MAJOR_VERSION)) {
		refuse(hello, first ? CLIENT_HELLO_NOT_TLS : CLIENT_HELLO_BAD, first ? TLS_ALERT_NONE : TLS_ALERT_UNEXPECTED_MESSAGE,
		        what_instead(type));
	} else if (hello->header_length == sizeof hello->header && length > RECORD_MAX) {
		bad(hello, TLS_ALERT_RECORD_OVERFLOW, "a record that is too long");
	} else if (hello->header_length == sizeof hello->header && length == 0) {
		bad(hello, TLS_ALERT_UNEXPECTED_MESSAGE, "an empty record");
	}
}

static void take_header(struct client_hello *hello, uint8_t byte)
{
	hello->header[hello->header_length++] = byte;
	hello->consumed++;
	check_header(hello);
	if (hello->verdict != CLIENT_HELLO_MORE || hello->header_length < sizeof hello->header)
		return;
	hello->record_left = (uint16_t)(hello->header[3] << 8 | hello->header[4]);
	hello->header_length = 0;
}

void client_hello_init(struct client_hello *hello, uint32_t most)
{
	memset(hello, 0, sizeof *hello);
	hello->alert = TLS_ALERT_NONE;
	hello->most = most;
}

enum client_hello_verdict client_hello_feed(struct client_hello *hello, const void *bytes, size_t count)
{
	const uint8_t *at = bytes, *end = at + count;
	while (hello->verdict == CLIENT_HELLO_MORE && at < end) {
		uint32_t room = hello->most - hello->consumed, left = (uint32_t)(end - at < room ? end - at : room);
		if (room == 0) {
			too_large(hello);
		} else if (hello->record_left == 0) {
			take_header(hello, *at++);
		} else {
			uint32_t taken = take(hello, at, left < hello->record_left ? left : hello->record_left);
			hello->record_left = (uint16_t)(hello->record_left - taken);
			hello->consumed += taken;
			at += taken;
		}
	}
	return hello->verdict;
}

uint32_t client_hello_missing(const struct client_hello *hello)
{
	uint32_t header = (uint32_t)(sizeof hello->header - hello->header_length), missing = 1;
	if (hello->record_left == 0)
		missing = header;
	if (hello->state > AT_MESSAGE_LENGTH)
		missing = hello->message_left + (hello->message_left > hello->record_left ? header : 0);
	return missing > hello->most - hello->consumed ? 1 : missing;
}

const uint8_t *client_hello_protocol(const struct client_hello *hello, size_t n, size_t *length)
{
	const uint8_t *at = hello->protocols, *end = at + hello->protocols_length;
	for (; n > 0 && at < end; n--)
		at += 1 + *at;
	*length = at < end ? *at : 0;
	return at < end ? at + 1 : NULL;
}

/* --- what is said to the client ------------------------------------------------------------------------------------------------ */

void tls_alert_record(uint8_t out[TLS_ALERT_RECORD_BYTES], enum tls_alert alert)
{
	enum { FATAL = 2 };
	const uint8_t record[TLS_ALERT_RECORD_BYTES] = { RECORD_ALERT, 3, 3, 0, 2, FATAL, (uint8_t)alert };
	memcpy(out, record, sizeof record);
}
