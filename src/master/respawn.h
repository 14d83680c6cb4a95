/* A process of the master's that died, a worker or the control process: how soon the next one is forked, and how its end is told.
 *
 * Process: the master.
 */
#ifndef AEGIS_MASTER_RESPAWN_H
#define AEGIS_MASTER_RESPAWN_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/clock.h"

#define RESPAWN_STEADY_NS NS_PER_S /* one that lived so long did not die of its settings */
#define RESPAWN_FIRST_NS (100 * NS_PER_MS)

/* How long to wait before the next one: 0, unless it keeps dying, and then ever longer, up to most_ns. *quick_deaths is how many in a row
 * were not steady; it counts this one, too. */
must_check uint64_t respawn_delay_ns(uint32_t *quick_deaths, uint64_t lived_ns, uint64_t most_ns);

enum { RESPAWN_END_SIZE = 128 };

/* How a process ended, of its status from waitpid(): "was killed by signal 9 (Killed)", "exited with status 1". Returns text. */
const char *respawn_end_text(int status, char text[static RESPAWN_END_SIZE]);

#endif
