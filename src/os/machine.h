/* What this machine has for a process: memory, and what it may open. */
#ifndef AEGIS_OS_MACHINE_H
#define AEGIS_OS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/attr.h"

/* The memory that a process may use at most: what the machine has, or the least limit of its cgroup (v2 memory.max, v1
 * memory.limit_in_bytes) and all above it. Bytes, 0 = not known. pid 0 = ourselves. root is "" outside of tests: a prefix for /proc and
 * /sys. */
uint64_t machine_memory(const char *root, pid_t pid, bool *is_cgroup);

/* What privileges_raise_descriptors(want) would come to in another process; 0 = not known. */
uint64_t machine_descriptors(const char *root, pid_t pid, uint64_t want);

/* Does the kernel tell that it has no TLS for sockets (kTLS), or has not loaded it? In containers it often tells nothing: false. */
bool machine_lacks_kernel_tls(const char *root);

/* How many local ports the kernel gives to those who ask for none (ip_local_port_range); 0 = not known. */
uint32_t machine_local_ports(const char *root);

/* Is this one of the machine's own addresses, in our network namespace? The port does not matter. False also where it cannot be told. */
bool machine_has_address(const struct addr *addr);

#endif
