/* Whether workers will find the answers to ACME's challenges (acme.challenges of a listener).
 *
 * Process: `aegis -t` and `aegis -p`. What runs says so in its log when it is asked and cannot look.
 */
#ifndef AEGIS_MASTER_CHALLENGES_H
#define AEGIS_MASTER_CHALLENGES_H

#include "config/config.h"
#include "os/privileges.h"

/* Each folder that these cannot look into, as a warning: it may be made later, or opened. Looks with the rights of identity, in a child. */
void challenges_check(const struct config *config, const struct identity *identity, struct config_errors *warnings);

#endif
