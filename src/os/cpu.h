/* Which CPUs may be used, how much of them, and where their memory is. Only user of libnuma. */
#ifndef AEGIS_OS_CPU_H
#define AEGIS_OS_CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

enum { CPU_MAX = 1024 };

struct cpu_set {
	int n; /* CPUs in the affinity mask of the calling process, at least 1 */
	int cpus[CPU_MAX];
	double quota; /* CPUs that the cgroups allow together (0.5 = half of one), 0 = no quota */
};

/* Look at the affinity mask and at the cgroup quota: v2 cpu.max, v1 cpu.cfs_quota_us and cpu.cfs_period_us, of the own
 * cgroup and all above it, the least one counts. root is "" outside of tests: a prefix for /proc and /sys. */
void cpu_usable(const char *root, struct cpu_set *out);

/* The number of workers for workers = "auto": min(CPUs in the mask, quota rounded up), at least 1. */
int cpu_worker_count(const struct cpu_set *set);

/* Pin the calling process to one CPU and prefer memory of its NUMA node. 0 or a negative errno; *node is the node or -1
 * where there is no NUMA. */
must_check int cpu_pin(int cpu, int *node);

/* How many NUMA nodes there are, 0 where the kernel tells of none. */
int cpu_numa_nodes(void);

#endif
