#include "os/cpu.h"

#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "os/first_line.h"

enum { MASK_BITS_MAX = 1 << 20 };

/* The mask of the calling process, of whatever size this kernel has, for CPU_FREE(); NULL when there is none to be had. */
static cpu_set_t *own_mask(size_t *bits)
{
	for (size_t n = CPU_MAX; n <= MASK_BITS_MAX; n *= 2) {
		cpu_set_t *mask = CPU_ALLOC(n);
		if (!mask)
			return NULL;
		if (sched_getaffinity(0, CPU_ALLOC_SIZE(n), mask) == 0) {
			*bits = n;
			return mask;
		}
		int err = errno;
		CPU_FREE(mask);
		if (err != EINVAL) /* EINVAL: the kernel's own mask is longer */
			return NULL;
	}
	return NULL;
}

static void read_affinity(struct cpu_set *out)
{
	size_t bits = 0;
	cpu_set_t *mask = own_mask(&bits);
	out->n = 0;
	for (size_t cpu = 0; mask && cpu < bits && out->n < CPU_MAX; cpu++)
		if (CPU_ISSET_S(cpu, CPU_ALLOC_SIZE(bits), mask))
			out->cpus[out->n++] = (int)cpu;
	if (mask)
		CPU_FREE(mask);
	if (out->n == 0)
		out->cpus[out->n++] = 0;
}

/* Two positive numbers as the quota they stand for; 0 = none, also where one of them is no number. */
static double quota_of(const char *quota, const char *period)
{
	char *end;
	if (*quota < '0' || *quota > '9' || *period < '0' || *period > '9')
		return 0;
	double quota_us = (double)strtoull(quota, &end, 10);
	if (*end)
		return 0;
	double period_us = (double)strtoull(period, &end, 10);
	if (*end || period_us <= 0)
		return 0;
	return quota_us / period_us;
}

/* The quota of one directory of a v2 hierarchy: cpu.max holds "max 100000" or "50000 100000". */
static double read_v2(const char *directory)
{
	char path[PATH_MAX], line[128];
	if (snprintf(path, sizeof path, "%s/cpu.max", directory) >= (int)sizeof path || !first_line(path, line, sizeof line))
		return 0;
	char *space = strchr(line, ' ');
	if (!space)
		return 0;
	*space = '\0';
	return quota_of(line, space + 1);
}

/* The same for v1, where no quota is -1. */
static double read_v1(const char *directory)
{
	char path[PATH_MAX], quota[64], period[64];
	if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory) >= (int)sizeof path || !first_line(path, quota, sizeof quota))
		return 0;
	if (snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory) >= (int)sizeof path || !first_line(path, period, sizeof period))
		return 0;
	return quota_of(quota, period);
}

/* Take the least quota of the group and of all above it, up to the mount itself. The mount is asked even where the group is not
 * found below it: a container sees its own group there, under a path that only the host knows. */
static void walk_up(const char *mount, const char *group, double (*read_quota)(const char *directory), double *least)
{
	char directory[PATH_MAX];
	int length = snprintf(directory, sizeof directory, "%s%s", mount, group);
	if (length < 0 || (size_t)length >= sizeof directory)
		length = snprintf(directory, sizeof directory, "%s", mount);
	size_t stop = strlen(mount);
	for (size_t end = (size_t)length;;) {
		while (end > stop && directory[end - 1] == '/')
			end--;
		directory[end] = '\0';
		double quota = read_quota(directory);
		if (quota > 0 && (*least <= 0 || quota < *least))
			*least = quota;
		if (end <= stop)
			return;
		while (end > stop && directory[end - 1] != '/')
			end--;
	}
}

struct own_groups {
	char v2[PATH_MAX];
	char v1[PATH_MAX];
};

/* Whether the comma-separated list holds "cpu". */
static bool names_cpu(const char *controllers)
{
	for (const char *at = controllers;; at++) {
		size_t length = strcspn(at, ",");
		if (length == 3 && memcmp(at, "cpu", 3) == 0)
			return true;
		at += length;
		if (!*at)
			return false;
	}
}

/* Read /proc/self/cgroup: lines of "id:controllers:path". */
static void read_own_groups(const char *root, struct own_groups *out)
{
	char path[PATH_MAX];
	out->v1[0] = out->v2[0] = '\0';
	if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
		return;
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*controllers++ = *group++ = '\0';
		/* A path that leads out of the namespace ("/../..") cannot be seen from here. */
		if (*group != '/' || strstr(group, "/..") || strlen(group) >= sizeof out->v1)
			continue;
		if (!*controllers)
			strcpy(out->v2, group);
		else if (names_cpu(controllers))
			strcpy(out->v1, group);
	}
	free(line);
	fclose(file);
}

static double read_quota(const char *root)
{
	static const char *const v2_mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	static const char *const v1_mounts[] = { "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct,cpu" };
	struct own_groups groups;
	read_own_groups(root, &groups);
	double least = 0;
	char mount[PATH_MAX];
	for (size_t i = 0; i < ARRAY_LEN(v2_mounts); i++)
		if (snprintf(mount, sizeof mount, "%s%s", root, v2_mounts[i]) < (int)sizeof mount)
			walk_up(mount, groups.v2, read_v2, &least);
	for (size_t i = 0; i < ARRAY_LEN(v1_mounts); i++)
		if (snprintf(mount, sizeof mount, "%s%s", root, v1_mounts[i]) < (int)sizeof mount)
			walk_up(mount, groups.v1, read_v1, &least);
	return least;
}

void cpu_usable(const char *root, struct cpu_set *out)
{
	read_affinity(out);
	out->quota = read_quota(root);
}

int cpu_worker_count(const struct cpu_set *set)
{
	if (set->quota <= 0 || set->quota >= set->n)
		return set->n;
	int whole = (int)set->quota;
	return whole < set->quota ? whole + 1 : whole;
}

/* Prefer memory of the node of a CPU. The node, or -1. */
static int prefer_node(int cpu)
{
	if (numa_available() < 0)
		return -1;
	int node = numa_node_of_cpu(cpu);
	if (node < 0)
		return -1;
	struct bitmask *nodes = numa_allocate_nodemask();
	numa_bitmask_setbit(nodes, (unsigned)node);
	/* Not numa_set_preferred(), which prints where it fails. Where a sandbox forbids it, the kernel's default remains: the node of
	 * the CPU that first touches a page, the same one as long as we are pinned. */
	(void)set_mempolicy(MPOL_PREFERRED, nodes->maskp, nodes->size + 1);
	numa_free_nodemask(nodes);
	return node;
}

int cpu_pin(int cpu, int *node)
{
	if (cpu < 0 || cpu >= MASK_BITS_MAX)
		return -EINVAL;
	size_t bit = (size_t)cpu;
	cpu_set_t *mask = CPU_ALLOC(bit + 1);
	if (!mask)
		return -ENOMEM;
	size_t size = CPU_ALLOC_SIZE(bit + 1);
	CPU_ZERO_S(size, mask);
	CPU_SET_S(bit, size, mask);
	int err = sched_setaffinity(0, size, mask) < 0 ? -errno : 0;
	CPU_FREE(mask);
	if (!err)
		*node = prefer_node(cpu);
	return err;
}

int cpu_numa_nodes(void)
{
	return numa_available() < 0 ? 0 : numa_num_configured_nodes();
}
