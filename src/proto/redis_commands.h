/* The Redis commands that leave nothing behind on a connection and answer once, at once. Private to src/proto. */
#ifndef AEGIS_PROTO_REDIS_COMMANDS_H
#define AEGIS_PROTO_REDIS_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

enum { REDIS_COMMAND_MAX = 20 }; /* bytes of the longest name */

/* name: lower case, length <= REDIS_COMMAND_MAX, not ended by a NUL. */
bool redis_command_is_stateless(const char *name, size_t length);

#endif
