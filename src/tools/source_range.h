/* The clients' own addresses of a load tool: IPv4 addresses of a range, taken in turn.
 *
 * Process: a load tool. One address has some 28,000 ports towards one server; with more clients, or with many short ones, it runs short.
 */
#ifndef AEGIS_TOOLS_SOURCE_RANGE_H
#define AEGIS_TOOLS_SOURCE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct source_range {
	uint32_t first, count; /* in host order; count 0 = let the kernel choose */
	uint16_t port;         /* that all of them take, and the next one when all addresses had their turn; 0 = let the kernel choose */
};

/* "127.0.0.0/8", from 8 to 32 bits: its first and its last address, which stand for the network itself and for all of it, are left out.
 * False where it is no such range. */
must_check bool source_range_parse(const char *text, struct source_range *out);

/* Bind the socket to the address of this turn, and leave the port to connect() where none is said. Nothing without a range. 0, or a
 * negative errno. */
must_check int source_range_bind(const struct source_range *range, uint64_t turn, int fd);

#endif
