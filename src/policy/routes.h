/* The routes of a listener: which upstream a client goes to, by the name that it asks for and the protocols that it offers.
 *
 * Process: a worker; made from the settings at its start, then only read.
 * Which one: of the routes with alpn those of the client's protocols, in the client's order, then those without; among these the exact
 * name, then the wildcard, whose star stands for one label as in certificates, then that for any name. A look costs some 100 ns, however
 * many routes there are.
 */
#ifndef AEGIS_POLICY_ROUTES_H
#define AEGIS_POLICY_ROUTES_H

#include "config/config.h"

struct routes;

/* NULL with 0 where there are none. 0 or -ENOMEM; the settings stay where they are. */
must_check int routes_new(const struct route_config *routes, size_t count, struct routes **out);
void routes_free(struct routes *routes);

/* What a client says. */
struct route_client {
	const char *name; /* as host_name_fold() makes it; may have no length */
	size_t name_length;
	/* Its nth protocol, NULL where there is none. */
	const uint8_t *(*protocol)(const void *from, size_t n, size_t *length);
	const void *from;
};

/* The route for it, or NULL. */
const struct route_config *routes_find(const struct routes *routes, const struct route_client *client);

#endif
