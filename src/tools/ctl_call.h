/* One question to a running instance: HTTP over DIR/admin.sock.
 *
 * Process: aegisctl. HTTP/1.0, so that the answer is never chunked and ends with the connection; a client of its own for that little, so
 * that aegisctl needs no library. Owner:   the caller frees answer.body.
 */
#ifndef AEGIS_TOOLS_CTL_CALL_H
#define AEGIS_TOOLS_CTL_CALL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

struct ctl_answer {
	int status; /* of HTTP, 100 to 999 */
	char *body; /* NUL-terminated; never NULL after ctl_call() returned 0 */
	size_t length;
};

enum { CTL_MAX_ANSWER_BYTES = 256 << 20, CTL_PATH_SIZE = 2048 };

/* Say method and path with the body (NULL = none) and wait for the answer, not longer than timeout_ms without a byte. 0 and *out, or
 * -ENOENT or -ECONNREFUSED (nobody listens), -EACCES (not allowed to connect), -ETIMEDOUT, -EPROTO (not a whole answer of HTTP), -EMSGSIZE
 * (longer than CTL_MAX_ANSWER_BYTES), -ENAMETOOLONG, or another negative errno. */
must_check int ctl_call(
        const char *socket_path, const char *method, const char *path, const char *body, int timeout_ms, struct ctl_answer *out);

/* Read what came until the end of the connection: 0 and *out, whose body is a copy, or -EPROTO or -ENOMEM. */
must_check int ctl_read_answer(const char *bytes, size_t length, struct ctl_answer *out);

/* Append s to path (of CTL_PATH_SIZE bytes), with %XX for all but letters, digits and "-._~". False when it does not fit. */
must_check bool ctl_add_encoded(char *path, const char *s);

#endif
