/* The host names of the settings: watched by the resolver, and what they stand for published to the workers.
 *
 * Process: control. Writes the addresses of servers that were named, and raises the epoch of their upstream when they change.
 */
#ifndef AEGIS_CONTROL_NAMES_H
#define AEGIS_CONTROL_NAMES_H

#include "control/checks.h"
#include "control/resolver.h"

struct names;

/* A resolver as the settings want it. The errors of resolver_new(). */
must_check int names_resolver(const struct config *config, struct loop *loop, resolver_changed_fn *changed, struct resolver **out);

/* Begin to watch all names. 0 and *out, or a negative errno when nothing can be resolved; a name that cannot be watched is logged. */
must_check int names_new(struct loop *loop, const struct control_args *args, struct checks *checks, struct names **out);
void names_free(struct names *names);

#endif
