/* Values on the command lines of the load tools, aegis-bench and aegis-udpblast.
 *
 * Process: such a tool, before it does anything. Each function returns -1 to go on, or the exit code after one line on stderr that begins
 *          with the name of the program; out-parameters are untouched then.
 */
#ifndef AEGIS_TOOLS_ARGUMENTS_H
#define AEGIS_TOOLS_ARGUMENTS_H

#include "base/addr.h"

/* The exit codes that both have: one of arguments_*() is BAD, or START where a name cannot be resolved. */
enum { ARGUMENTS_BAD = 1, ARGUMENTS_START = 2 };

/* Tell what is wrong with `what`, which stands in the format for a %s. Returns ARGUMENTS_BAD. */
int arguments_wrong(const char *program, const char *format, const char *what);

/* A whole number from 1 to most. */
must_check int arguments_count(const char *program, const char *text, uint64_t most, uint64_t *out);
/* A number from 0 to most, with or without a fraction. */
must_check int arguments_decimal(const char *program, const char *text, double most, double *out);
/* Seconds, with or without a fraction, at most a week. */
must_check int arguments_seconds(const char *program, const char *text, uint64_t *out_ns);
/* HOST:PORT (a host name is resolved for sockets of this type), or unix:/path for streams. */
must_check int arguments_target(const char *program, const char *text, int socket_type, struct addr *out);

#endif
