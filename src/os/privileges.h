/* Giving up privileges, and what the process may do. */
#ifndef AEGIS_OS_PRIVILEGES_H
#define AEGIS_OS_PRIVILEGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

struct identity {
	bool change; /* false: stay who we are (not started as root) */
	uid_t uid;
	gid_t gid;
	char user[64];
};

/* Who the workers will be. user "" means: the caller when not root, else "aegis" where it exists, else "nobody". group ""
 * means the user's own. 0 and *out, or -EINVAL with *why a sentence for the user ("there is no user \"x\"; ..."). */
must_check int privileges_resolve(const char *user, const char *group, struct identity *out, char *why, size_t why_size);

/* Become that for good: groups, gid, uid, no capability in any set (bounding and ambient too), no_new_privs. 0 or a negative errno.
 * After 0 it has been verified that nothing can be regained. Without identity->change capabilities and no_new_privs are
 * dealt with all the same. */
must_check int privileges_drop(const struct identity *identity);

/* The same, but for the capability to send from addresses that are not ours (IP_TRANSPARENT): CAP_NET_RAW, or CAP_NET_ADMIN where only that
 * is there. It is kept as permitted and effective, so that a program that is executed does not get it. -EPERM where there is neither. */
must_check int privileges_drop_but_transparent(const struct identity *identity);

/* Raise RLIMIT_NOFILE to want, or as far as allowed (the hard limit too where CAP_SYS_RESOURCE allows, up to fs.nr_open).
 * Returns the soft limit in force. */
uint64_t privileges_raise_descriptors(uint64_t want);

#endif
