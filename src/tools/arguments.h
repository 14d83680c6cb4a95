/* Values on the command lines of the load tools, aegis-bench and aegis-udpblast.
 *
 * Process: such a tool, before it does anything. Each function returns -1 to go on, or the exit code after one line on stderr that begins
 *          with the name of the program; out-parameters are untouched then.
 */
#ifndef AEGIS_TOOLS_ARGUMENTS_H
#define AEGIS_TOOLS_ARGUMENTS_H

#include "base/addr.h"
#include "tools/source_range.h"

/* The exit codes that both have: one of arguments_*() is BAD, or START where a name cannot be resolved. */
enum { ARGUMENTS_OK = 0, ARGUMENTS_BAD = 1, ARGUMENTS_START = 2 };

/* Tell what is wrong with `what`, which stands in the format for a %s. Returns ARGUMENTS_BAD. */
int arguments_wrong(const char *program, const char *format, const char *what);

/* What both make of an option from getopt_long() that is none of their own: -h, -V, an unknown one, one without its value. word is what
 * was written. */
must_check int arguments_general(const char *program, const char *usage, int option, const char *word);

/* A whole number from 1 to most. */
must_check int arguments_count(const char *program, const char *text, uint64_t most, uint64_t *out);
/* A number from 0 to most, with or without a fraction. */
must_check int arguments_decimal(const char *program, const char *text, double most, double *out);
/* Seconds, with or without a fraction, at most a week. */
must_check int arguments_seconds(const char *program, const char *text, uint64_t *out_ns);
/* A range of own addresses, as source_range_parse() takes it. */
must_check int arguments_sources(const char *program, const char *text, struct source_range *out);
/* HOST:PORT (a host name is resolved for sockets of this type), or unix:/path for streams. */
must_check int arguments_target(const char *program, const char *text, int socket_type, struct addr *out);

#endif
