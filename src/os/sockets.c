#include "os/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_SIZE = 1024, TCP_LISTEN = 10, ANY_STATE = 0, SO_ACCEPTS = 0x10000 /* __SO_ACCEPTCON */ };

/* --- the tables ------------------------------------------------------------------------------------------------------------ */

/* An address as in /proc/net/tcp, udp and those of IPv6: words of 32 bits in network order, each printed as a number of this machine. */
static bool parse_words(const char *hex, size_t words, unsigned char *out)
{
	for (size_t i = 0; i < words; i++) {
		char word[9];
		uint32_t value;
		memcpy(word, hex + 8 * i, 8);
		word[8] = '\0';
		char *end;
		value = (uint32_t)strtoul(word, &end, 16);
		if (*end)
			return false;
		memcpy(out + 4 * i, &value, 4);
	}
	return true;
}

struct local {
	bool v6;
	unsigned char ip[16]; /* of IPv4: the first four */
	unsigned port;
};

static bool is_any(const struct local *local)
{
	static const unsigned char zeros[16];
	return memcmp(local->ip, zeros, local->v6 ? 16 : 4) == 0;
}

/* IPv4 in IPv6 is IPv4. */
static void unmap(struct local *local)
{
	static const unsigned char prefix[12] = { [10] = 0xff, [11] = 0xff };
	if (!local->v6 || memcmp(local->ip, prefix, sizeof prefix) != 0)
		return;
	memmove(local->ip, local->ip + 12, 4);
	local->v6 = false;
}

static struct local local_of(const struct addr *addr)
{
	struct local local = { .v6 = addr->sa.sa_family == AF_INET6, .port = addr_port(addr) };
	if (local.v6)
		memcpy(local.ip, &addr->in6.sin6_addr, 16);
	else
		memcpy(local.ip, &addr->in.sin_addr, 4);
	unmap(&local);
	return local;
}

/* Of a socket of the tables it cannot be seen whether [::] takes IPv4 as well: it is taken to do so only where ours does. */
static bool in_the_way(const struct local *ours, bool both, const struct local *other)
{
	if (ours->port != other->port)
		return false;
	if (ours->v6 != other->v6)
		return both && is_any(ours);
	return is_any(ours) || is_any(other) || memcmp(ours->ip, other->ip, ours->v6 ? 16 : 4) == 0;
}

/* Of who is in that state: "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 ..." */
static bool parse_line(const char *line, unsigned wanted, bool v6, struct local *local, struct socket_owner *owner)
{
	char address[33];
	unsigned state, uid;
	uintmax_t inode;
	if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%4X %*[0-9A-Fa-f]:%*4X %2X %*[^:]:%*s %*[^:]:%*s %*s %u %*d %ju", address, &local->port,
	            &state, &uid, &inode) != 5)
		return false;
	local->v6 = v6;
	if ((wanted != ANY_STATE && state != wanted) || strlen(address) != (v6 ? 32 : 8) || !parse_words(address, v6 ? 4 : 1, local->ip))
		return false;
	unmap(local);
	*owner = (struct socket_owner){ .inode = (ino_t)inode, .uid = (uid_t)uid };
	return true;
}

/* A table of TCP sockets that listen, or of all of UDP. */
struct table {
	const char *name;
	unsigned state;
};

static int walk_table(const char *root, const struct table *table, bool v6, const struct local *ours, bool both, sockets_fn *fn, void *arg)
{
	char path[PATH_MAX], line[LINE_SIZE];
	(void)snprintf(path, sizeof path, "%s/proc/net/%s%s", root, table->name, v6 ? "6" : "");
	FILE *file = fopen(path, "re");
	if (!file)
		return v6 && errno == ENOENT ? 0 : -errno;
	bool enough = false;
	/* Who listens comes first (proc_net_tcp.rst); of what follows there may be a million. */
	for (bool more = fgets(line, sizeof line, file) != NULL; !enough && more && fgets(line, sizeof line, file);) {
		struct local local;
		struct socket_owner owner;
		more = parse_line(line, table->state, v6, &local, &owner);
		if (more && in_the_way(ours, both, &local))
			enough = fn(arg, &owner);
	}
	fclose(file);
	return enough;
}

