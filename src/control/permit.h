/* Who may ask the admin API for what.
 *
 * Unix socket: root, the user that Aegis was started by and the one it runs as, members of the group of the socket (the kernel lets nobody
 * else connect, as long as its mode is ours). TCP, an address of the machine itself: anybody may look, changes need the token. TCP, other
 * addresses: all needs the token, and the settings do not let them stand without one.
 */
#ifndef AEGIS_CONTROL_PERMIT_H
#define AEGIS_CONTROL_PERMIT_H

#include "control/control.h"
#include "control/http.h"
#include "control/token.h"

/* 0, or the HTTP status of the refusal (401, 403) with *why. */
must_check unsigned permit_check(const struct http_call *call, const struct control_admin *admin, const struct token *token, bool changes,
        char *why, size_t why_size);

/* Is it "localhost", an address, or nothing: a name that somebody else could let stand for this machine it is not. */
must_check bool permit_host_is_local(const char *host);

#endif
