#include "os/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"

/* A user or a group by name; NULL and *err 0 when there is none, or a negative errno where the system could not say. */
static const struct passwd *find_user(const char *name, int *err)
{
	errno = 0;
	const struct passwd *user = getpwnam(name);
	bool absent = errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF || errno == EPERM; /* getpwnam(3) */
	*err = user || absent ? 0 : -errno;
	return user;
}

static const struct group *find_group(const char *name, int *err)
{
	errno = 0;
	const struct group *group = getgrnam(name);
	bool absent = errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF || errno == EPERM;
	*err = group || absent ? 0 : -errno;
	return group;
}

static int refuse_unknown(int err, const char *what, const char *name, char *why, size_t why_size)
{
	if (err)
		snprintf(why, why_size, "the %s \"%s\" cannot be looked up: %s", what, name, strerror(-err));
	else
		snprintf(why, why_size, "there is no %s \"%s\"; create it or set %s to one that exists", what, name, what);
	return -EINVAL;
}

/* Not started as root: the caller is who we stay, and the settings may say so too. */
static int resolve_self(const char *user, const char *group, struct identity *out, char *why, size_t why_size)
{
	struct identity self = { .change = false, .uid = geteuid(), .gid = getegid() };
	int err;
	if (*user) {
		const struct passwd *wanted = find_user(user, &err);
		if (!wanted)
			return refuse_unknown(err, "user", user, why, why_size);
		if (wanted->pw_uid != self.uid) {
			snprintf(why, why_size, "only root can become the user \"%s\"; start Aegis as root, or remove user", user);
			return -EINVAL;
		}
	}
	if (*group) {
		const struct group *wanted = find_group(group, &err);
		if (!wanted)
			return refuse_unknown(err, "group", group, why, why_size);
		if (wanted->gr_gid != self.gid) {
			snprintf(why, why_size, "only root can change to the group \"%s\"; start Aegis as root, or remove group", group);
			return -EINVAL;
		}
	}
	const struct passwd *own = getpwuid(self.uid);
	if (own)
		text_copy(self.user, sizeof self.user, own->pw_name);
	else
		snprintf(self.user, sizeof self.user, "%u", (unsigned)self.uid);
	*out = self;
	return 0;
}

int privileges_resolve(const char *user, const char *group, struct identity *out, char *why, size_t why_size)
{
	if (geteuid() != 0)
		return resolve_self(user, group, out, why, why_size);
	int err;
	const struct passwd *found = find_user(*user ? user : "aegis", &err);
	if (!found && !*user)
		found = find_user("nobody", &err);
	if (!found)
		return refuse_unknown(err, "user", *user ? user : "nobody", why, why_size);
	struct identity identity = { .change = true, .uid = found->pw_uid, .gid = found->pw_gid };
	if (!text_copy(identity.user, sizeof identity.user, found->pw_name)) {
		snprintf(why, why_size, "the name of the user \"%s\" is too long", found->pw_name);
		return -EINVAL;
	}
	if (*group) {
		const struct group *wanted = find_group(group, &err);
		if (!wanted)
			return refuse_unknown(err, "group", group, why, why_size);
		identity.gid = wanted->gr_gid;
	}
	*out = identity;
	return 0;
}

/* The bounding set, as far as it may be changed (CAP_SETPCAP): without it no_new_privs is what keeps exec from giving anything. */
static int drop_bounding(void)
{
	for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return errno == EPERM ? 0 : -errno;
	return 0;
}

static int become(const struct identity *identity)
{
	if (initgroups(identity->user, identity->gid) < 0)
		return -errno;
	if (setresgid(identity->gid, identity->gid, identity->gid) < 0)
		return -errno;
	if (setresuid(identity->uid, identity->uid, identity->uid) < 0)
		return -errno;
	return 0;
}

/* Sets of capabilities, each with none but one at most. */
struct capabilities {
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
};

