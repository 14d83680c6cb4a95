/* The PROXY protocol: who talks to whom, as one proxy tells the next in front of all that the client says.
 *
 * Source: "The PROXY protocol, Versions 1 & 2" by Willy Tarreau (doc/proxy-protocol.txt of HAProxy). Version 1 is a line of text, version 2
 * is binary and may carry more, as types, lengths and values (TLVs).
 */
#ifndef AEGIS_PROTO_PROXY_H
#define AEGIS_PROTO_PROXY_H

#include <stdbool.h>

#include "base/addr.h"

/* The two ends of a connection or of a session of datagrams, as the first proxy saw them. */
struct proxy_ends {
	bool known;                      /* else nobody is spoken for (LOCAL, UNKNOWN), and the ends are those of the connection itself */
	bool datagrams;                  /* else a stream */
	struct addr source, destination; /* of one family: IPv4, IPv6 or unix */
};

enum proxy_tlv_type {
	PROXY_TLV_ALPN = 0x01,
	PROXY_TLV_AUTHORITY = 0x02, /* the host that the client wants, as of SNI */
	PROXY_TLV_CRC32C = 0x03,
	PROXY_TLV_NOOP = 0x04, /* padding */
	PROXY_TLV_UNIQUE_ID = 0x05,
	PROXY_TLV_SSL = 0x20,
	PROXY_TLV_NETNS = 0x30,
	PROXY_TLV_OWN_FIRST = 0xe0, /* to 0xef: for applications */
	PROXY_TLV_OWN_LAST = 0xef,
};

/* What stands in PROXY_TLV_SSL behind a byte of flags and the result of the verification. */
enum proxy_ssl_type {
	PROXY_SSL_VERSION = 0x21,
	PROXY_SSL_CN = 0x22, /* of the client's certificate */
	PROXY_SSL_CIPHER = 0x23,
	PROXY_SSL_SIG_ALG = 0x24,
	PROXY_SSL_KEY_ALG = 0x25,
	PROXY_SSL_GROUP = 0x26,
	PROXY_SSL_SIG_SCHEME = 0x27,
	PROXY_SSL_CLIENT_CERT = 0x28,
};
enum proxy_ssl_flag {
	PROXY_SSL_OVER_SSL = 0x01,
	PROXY_SSL_CERT_CONN = 0x02, /* the client sent a certificate over this connection */
	PROXY_SSL_CERT_SESS = 0x04, /* or over one of the same TLS session */
};

struct proxy_tlv {
	const void *bytes;
	uint16_t length;
	uint8_t type;
};

enum {
	PROXY_V1_MOST = 107, /* with CRLF */
	PROXY_V2_HEAD = 16,
	PROXY_V2_INET = 12,
	PROXY_V2_INET6 = 36,
	PROXY_V2_UNIX = 216,
	PROXY_V2_BARE_MOST = PROXY_V2_HEAD + PROXY_V2_UNIX, /* without TLVs */
	PROXY_TLV_HEAD = 3,
	PROXY_CRC_BYTES = PROXY_TLV_HEAD + 4, /* of the TLV with the check sum */
};

#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n" /* 12 bytes */
enum { PROXY_V2_SIGNATURE_BYTES = 12 };

#endif
