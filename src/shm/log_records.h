/* What lies in the log rings: the lines of a worker, and its records of connections. Plain data; whoever reads them believes nothing. */
#ifndef AEGIS_SHM_LOG_RECORDS_H
#define AEGIS_SHM_LOG_RECORDS_H

#include <stdint.h>

#include "shm/recorder.h"

/* A line of the log, as the worker formatted it; its bytes follow. */
struct line_record {
	uint64_t unix_ns;
	int32_t pid;
	uint32_t slot; /* of the worker */
	uint32_t level;
	uint32_t zero;
};

/* A connection that lasts has a record of its own every access_log.interval: the first is `open`, the others are `interval`. All have one
 * when they end. */
#define ACCESS_PHASES(X)  \
	X(CLOSE, "close") \
	X(OPEN, "open")   \
	X(INTERVAL, "interval")

enum access_phase {
#define X(id, name) ACCESS_##id,
	ACCESS_PHASES(X)
#undef X
	        N_ACCESS_PHASES
};

#define ACCESS_NEVER UINT64_MAX     /* in place of a time */
#define ACCESS_NO_SERVER UINT32_MAX /* in place of a row */
#define ACCESS_NO_UPSTREAM UINT32_MAX
enum { ACCESS_TEXT_MOST = 127 };

/* What is known of a client of TLS: X(id, key). */
#define ACCESS_TEXTS(X)                                                            \
	X(NAME, "sni")            /* the name that it asked for */                 \
	X(VERSION, "tls_version") /* these of a connection whose TLS ended here */ \
	X(CIPHER, "tls_cipher")                                                    \
	X(ALPN, "alpn")                                                            \
	X(CLIENT, "tls_client") /* who it is by its certificate, if that was verified */

enum access_text {
#define X(id, key) ACCESS_TEXT_##id,
	ACCESS_TEXTS(X)
#undef X
	        N_ACCESS_TEXTS
};

struct access_record {
	uint64_t at_ns; /* CLOCK_MONOTONIC: when it was made */
	/* since it was accepted */
	uint64_t duration_ns;
	uint64_t connect_ns; /* until a server was connected, or ACCESS_NEVER */
	uint64_t first_byte_ns;
	uint64_t received_bytes;                     /* from the client */
	uint64_t sent_bytes;                         /* to the client */
	uint64_t received_datagrams, sent_datagrams; /* UDP */
	struct record_address client;
	uint32_t serial;                     /* with the seat: the id of the connection */
	uint32_t waited_ms;                  /* in line */
	uint32_t listener, upstream, server; /* rows in shared memory */
	uint8_t phase;                       /* enum access_phase */
	uint8_t reason;                      /* enum reason; of those that end */
	uint8_t server_first;                /* of one that both sides ended: the server did so first */
	uint8_t is_udp;
	uint8_t tls_resumed;
	uint8_t text_lengths[N_ACCESS_TEXTS]; /* of the texts that follow, one behind the other: at most ACCESS_TEXT_MOST bytes; 0 = none */
};

#endif
