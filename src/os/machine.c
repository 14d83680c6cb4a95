#include "os/machine.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/first_line.h"

enum { LINE_SIZE = 4096 };

/* What follows key in the first line that begins with it. */
static bool read_field(const char *path, const char *key, char *out, size_t size)
{
	char line[LINE_SIZE];
	FILE *file = fopen(path, "re");
	bool found = false;
	while (file && !found && fgets(line, sizeof line, file)) {
		found = strncmp(line, key, strlen(key)) == 0;
		line[strcspn(line, "\n")] = '\0';
		if (found)
			(void)snprintf(out, size, "%s", line + strlen(key));
	}
	if (file)
		fclose(file);
	return found;
}

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

static void take_least(const char *directory, const char *name, uint64_t *least)
{
	char path[PATH_MAX], line[64], *end;
	if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path || !first_line(path, line, sizeof line))
		return;
	uint64_t limit = strtoull(line, &end, 10);
	if (end != line && *end == '\0' && limit > 0 && limit < *least)
		*least = limit;
}

/* The group, all above it, and the mount itself: a container sees its own group there, under a path that only the host knows. */
static void walk_up(const char *mount, const char *group, const char *name, uint64_t *least)
{
	char directory[PATH_MAX];
	size_t stop = strlen(mount);
	if ((size_t)snprintf(directory, sizeof directory, "%s%s", mount, group) >= sizeof directory)
		return;
	for (;;) {
		take_least(directory, name, least);
		char *slash = strrchr(directory, '/');
		if (!slash || (size_t)(slash - directory) < stop)
			return;
		*slash = '\0';
	}
}

/* "0::/path" is v2, "4:cpu,memory:/path" v1. */
static void read_group(const char *root, char *line, uint64_t *least)
{
	char mount[PATH_MAX];
	char *controllers = strchr(line, ':');
	char *group = controllers ? strchr(++controllers, ':') : NULL;
	if (!group)
		return;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (*controllers == '\0') {
		(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
		walk_up(mount, group, "memory.max", least);
		(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/unified", root);
		walk_up(mount, group, "memory.max", least);
	} else if (strstr(controllers, "memory")) {
		(void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/memory", root);
		walk_up(mount, group, "memory.limit_in_bytes", least);
	}
}

static uint64_t group_limit(const char *root, pid_t pid)
{
	char path[PATH_MAX], line[LINE_SIZE];
	uint64_t least = UINT64_MAX;
	if (pid)
		(void)snprintf(path, sizeof path, "%s/proc/%d/cgroup", root, (int)pid);
	else
		(void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof line, file))
		read_group(root, line, &least);
	if (file)
		fclose(file);
	return least;
}

uint64_t machine_memory(const char *root, pid_t pid, bool *is_cgroup)
{
	char path[PATH_MAX], value[64];
	(void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
	uint64_t all = read_field(path, "MemTotal:", value, sizeof value) ? strtoull(value, NULL, 10) * 1024 : 0;
	uint64_t group = group_limit(root, pid);
	*is_cgroup = group != UINT64_MAX && (all == 0 || group < all);
	return *is_cgroup ? group : all;
}

/* --- descriptors ----------------------------------------------------------------------------------------------------------- */

static uint64_t limit_of(const char *text, char **end)
{
	while (*text == ' ')
		text++;
	if (strncmp(text, "unlimited", strlen("unlimited")) != 0)
		return strtoull(text, end, 10);
	*end = (char *)text + strlen("unlimited");
	return UINT64_MAX;
}

static bool may_raise(const char *root, pid_t pid)
{
	char path[PATH_MAX], value[64];
	(void)snprintf(path, sizeof path, "%s/proc/%d/status", root, (int)pid);
	return read_field(path, "CapEff:", value, sizeof value) && (strtoull(value, NULL, 16) >> CAP_SYS_RESOURCE & 1);
}

uint64_t machine_descriptors(const char *root, pid_t pid, uint64_t want)
{
	char path[PATH_MAX], value[LINE_SIZE], *end;
	(void)snprintf(path, sizeof path, "%s/proc/%d/limits", root, (int)pid);
	if (!read_field(path, "Max open files", value, sizeof value))
		return 0;
	uint64_t soft = limit_of(value, &end), hard = limit_of(end, &end);
	if (may_raise(root, pid)) {
		(void)snprintf(path, sizeof path, "%s/proc/sys/fs/nr_open", root);
		hard = first_line(path, value, sizeof value) ? strtoull(value, NULL, 10) : hard;
	}
	uint64_t most = want < hard ? want : hard;
	return soft > most ? soft : most;
}

bool machine_lacks_kernel_tls(const char *root)
{
	char path[PATH_MAX], line[LINE_SIZE], *rest = line;
	(void)snprintf(path, sizeof path, "%s/proc/sys/net/ipv4/tcp_available_ulp", root);
	if (!first_line(path, line, sizeof line))
		return false;
	for (char *word; (word = strsep(&rest, " "));)
		if (strcmp(word, "tls") == 0)
			return false;
	return true;
}

uint32_t machine_local_ports(const char *root)
{
	char path[PATH_MAX], line[LINE_SIZE];
	unsigned first, last;
	(void)snprintf(path, sizeof path, "%s/proc/sys/net/ipv4/ip_local_port_range", root);
	bool known =
	        first_line(path, line, sizeof line) && sscanf(line, "%u %u", &first, &last) == 2 && first <= last && last <= UINT16_MAX;
	return known ? last - first + 1 : 0;
}

/* To itself the machine talks from the address that it talks to. To bind it would say nothing where ip_nonlocal_bind is set. */
bool machine_has_address(const struct addr *addr)
{
	struct sockaddr_storage own;
	socklen_t length = sizeof own;
	struct addr from;
	if (addr_is_loopback(addr))
		return true;
	int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool known = connect(fd, &addr->sa, addr->length) == 0 && getsockname(fd, (struct sockaddr *)&own, &length) == 0;
	close(fd);
	if (!known)
		return false;
	addr_from_sockaddr(&from, (const struct sockaddr *)&own, length);
	addr_set_port(&from, addr_port(addr));
	return addr_equal(&from, addr);
}
