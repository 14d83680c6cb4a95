/* Checks of the kinds http and https, all of them in one libcurl multi handle that runs on our loop. Only user of libcurl,
 * which is loaded when the first check needs it.
 *
 * Process: control.
 * States:  as probe_stream.h: done() is called once, from the loop and never from within probe_http_start().
 *
 * One GET each, HTTP/1.1, on a connection of its own to exactly the given address: libcurl resolves no name, uses no proxy (nor the
 * environment's) and follows no redirect. The status decides; the body is read and thrown away, up to PROBE_HTTP_BYTES.
 */
#ifndef AEGIS_CONTROL_PROBE_HTTP_H
#define AEGIS_CONTROL_PROBE_HTTP_H

#include "base/addr.h"
#include "base/status_set.h"
#include "control/linger.h"
#include "control/outcome.h"
#include "net/dial.h"

enum { PROBE_HTTP_BYTES = 64 << 10, PROBE_HTTP_TEXT_MAX = 1024 };

struct probe_http_rules {
	bool tls;
	const char *path; /* "/health"; with a query where there is one */
	const char
	        *host; /* the Host header, and with TLS the name that is asked for and verified: "name" or "name:port"; "" = the address */
	struct status_set expect;
	bool verify;     /* TLS: the certificate */
	bool introduced; /* behind a header of the PROXY protocol, version 1, with the ends of the connection itself */
	const char *ca;  /* TLS: a file with certificates to verify with; "" = the system's */
};

struct probe_http;       /* all checks */
struct probe_http_check; /* one attempt */

/* Whether there is libcurl, in this build and on this system: its name and version, or why not. It is loaded for that, for good. */
must_check bool probe_http_available(char *text, size_t size);

/* 0, or -EINVAL with *why the rest of a sentence for the user. */
must_check int probe_http_rules_check(const struct probe_http_rules *rules, const char **why);

/* NULL when out of memory. */
must_check struct probe_http *probe_http_new(struct linger_set *linger);
/* No check may be left. */
void probe_http_free(struct probe_http *http);

/* Begin. Rules and address stay the caller's for as long as the attempt. 0 and *out, or a negative errno: for outcome_not_connected(). */
must_check int probe_http_start(struct probe_http *http, const struct addr *addr, const struct dial_source *source,
        const struct probe_http_rules *rules, outcome_fn *done, void *arg, struct probe_http_check **out);
void probe_http_stop(struct probe_http_check *check);
const char *probe_http_awaits(const struct probe_http_check *check);

#endif
