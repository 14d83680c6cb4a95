/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "in_child.h"
#include "os/privileges.h"

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static bool without_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	if (syscall(SYS_capget, &header, sets) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		if (sets[i].effective || sets[i].permitted || sets[i].inheritable)
			return false;
	for (unsigned long i = 0; i <= CAP_LAST_CAP; i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1)
			return false;
	return true;
}

static bool has_capability(unsigned capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };
	return syscall(SYS_capget, &header, sets) == 0 && (sets[capability / 32].effective >> capability % 32 & 1);
}

static int check_drop(void)
{
	struct identity identity = { .change = false };
	char why[256] = "";
	bool may_empty_bounding = has_capability(CAP_SETPCAP);
	/* something to lose: an inheritable and an ambient capability, and a group */
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	if (syscall(SYS_capget, &header, sets) < 0)
		return 1;
	sets[0].inheritable = sets[0].permitted & (1U << CAP_NET_BIND_SERVICE);
	if (syscall(SYS_capset, &header, sets) < 0)
		return 2;
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0);
	gid_t group = 4242;
	if (setgroups(1, &group) < 0)
		return 3;

	if (privileges_resolve("nobody", "", &identity, why, sizeof why) != 0 || !identity.change)
		return 4;
	if (privileges_drop(&identity) != 0)
		return 5;
	if (getuid() != identity.uid || geteuid() != identity.uid || getgid() != identity.gid || getegid() != identity.gid)
		return 6;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 || setgroups(0, NULL) == 0)
		return 7;
	if (!without_capabilities() || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 8;
	for (unsigned long i = 0; may_empty_bounding && i <= CAP_LAST_CAP; i++)
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			return 9;
	gid_t groups[64];
	int count = getgroups(64, groups);
	for (int i = 0; i < count; i++)
		if (groups[i] == 4242 || groups[i] == 0)
			return 10;
	return privileges_drop(&identity) == 0 ? 11 : 0; /* a second time it cannot become anyone */
}

static void test_drop(void **state)
{
	(void)state;
	need_root();
	in_child(check_drop);
}

/* uid 0 and all capabilities but those that becoming someone else takes: it must fail, not go on half-way. */
static int check_drop_without_setuid(void)
{
	struct identity identity = { .change = false };
	char why[256];
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	if (privileges_resolve("nobody", "", &identity, why, sizeof why) != 0 || syscall(SYS_capget, &header, sets) < 0)
		return 1;
	sets[0].permitted &= ~(1U << CAP_SETUID);
	sets[0].effective = sets[0].permitted;
	if (syscall(SYS_capset, &header, sets) < 0)
		return 2;
	return privileges_drop(&identity) == -EPERM ? 0 : 3;
}

static void test_drop_fails_loudly(void **state)
{
	(void)state;
	need_root();
	in_child(check_drop_without_setuid);
}

static int check_unprivileged(void)
{
	const struct passwd *nobody = getpwnam("nobody");
	if (geteuid() == 0 && (!nobody || setgroups(0, NULL) || setresgid(nobody->pw_gid, nobody->pw_gid, nobody->pw_gid) ||
	                              setresuid(nobody->pw_uid, nobody->pw_uid, nobody->pw_uid)))
		return 1;
	struct identity identity = { .change = true };
	char why[256] = "";
	if (privileges_resolve("", "", &identity, why, sizeof why) != 0)
		return 2;
	if (identity.change || identity.uid != geteuid() || identity.gid != getegid() || !identity.user[0])
		return 3;
	char self[sizeof identity.user];
	memcpy(self, identity.user, sizeof self);
	if (privileges_resolve(self, "", &identity, why, sizeof why) != 0 || identity.change)
		return 4; /* the settings may name who we are anyway */
	if (privileges_resolve("root", "", &identity, why, sizeof why) != -EINVAL || !strstr(why, "only root"))
		return 5;
	if (privileges_resolve("no-such-user", "", &identity, why, sizeof why) != -EINVAL || !strstr(why, "\"no-such-user\""))
		return 6;
	if (privileges_resolve("", "root", &identity, why, sizeof why) != -EINVAL || !strstr(why, "group"))
		return 7;
	if (privileges_drop(&identity) != 0)
		return 8;
	if (!without_capabilities() || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || geteuid() != identity.uid)
		return 9;
	return privileges_drop(&identity) == 0 ? 0 : 10; /* nothing to do is no error */
}