/* "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /path": names in the abstract namespace begin with '@'. */
static int walk_unix(const char *root, const struct addr *addr, sockets_fn *fn, void *arg)
{
	char path[PATH_MAX], line[LINE_SIZE], wanted[sizeof addr->un.sun_path + 1] = "";
	(void)snprintf(path, sizeof path, "%s/proc/net/unix", root);
	size_t length = addr->length - offsetof(struct sockaddr_un, sun_path);
	memcpy(wanted, addr->un.sun_path, length < sizeof addr->un.sun_path ? length : sizeof addr->un.sun_path);
	if (wanted[0] == '\0')
		wanted[0] = '@';
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	bool enough = false;
	while (!enough && fgets(line, sizeof line, file)) {
		unsigned flags;
		uintmax_t inode;
		int at = 0;
		if (sscanf(line, "%*s %*x %*x %x %*x %*x %ju %n", &flags, &inode, &at) != 2 || at == 0 || !(flags & SO_ACCEPTS))
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line + at, wanted) == 0)
			enough = fn(arg, &(struct socket_owner){ .inode = (ino_t)inode });
	}
	fclose(file);
	return enough;
}

static int walk_ip(const char *root, const struct table *table, const struct addr *addr, bool both, sockets_fn *fn, void *arg)
{
	const struct local ours = local_of(addr);
	int result = walk_table(root, table, false, &ours, both, fn, arg);
	if (result == 0)
		result = walk_table(root, table, true, &ours, both, fn, arg);
	return result < 0 ? result : 0;
}

int sockets_bound_udp(const char *root, const struct addr *addr, bool both, sockets_fn *fn, void *arg)
{
	return walk_ip(root, &(struct table){ "udp", ANY_STATE }, addr, both, fn, arg);
}

int sockets_listening(const char *root, const struct addr *addr, bool both, sockets_fn *fn, void *arg)
{
	if (addr->sa.sa_family == AF_UNIX) {
		int result = walk_unix(root, addr, fn, arg);
		return result < 0 ? result : 0;
	}
	return walk_ip(root, &(struct table){ "tcp", TCP_LISTEN }, addr, both, fn, arg);
}

/* --- whose socket it is ---------------------------------------------------------------------------------------------------- */

bool sockets_may_look(const char *root, pid_t pid)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof path, "%s/proc/%d/fd", root, (int)pid);
	DIR *descriptors = opendir(path);
	if (descriptors)
		closedir(descriptors);
	return descriptors != NULL;
}

bool sockets_is_owned_by(const char *root, ino_t inode, pid_t pid)
{
	char path[PATH_MAX], wanted[64], target[64];
	(void)snprintf(wanted, sizeof wanted, "socket:[%ju]", (uintmax_t)inode);
	(void)snprintf(path, sizeof path, "%s/proc/%d/fd", root, (int)pid);
	DIR *descriptors = opendir(path);
	if (!descriptors)
		return false;
	bool found = false;
	const struct dirent *entry;
	while (!found && (entry = readdir(descriptors))) {
		ssize_t length = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target - 1);
		target[length > 0 ? length : 0] = '\0';
		found = strcmp(target, wanted) == 0;
	}
	closedir(descriptors);
	return found;
}

static void name_process(const char *root, pid_t pid, char *out, size_t size)
{
	char path[PATH_MAX], line[64] = "";
	(void)snprintf(path, sizeof path, "%s/proc/%d/comm", root, (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(line, sizeof line, file))
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	struct text text = text_of(out, size);
	text_add_printable(&text, line);
}

void sockets_find_owner(const char *root, struct socket_owner *owner)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof path, "%s/proc", root);
	DIR *processes = opendir(path);
	const struct dirent *entry;
	while (processes && (entry = readdir(processes))) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);
		if (*end || pid <= 0 || pid > INT_MAX || !sockets_is_owned_by(root, owner->inode, (pid_t)pid))
			continue;
		owner->pid = (pid_t)pid;
		name_process(root, owner->pid, owner->name, sizeof owner->name);
		break;
	}
	if (processes)
		closedir(processes);
}

char *sockets_name_owner(const char *root, struct socket_owner *owner, char *out, size_t size)
{
	struct text text = text_of(out, size);
	sockets_find_owner(root, owner);
	if (owner->pid)
		text_add(&text, "%s (pid %d)", owner->name, (int)owner->pid);
	else
		text_add(&text, "another process");
	if (!owner->pid && owner->uid)
		text_add(&text, " of user %u", (unsigned)owner->uid);
	return out;
}
