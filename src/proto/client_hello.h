/* The first message of a TLS client, as far as it says where the client wants to go: server name, protocols (ALPN), and whether the real
 * name is in an encrypted hello (ECH), of which only the outer name is to be seen. For TLS 1.0 to 1.3: RFC 8446 4.1.2 and 5.1, RFC 6066 3,
 * RFC 7301, RFC 9849.
 *
 * Pure: bytes in, a verdict out, however they are split; nothing of the message is kept but what is asked for. Strict: what a server would
 * have to refuse is refused, with the alert that it would send, and so is a name that no certificate could have. Values that are not known
 * (GREASE, RFC 8701) are passed over.
 */
#ifndef AEGIS_PROTO_CLIENT_HELLO_H
#define AEGIS_PROTO_CLIENT_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/host_name.h"

enum { CLIENT_HELLO_NAME_MAX = HOST_NAME_LONGEST, CLIENT_HELLO_PROTOCOLS_SIZE = 128 };
/* What a hello may be bounded to, and what may be asked for as the bound. */
enum { CLIENT_HELLO_LEAST = 512, CLIENT_HELLO_MOST = 65536 };

enum client_hello_verdict {
	CLIENT_HELLO_MORE,      /* so far it is well */
	CLIENT_HELLO_DONE,      /* all of it is here */
	CLIENT_HELLO_NOT_TLS,   /* another protocol, or something before TLS 1.0 */
	CLIENT_HELLO_TOO_LARGE, /* longer than the bound */
	CLIENT_HELLO_BAD        /* malformed, or what it says is not allowed */
};

/* Alerts (RFC 8446 6) that a refusal calls for. */
enum tls_alert {
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_RECORD_OVERFLOW = 22,
	TLS_ALERT_ILLEGAL_PARAMETER = 47,
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_PROTOCOL_VERSION = 70,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_UNRECOGNIZED_NAME = 112,
	TLS_ALERT_NONE = 255 /* to whoever does not speak TLS, or sent an alert itself */
};

struct client_hello {
	/* The outcome. What follows the alert is complete with CLIENT_HELLO_DONE. */
	enum client_hello_verdict verdict;
	enum tls_alert alert;
	const char *fault; /* in words; NULL unless refused */
	bool ech;
	bool protocols_cut;  /* there were more protocols than protocols has room for */
	uint8_t name_length; /* 0 = none */
	uint8_t protocols_length;
	char name[CLIENT_HELLO_NAME_MAX + 1];           /* in lower case, without a dot at the end */
	uint8_t protocols[CLIENT_HELLO_PROTOCOLS_SIZE]; /* as in the message: each a length and a name, in the client's order */
	/* Where it stands. */
	uint32_t most;
	uint32_t consumed;
	uint16_t record_left;
	uint8_t header_length, header[5]; /* of a record */
	uint8_t state;
	uint8_t n_number; /* bytes of number */
	uint32_t number;  /* that is being read */
	uint32_t message_left, extensions_left, extension_left, list_left, item_left;
	uint64_t extensions_seen; /* by type, those below 64 */
};

/* most: bytes, headers of records included; CLIENT_HELLO_LEAST to CLIENT_HELLO_MOST. */
void client_hello_init(struct client_hello *hello, uint32_t most);
/* More bytes. What comes after the hello, and after a refusal, is left alone. */
enum client_hello_verdict client_hello_feed(struct client_hello *hello, const void *bytes, size_t count);
/* How many bytes are still to come at least, while the verdict is CLIENT_HELLO_MORE. */
must_check uint32_t client_hello_missing(const struct client_hello *hello);

/* The nth protocol, from 0; NULL and *length = 0 where there is none. */
const uint8_t *client_hello_protocol(const struct client_hello *hello, size_t n, size_t *length);

/* A fatal alert, as it is sent before any key is agreed upon. */
enum { TLS_ALERT_RECORD_BYTES = 7 };
void tls_alert_record(uint8_t out[TLS_ALERT_RECORD_BYTES], enum tls_alert alert);

#endif
