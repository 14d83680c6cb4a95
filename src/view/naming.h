/* The names of what the segment knows by rows, and of clients, for people. Rows come out of records that may hold anything: what is no row
 * has the name "?".
 *
 * Process: the control process, and tools. Each writes a text of at most size bytes to out, and returns out.
 */
#ifndef AEGIS_VIEW_NAMING_H
#define AEGIS_VIEW_NAMING_H

#include <stdbool.h>

#include "base/cidr.h"
#include "shm/layout.h"

enum { NAMING_SIZE = 288 }; /* enough for any of them */

char *naming_listener(const struct shm *shm, uint32_t row, char *out, size_t size);
char *naming_server(const struct shm *shm, uint32_t row, char *out, size_t size);
char *naming_server_upstream(const struct shm *shm, uint32_t row, char *out, size_t size);
char *naming_upstream(const struct shm *shm, uint32_t row, char *out, size_t size);
/* With its port where that is not 0: "1.2.3.4:80", "[::1]:80", "::1"; "unix" for a client without an address. */
char *naming_client(const struct record_address *client, char *out, size_t size);
char *naming_range(const struct record_address *range, char *out, size_t size);
/* "3.18472" */
char *naming_connection(uint32_t seat, uint32_t serial, char *out, size_t size);
must_check bool naming_parse_connection(const char *s, uint32_t *seat, uint32_t *serial);

/* Which clients are meant. */
struct client_filter {
	bool unix_clients; /* those without an address, and no others */
	uint16_t port;     /* 0 = any */
	struct cidr range;
};
/* "1.2.3.4", "1.2.3.4:5678", "::1", "[::1]:5678", a range, or "unix". 0, or -EINVAL and why[0..size) a sentence. */
must_check int client_filter_parse(const char *s, struct client_filter *out, char *why, size_t size);
must_check bool client_filter_has(const struct client_filter *filter, const struct record_address *client);

#endif
