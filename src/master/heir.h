/* The beginning of a new master: what the running one hands over, and the process that becomes the new program.
 *
 * Process: the old master.
 */
#ifndef AEGIS_MASTER_HEIR_H
#define AEGIS_MASTER_HEIR_H

#include <sys/types.h>

#include "base/attr.h"

struct master;

/* Fork and execute master->upgrade.program. That it cannot be executed is told over the channel, as UPGRADE_FAILED. 0, *out and the channel
 * to it, or a negative errno. */
must_check int heir_fork(struct master *master, pid_t *out, int *channel);

#endif