static int get_capabilities(struct capabilities *out)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	return syscall(SYS_capget, &header, out->sets) < 0 ? -errno : 0;
}

/* The least of those that allow IP_TRANSPARENT. */
static int choose_transparent(struct capabilities *out)
{
	static const unsigned both[] = { CAP_NET_RAW, CAP_NET_ADMIN };
	struct capabilities have;
	int error = get_capabilities(&have);
	if (error)
		return error;
	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		unsigned set = both[i] / 32, bit = 1U << both[i] % 32;
		if (!(have.sets[set].permitted & bit))
			continue;
		*out = (struct capabilities){ 0 };
		out->sets[set].permitted = out->sets[set].effective = bit;
		return 0;
	}
	return -EPERM;
}

static int drop_capabilities(const struct capabilities *keep)
{
	/* EINVAL: a kernel before 4.3 has no ambient set */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	if (syscall(SYS_capset, &header, keep->sets) < 0)
		return -errno;
	return 0;
}

/* -EPERM when anything is left or can be had back. */
static int verify_dropped(const struct identity *identity, const struct capabilities *keep)
{
	struct capabilities have;
	int error = get_capabilities(&have);
	if (error)
		return error;
	for (size_t i = 0; i < ARRAY_LEN(have.sets); i++)
		if (have.sets[i].effective != keep->sets[i].effective || have.sets[i].permitted != keep->sets[i].permitted ||
		        have.sets[i].inheritable)
			return -EPERM;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return -EPERM;
	if (!identity->change)
		return 0;
	uid_t uid[3];
	gid_t gid[3];
	if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(uid); i++)
		if (uid[i] != identity->uid || gid[i] != identity->gid)
			return -EPERM;
	if (identity->uid != 0 && (setuid(0) == 0 || setresuid(0, 0, 0) == 0))
		return -EPERM;
	if (identity->gid != 0 && (setgid(0) == 0 || setresgid(0, 0, 0) == 0))
		return -EPERM;
	return 0;
}

static int drop_all_but(const struct identity *identity, const struct capabilities *keep)
{
	int err = drop_bounding(); /* first: it takes a capability */
	if (!err && identity->change)
		err = become(identity);
	if (!err)
		err = drop_capabilities(keep);
	if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err = -errno;
	return err ? err : verify_dropped(identity, keep);
}

int privileges_drop(const struct identity *identity)
{
	static const struct capabilities none;
	return drop_all_but(identity, &none);
}

int privileges_drop_but_transparent(const struct identity *identity)
{
	struct capabilities keep;
	int err = choose_transparent(&keep);
	if (!err && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) /* or else they go with root; what is not wanted goes right after */
		err = -errno;
	if (!err)
		err = drop_all_but(identity, &keep);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 && !err)
		err = -errno;
	return err;
}

/* What the kernel allows at most, whoever asks. */
static uint64_t most_descriptors(void)
{
	uint64_t most = 1048576;
	FILE *file = fopen("/proc/sys/fs/nr_open", "re");
	if (file) {
		unsigned long long value;
		if (fscanf(file, "%llu", &value) == 1 && value > 0)
			most = value;
		fclose(file);
	}
	return most;
}

uint64_t privileges_raise_descriptors(uint64_t want)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	if (limit.rlim_cur >= want) /* RLIM_INFINITY is the greatest value */
		return limit.rlim_cur;
	uint64_t most = most_descriptors();
	rlim_t wanted = want < most ? want : most;
	if (wanted > limit.rlim_max) {
		struct rlimit raised = { .rlim_cur = wanted, .rlim_max = wanted };
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			return wanted;
		wanted = limit.rlim_max;
	}
	if (wanted <= limit.rlim_cur)
		return limit.rlim_cur;
	struct rlimit raised = { .rlim_cur = wanted, .rlim_max = limit.rlim_max };
	return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? wanted : limit.rlim_cur;
}