/* One capability stays, permitted and effective, and nothing can be had back; a program that is executed would not get it. */
static int check_transparent(void)
{
	struct identity identity = { .change = false };
	char why[256];
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	static const int on = 1;
	if (privileges_resolve("nobody", "", &identity, why, sizeof why) != 0)
		return 1;
	if (!has_capability(CAP_NET_RAW))
		return privileges_drop_but_transparent(&identity) == -EPERM || has_capability(CAP_NET_ADMIN) ? 0 : 2;
	if (privileges_drop_but_transparent(&identity) != 0)
		return 3;
	if (syscall(SYS_capget, &header, sets) < 0 || sets[0].effective != 1U << CAP_NET_RAW || sets[0].permitted != 1U << CAP_NET_RAW ||
	        sets[0].inheritable || sets[1].permitted || sets[1].effective)
		return 4;
	if (prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 5;
	if (getuid() != identity.uid || setuid(0) == 0 || setgroups(0, NULL) == 0)
		return 6;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) < 0)
		return 7;
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0 ? 8 : 0;
}

static void test_transparent(void **state)
{
	(void)state;
	need_root();
	in_child(check_transparent);
}

/* Without either capability it fails before anything is given up. */
static int check_transparent_refused(void)
{
	const struct passwd *nobody = getpwnam("nobody");
	struct identity identity = { .change = false };
	if (geteuid() == 0 && (!nobody || setgroups(0, NULL) || setresgid(nobody->pw_gid, nobody->pw_gid, nobody->pw_gid) ||
	                              setresuid(nobody->pw_uid, nobody->pw_uid, nobody->pw_uid)))
		return 1;
	return privileges_drop_but_transparent(&identity) == -EPERM ? 0 : 2;
}

static void test_transparent_refused(void **state)
{
	(void)state;
	in_child(check_transparent_refused);
}

static void test_unprivileged(void **state)
{
	(void)state;
	in_child(check_unprivileged);
}

static void test_resolve_as_root(void **state)
{
	(void)state;
	need_root();
	const struct passwd *aegis = getpwnam("aegis");
	const struct passwd *expected = aegis ? aegis : getpwnam("nobody");
	assert_non_null(expected);
	uid_t uid = expected->pw_uid;
	gid_t gid = expected->pw_gid;
	struct identity identity;
	char why[256] = "";
	assert_int_equal(privileges_resolve("", "", &identity, why, sizeof why), 0);
	assert_true(identity.change);
	assert_int_equal(identity.uid, uid);
	assert_int_equal(identity.gid, gid);

	assert_int_equal(privileges_resolve("nobody", "root", &identity, why, sizeof why), 0);
	assert_int_equal(identity.gid, 0);
	assert_string_equal(identity.user, "nobody");

	struct identity before = identity;
	assert_int_equal(privileges_resolve("no-such-user", "", &identity, why, sizeof why), -EINVAL);
	assert_string_equal(why, "there is no user \"no-such-user\"; create it or set user to one that exists");
	assert_int_equal(privileges_resolve("nobody", "no-such-group", &identity, why, sizeof why), -EINVAL);
	assert_string_equal(why, "there is no group \"no-such-group\"; create it or set group to one that exists");
	assert_memory_equal(&identity, &before, sizeof before);
}

static int check_descriptors(void)
{
	struct rlimit limit = { .rlim_cur = 64, .rlim_max = 512 };
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1;
	if (privileges_raise_descriptors(32) != 64) /* never lowered */
		return 2;
	if (privileges_raise_descriptors(256) != 256)
		return 3;
	bool may = has_capability(CAP_SYS_RESOURCE);
	if (privileges_raise_descriptors(1024) != (may ? 1024 : 512))
		return 4;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur != (may ? 1024 : 512))
		return 5;
	uint64_t all = privileges_raise_descriptors(UINT64_MAX);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur != all || all < (may ? 1024 : 512))
		return 6;
	return 0;
}

static void test_raise_descriptors(void **state)
{
	(void)state;
	in_child(check_descriptors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_drop_fails_loudly),
		cmocka_unit_test(test_transparent),
		cmocka_unit_test(test_transparent_refused),
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_resolve_as_root),
		cmocka_unit_test(test_raise_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
