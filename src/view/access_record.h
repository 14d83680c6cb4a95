/* A record of the access log as text: one line, whatever is in it. Pure: what the names of rows are is the caller's to find out.
 *
 * JSON: {"time":"2026-01-02T03:04:05.678Z","id":"3.18472","phase":"close","client":"192.0.2.7:51234","listener":"app","upstream":"app",
 *       "server":"a","bytes_up":120,"bytes_down":4711,"waited_ms":0,"connect_ms":0.412,"first_byte_ms":1.730,"duration_ms":12.004,
 *       "reason":"finished","closed_by":"client"}
 *       What there is none of is null. One of UDP has "datagrams_up":1,"datagrams_down":1 behind bytes_down; that of a client that asked
 * for a name has "sni":"www.example.org" behind server, and one whose TLS ended here "tls_version":"TLSv1.3",
 * "tls_cipher":"TLS_AES_128_GCM_SHA256","tls_resumed":false, and where there is any "alpn" and "tls_client", the name in its certificate.
 * Text: 2026-01-02T03:04:05.678Z 3.18472 close 192.0.2.7:51234 app app/a up=120 down=4711 waited=0 connect=0.412 first_byte=1.730
 * duration=12.004 finished client What there is none of is "-". One of UDP has datagrams_up=1 datagrams_down=1 behind down; the texts of
 * TLS stand at the end: sni=www.example.org tls_version=TLSv1.3 ... tls_resumed=0.
 */
#ifndef AEGIS_VIEW_ACCESS_RECORD_H
#define AEGIS_VIEW_ACCESS_RECORD_H

#include "base/text.h"
#include "shm/layout.h"
#include "shm/log_records.h"

struct access_entry {
	const struct access_record *record;
	uint64_t unix_ns; /* record->at_ns as the clock on the wall says it */
	uint32_t seat;
	const char *listener, *upstream;
	const char *server;                /* NULL: none */
	const char *texts[N_ACCESS_TEXTS]; /* NULL: none */
};

/* Enough for any record, whose names are as long as they may be in shared memory. */
enum { ACCESS_LINE_SIZE = 8192 };

/* May the record be told? What is in shared memory may be anything. */
must_check bool access_record_is_sound(const struct access_record *record);

/* Append it, without a line end; a sound one only. */
void access_record_add_json(struct text *out, const struct access_entry *entry);
/* with_time: false where the log knows it already. */
void access_record_add_text(struct text *out, const struct access_entry *entry, bool with_time);

#endif
