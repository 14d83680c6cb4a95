/* The load processes of a load tool, as their parent has them: each gets a share of the clients and ends with its parent.
 *
 * Process: aegis-bench and aegis-udpblast; processes_cpu_ns() is for a load process.
 */
#ifndef AEGIS_TOOLS_PROCESSES_H
#define AEGIS_TOOLS_PROCESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

/* Has a process descriptors enough for its share of these? That it has not is told on stderr; `clients` is what they are called. */
must_check bool processes_have_descriptors(const char *program, const char *clients, uint32_t count, uint32_t processes);

/* How many of these are the share of process number i. */
uint32_t processes_share(uint32_t count, uint32_t processes, uint32_t i);

/* As fork(2), but the child ends when its parent does: a load without its parent has nobody to report to. -1 and errno. */
must_check pid_t processes_fork(void);
/* Wait for the end. True when it was a good one. */
must_check bool processes_ended_well(pid_t pid);

/* What this process has spent so far, in user and system time. */
uint64_t processes_cpu_ns(void);

#endif
