/* Whether workers will find the answers to ACME's challenges (acme.challenges of a listener).
 *
 * Process: `aegis -t` and `aegis -p`. What runs says so in its log when it is asked and cannot look.
 */
#ifndef AEGIS_MASTER_CHALLENGES_H
#define AEGIS_MASTER_CHALLENGES_H

#include "base/file_at.h"
#include "config/config.h"
#include "os/privileges.h"

/* Each folder that these cannot look into, as a warning: it may be made later, or opened. Looks with the rights of identity, in a child.
 * at: for who waits for it, or NULL. */
void challenges_check(const struct config *config, const struct identity *identity, struct file_at *at, struct config_errors *warnings);

#endif
