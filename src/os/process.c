#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *read_stat(pid_t pid, char *line, size_t size)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, line, size - 1);
	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return NULL;
	line[length] = '\0';
	return line;
}

uint64_t process_start_ticks(pid_t pid)
{
	char line[1024];
	if (!read_stat(pid, line, sizeof line))
		return 0;
	/* The second field is the name in brackets and may hold anything, brackets and spaces too: count from the last one. */
	char *at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

char *process_boot_id(char *out, size_t size)
{
	ssize_t length = -1;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		length = read(fd, out, size - 1);
		close(fd);
	}
	out[length > 0 ? length : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return out;
}

/* The pid in a pid file, or 0. */
static pid_t read_pid(int fd)
{
	char line[32];
	ssize_t length = pread(fd, line, sizeof line - 1, 0);
	if (length <= 0)
		return 0;
	line[length] = '\0';
	char *end;
	errno = 0;
	long pid = strtol(line, &end, 10);
	if (errno || end == line || *end != '\n' || pid <= 0 || pid > INT_MAX)
		return 0;
	return (pid_t)pid;
}

/* Open file description locks: unlike POSIX ones they do not vanish when another descriptor of the file is closed, and
 * unlike flock() they can be looked at without being taken. */
static int lock_file(int fd, int command, struct flock *lock)
{
	*lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int result;
	do
		result = fcntl(fd, command, lock);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static bool same_file(int fd, const char *path)
{
	struct stat opened, named;
	return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Open the pid file and lock it: the descriptor, -EEXIST with *running, -ESTALE when it was removed under our hands, or another
 * negative errno. */
static int open_and_lock(const char *path, pid_t *running)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd < 0)
		return -errno;
	int err;
	struct stat file;
	struct flock lock;
	if (fstat(fd, &file) < 0) {
		err = -errno;
		goto fail;
	}
	if (!S_ISREG(file.st_mode)) {
		err = -EINVAL;
		goto fail;
	}
	err = lock_file(fd, F_OFD_SETLK, &lock);
	if (err == -EAGAIN || err == -EACCES) {
		*running = read_pid(fd);
		err = -EEXIST;
	}
	if (err)
		goto fail;
	if (!same_file(fd, path)) { /* the one before us removed it after we had opened it: a lock on it keeps nobody out */
		err = -ESTALE;
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return err;
}

int process_lock_pid_file(const char *path, pid_t *running)
{
	int fd;
	int attempts = 0;
	do
		fd = open_and_lock(path, running);
	while (fd == -ESTALE && ++attempts < 100);
	if (fd < 0)
		return fd;
	int err = process_write_pid(fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int process_write_pid(int fd)
{
	char line[32];
	int length = snprintf(line, sizeof line, "%d\n", (int)getpid());
	/* Written first and cut afterwards: a reader finds the old pid or the new one on the first line, never none. */
	ssize_t written = pwrite(fd, line, (size_t)length, 0);
	int err = written == length ? 0 : written < 0 ? -errno : -ENOSPC;
	if (!err && (ftruncate(fd, length) < 0 || fchmod(fd, 0644) < 0))
		err = -errno;
	return err;
}

int process_running(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	struct flock lock;
	int result = lock_file(fd, F_OFD_GETLK, &lock);
	if (result == 0 && lock.l_type == F_UNLCK)
		result = -ENOENT;
	if (result == 0) {
		result = (int)read_pid(fd);
		if (result == 0)
			result = -EAGAIN; /* locked, and about to be written */
	}
	close(fd);
	return result;
}

/* Make one directory with the mode whatever the umask, or leave the one that is there. */
static int make_one(const char *path, mode_t mode)
{
	if (mkdir(path, 0700) == 0)
		return chmod(path, mode) < 0 ? -errno : 0;
	if (errno != EEXIST)
		return -errno;
	struct stat found;
	if (stat(path, &found) < 0)
		return -errno;
	return S_ISDIR(found.st_mode) ? 0 : -ENOTDIR;
}

/* The last directory of a private path: ours, no symbolic link, 0700. */
static int make_private(const char *path)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	struct stat found;
	if (lstat(path, &found) < 0)
		return -errno;
	if (S_ISLNK(found.st_mode))
		return -EPERM;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == EACCES ? -EPERM : -errno;
	int err = 0;
	if (fstat(fd, &found) < 0)
		err = -errno;
	else if (found.st_uid != geteuid())
		err = -EPERM;
	else if (fchmod(fd, 0700) < 0)
		err = -errno;
	close(fd);
	return err;
}

int process_make_directory(const char *path, int private)
{
	char parent[PATH_MAX];
	size_t length = strlen(path);
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length == 0 || length >= sizeof parent)
		return length ? -ENAMETOOLONG : -ENOENT;
	memcpy(parent, path, length);
	parent[length] = '\0';
	for (size_t i = 1; i < length; i++) {
		if (parent[i] != '/')
			continue;
		parent[i] = '\0';
		int err = make_one(parent, 0755);
		if (err)
			return err;
		parent[i] = '/';
	}
	return private ? make_private(parent) : make_one(parent, 0755);
}

static char *absolute(const char *directory, size_t length, const char *name)
{
	char here[PATH_MAX], *path;
	if (length > 0 && directory[0] == '/')
		return asprintf(&path, "%.*s/%s", (int)length, directory, name) < 0 ? NULL : path;
	if (!getcwd(here, sizeof here))
		return NULL;
	if (length == 0)
		return asprintf(&path, "%s/%s", here, name) < 0 ? NULL : path;
	return asprintf(&path, "%s/%.*s/%s", here, (int)length, directory, name) < 0 ? NULL : path;
}

char *process_program(const char *argument0)
{
	if (argument0[0] == '/')
		return strdup(argument0);
	if (strchr(argument0, '/'))
		return absolute("", 0, argument0);
	for (const char *at = getenv("PATH"); at && *argument0; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
		char *path = absolute(at, strcspn(at, ":"), argument0);
		if (path && access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

static bool is_dead(char state)
{
	return state == 'Z' || state == 'X'; /* dead, and only not waited for yet */
}

bool process_has_ended(pid_t pid)
{
	char line[1024];
	if (kill(pid, 0) < 0 && errno == ESRCH)
		return true;
	const char *end = read_stat(pid, line, sizeof line) ? strrchr(line, ')') : NULL;
	return end && end[1] == ' ' && is_dead(end[2]);
}

bool process_is_aegis(pid_t pid)
{
	char line[64];
	if (pid <= 0 || pid == getpid() || !read_stat(pid, line, sizeof line))
		return false;
	const char *state = strstr(line, " (aegis) ");
	return state && !is_dead(state[9]);
}
