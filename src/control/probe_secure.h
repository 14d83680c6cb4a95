/* The TLS of one attempt of a check: the handshake, and bytes to and from a struct probe.
 *
 * Process: control. Owner: struct probe_stream. What failed goes to the outcome in the words of OpenSSL, for the log, and as a number, for
 * those who read shared memory (enum health_tls_fault).
 */
#ifndef AEGIS_CONTROL_PROBE_SECURE_H
#define AEGIS_CONTROL_PROBE_SECURE_H

#include "control/outcome.h"
#include "control/probe_stream.h"

struct probe_secure {
	struct tls_stream stream;
	const struct probe_tls *tls;
};

/* A handshake is about to begin; tls stays the caller's. 0 or -ENOMEM. */
must_check int probe_secure_open(struct probe_secure *secure, const struct probe_tls *tls, int fd);
/* May be called for one that is all zero. in_good_order: with a close_notify, where there was a handshake. */
void probe_secure_close(struct probe_secure *secure, bool in_good_order);

/* DONE, WANTS_INPUT, WANTS_ROOM, or FAILED, and why in outcome. */
must_check enum tls_state probe_secure_handshake(struct probe_secure *secure, struct outcome *outcome);
/* The handshake is over for us, and not for the server: it has yet to look at the certificate that it wanted. */
must_check bool probe_secure_is_on_trial(const struct probe_secure *secure);

/* Send: false when that cannot be. */
must_check bool probe_secure_say(struct probe_secure *secure, const char *bytes, size_t count);

enum heard {
	HEARD_NOTHING, /* for the probe */
	HEARD_BYTES,
	HEARD_END,
	HEARD_RESET,  /* errno */
	HEARD_TROUBLE /* TLS failed: outcome is filled in */
};
/* Read what there is and feed it to the probe, until it has its verdict. */
must_check enum heard probe_secure_listen(struct probe_secure *secure, struct probe *probe, struct outcome *outcome);
/* Read what there is: has the server said anything at all by its TLS since the handshake? */
must_check enum heard probe_secure_hark(struct probe_secure *secure, struct outcome *outcome);

#endif
