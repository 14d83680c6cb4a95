/* One attempt of a check that is spoken by proto/probe.h, over a socket of its own, by TLS or without.
 *
 * Process: control.
 * States:  connecting -> (asking PostgreSQL for TLS) -> (handshake) -> talking -> over: done() is called once, from the loop and never from
 *          within probe_stream_start(). Where talking needs no words, and the server may yet refuse our certificate: -> heeded -> over.
 * Owner:   the attempt frees itself before done() is called; probe_stream_stop() frees it without.
 */
#ifndef AEGIS_CONTROL_PROBE_STREAM_H
#define AEGIS_CONTROL_PROBE_STREAM_H

#include "base/addr.h"
#include "control/linger.h"
#include "control/outcome.h"
#include "net/dial.h"
#include "tls/stream.h"

struct probe_stream;

/* How an attempt speaks TLS. */
struct probe_tls {
	bool wanted;
	bool starttls;             /* PostgreSQL's request comes before */
	struct tls_client *client; /* NULL where it is not wanted */
	uint32_t server;           /* of the client's upstream */
	struct tls_desk *desk;     /* of all attempts */
	const char *alpn;          /* the only protocol that is offered; NULL = those of the settings */
};

/* Begin. tls is copied; the rules stay the caller's for as long as the attempt. 0 and *out, or a negative errno: for
 * outcome_not_connected(). */
must_check int probe_stream_start(struct linger_set *linger, const struct addr *addr, const struct dial_source *source,
        const struct probe_rules *rules, const struct probe_tls *tls, outcome_fn *done, void *arg, struct probe_stream **out);
void probe_stream_stop(struct probe_stream *stream);
/* What it waits for: the rest of "timed out waiting for". */
const char *probe_stream_awaits(const struct probe_stream *stream);

#endif
