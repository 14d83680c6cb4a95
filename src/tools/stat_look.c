#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/process.h"
#include "tools/stat.h"

enum { TRIES_MOST = 50, WAIT_MS = 10 };

static const char system_dir[] = "/run/aegis";

static enum stat_exit not_running(const char *dir, char *why, size_t why_size)
{
	char other[64];
	snprintf(other, sizeof other, "%s/stats", system_dir);
	if (strcmp(dir, system_dir) != 0 && access(other, F_OK) == 0)
		snprintf(why, why_size, "no Aegis is running in %s; there may be one in %s: try -r %s", dir, system_dir, system_dir);
	else
		snprintf(why, why_size, "no Aegis is running in %s; start one with aegis(8), or name its runtime_dir with -r DIR", dir);
	return STAT_NOT_RUNNING;
}

static enum stat_exit unreadable(const char *path, int error, char *why, size_t why_size)
{
	bool denied = error == EACCES || error == EPERM;
	snprintf(why, why_size, "cannot read %s: %s%s", path, strerror(error),
	        denied ? "; be root, or a member of the group that owns it" : "");
	return STAT_UNREADABLE;
}

/* A master holds the lock on its pid file as long as it lives. -EAGAIN: one does, but not the one of the segment. For a moment of an
 * upgrade that is so. */
static int master_lives(const char *dir, int32_t pid)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/aegis.pid", dir) >= sizeof path)
		return -ENOENT;
	int rc = process_running(path);
	if (rc > 0)
		return rc == pid ? 0 : -EAGAIN;
	if (rc == 0 || rc == -ENOENT)
		return -ENOENT;
	/* The file tells us nothing; is there such a process at all? */
	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM) ? 0 : -ENOENT;
}

static enum stat_exit look_once(const char *dir, struct snapshot **out, bool *again, char *why, size_t why_size)
{
	char path[PATH_MAX], fault[256];
	struct snapshot *snapshot;
	*again = false;
	if ((size_t)snprintf(path, sizeof path, "%s/stats", dir) >= sizeof path)
		return unreadable(dir, ENAMETOOLONG, why, why_size);
	int rc = snapshot_read(path, clock_now_ns(), &snapshot, fault, sizeof fault);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return not_running(dir, why, why_size);
	if (rc == -EINVAL) {
		snprintf(why, why_size, "%s %s", path, fault);
		return STAT_UNREADABLE;
	}
	if (rc < 0)
		return unreadable(path, -rc, why, why_size);
	rc = master_lives(dir, snapshot->master_pid);
	if (rc) {
		snapshot_free(snapshot);
		*again = rc == -EAGAIN;
		return not_running(dir, why, why_size);
	}
	*out = snapshot;
	return STAT_OK;
}

enum stat_exit stat_look(const char *dir, struct snapshot **out, char *why, size_t why_size)
{
	bool again;
	enum stat_exit result = look_once(dir, out, &again, why, why_size);
	for (int tries = 0; again && tries < TRIES_MOST; tries++) {
		(void)poll(NULL, 0, WAIT_MS);
		result = look_once(dir, out, &again, why, why_size);
	}
	return result;
}
