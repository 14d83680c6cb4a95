/* With what checks speak TLS: as sessions with the servers of their upstream do, by the same settings and certificates.
 *
 * Process: control. Owner: struct checks. The certificates come from the master in an excerpt of the vault (tls/build.h), when the process
 * begins and whenever they change; no listener's key is in it.
 */
#ifndef AEGIS_CONTROL_CHECK_TLS_H
#define AEGIS_CONTROL_CHECK_TLS_H

#include "config/config.h"
#include "control/probe_stream.h"

struct check_tls {
	const struct config *config;
	struct tls *tls; /* NULL: no check speaks TLS, or it could not be set up, which was logged */
	struct tls_desk desk;
};

/* The descriptor of the excerpt stays the caller's and is not needed after that; -1 = there is none. */
void check_tls_init(struct check_tls *check_tls, const struct config *config, int excerpt);
void check_tls_fini(struct check_tls *check_tls);
/* Attempts that begin from now on have these certificates. */
void check_tls_renew(struct check_tls *check_tls, int excerpt);

/* Of a server, by its index and that of its upstream in the settings; what is wanted of it is there already. */
void check_tls_describe(struct check_tls *check_tls, size_t upstream, size_t server, struct probe_tls *out);

#endif
