#include "os/path_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

/* Of a step by itself; a link that another one replaces tells IN_ATTRIB at once, and IN_DELETE_SELF when nobody holds it any more. */
#define STEP_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF)
#define LINK_EVENTS (STEP_EVENTS | IN_ATTRIB)
/* In the folder of a file. IN_DELETE: a folder that somebody is in tells its own end late, but before it is removed it is emptied. */
#define FOLDER_EVENTS (STEP_EVENTS | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB)
/* In the folder of what is missing. */
#define MISSING_EVENTS (IN_CREATE | IN_MOVED_TO)

enum { LINKS_MOST = 40, TRIES_MOST = 3, EVENTS_BYTES = 16 * 1024 };

struct watched {
	int wd;
	uint32_t mask;
	char *path; /* that leads to it */
};

struct path_watch {
	int fd;
	struct watched *list; /* by wd */
	size_t n, size;
	int error;           /* out of memory: nothing is let go of */
	char last[PATH_MAX]; /* the path before */
	unsigned links;      /* that were followed on the way */
	size_t missing;      /* so long is its beginning that is not there; 0 = all of it is */
};

int path_watch_open(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

struct path_watch *path_watch_begin(int fd)
{
	struct path_watch *watch = calloc(1, sizeof *watch);
	if (watch)
		watch->fd = fd;
	return watch;
}

/* --- what is watched --------------------------------------------------------------------------------------------------------- */

/* The place of wd in the list, or where it belongs. */
static size_t place_of(const struct path_watch *watch, int wd)
{
	size_t low = 0, high = watch->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (watch->list[middle].wd < wd)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_listed(const struct path_watch *watch, size_t place, int wd)
{
	return place < watch->n && watch->list[place].wd == wd;
}

/* With IN_DONT_FOLLOW the path leads to it without a link at the end, and so it does without the flag. */
static int note_again(struct watched *watched, uint32_t mask, const char *path)
{
	if ((mask & IN_DONT_FOLLOW) && !(watched->mask & IN_DONT_FOLLOW)) {
		char *copy = strdup(path);
		if (!copy)
			return -ENOMEM;
		free(watched->path);
		watched->path = copy;
	}
	watched->mask |= mask;
	return 0;
}

static int note(struct path_watch *watch, int wd, uint32_t mask, const char *path)
{
	size_t place = place_of(watch, wd);
	if (is_listed(watch, place, wd))
		return note_again(&watch->list[place], mask, path);
	if (watch->n == watch->size) {
		size_t size = watch->size * 2 + 16;
		struct watched *list = realloc(watch->list, size * sizeof *list);
		if (!list)
			return -ENOMEM;
		watch->list = list;
		watch->size = size;
	}
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	memmove(&watch->list[place + 1], &watch->list[place], (watch->n - place) * sizeof *watch->list);
	watch->list[place] = (struct watched){ .wd = wd, .mask = mask, .path = copy };
	watch->n++;
	return 0;
}

static int set(struct path_watch *watch, const char *path, uint32_t mask)
{
	int wd = inotify_add_watch(watch->fd, path, mask | IN_MASK_ADD);
	if (wd < 0)
		return -errno;
	int error = note(watch, wd, mask, path);
	if (error)
		watch->error = error;
	return error;
}

/* The folder of a path: "/" of "/a", "." of "a". */
static bool folder_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');
	size_t length = !slash || slash == path ? 1 : (size_t)(slash - path);
	if (length >= size)
		return false;
	memcpy(out, slash ? path : ".", length);
	out[length] = '\0';
	return true;
}

/* --- the way to a file ------------------------------------------------------------------------------------------------------- */

static void walk(struct path_watch *watch, const char *path, bool is_file);

static void follow(struct path_watch *watch, const char *link, bool is_file)
{
	char target[PATH_MAX], folder[PATH_MAX], path[PATH_MAX];
	struct text text = text_of(path, sizeof path);
	ssize_t length = readlink(link, target, sizeof target - 1);
	if (length <= 0 || !folder_of(link, folder, sizeof folder) || watch->links++ >= LINKS_MOST)
		return;
	target[length] = '\0';
	if (target[0] == '/')
		text_add(&text, "%s", target);
	else
		text_add(&text, "%s/%s", folder, target);
	if (!text.cut)
		walk(watch, path, is_file);
}

/* Is the step there? Else its folder is watched, before it is looked for once more: it may come just now. */
static bool is_there(struct path_watch *watch, const char *step)
{
	char folder[PATH_MAX];
	struct stat st;
	if (lstat(step, &st) == 0 || errno != ENOENT)
		return true;
	return folder_of(step, folder, sizeof folder) && set(watch, folder, MISSING_EVENTS | IN_ONLYDIR) == 0 && lstat(step, &st) == 0;
}

/* A folder, or a link to one. False when it is not there. */
static bool take_step(struct path_watch *watch, const char *step)
{
	struct stat st;
	for (int tries = 0; tries < TRIES_MOST && is_there(watch, step); tries++) {
		(void)set(watch, step, STEP_EVENTS | IN_DONT_FOLLOW); /* a folder that may be passed through, but not read, stays unheard */
		if (lstat(step, &st) < 0)
			continue;
		if (S_ISLNK(st.st_mode)) {
			(void)set(watch, step, LINK_EVENTS | IN_DONT_FOLLOW);
			follow(watch, step, false);
		}
		return true;
	}
	return false;
}

/* From `from` on, as far as there are folders; the name at the end is one too, unless it is a file's. Returns how long the beginning is
 * that is missing, or 0. */
static size_t walk_from(struct path_watch *watch, const char *path, size_t from, bool is_file)
{
	char part[PATH_MAX];
	if (!text_copy(part, sizeof part, path))
		return 1;
	for (char *end = part + from; *end != '\0';) {
		end += strspn(end, "/");
		char *next = end + strcspn(end, "/");
		bool last = next[strspn(next, "/")] == '\0';
		if (*end == '\0' || (last && is_file))
			break;
		char kept = *next;
		*next = '\0';
		bool there = take_step(watch, part);
		*next = kept;
		if (!there)
			return (size_t)(next - part);
		end = next;
	}
	return 0;
}

static int watch_folder(struct path_watch *watch, const char *path)
{
	char folder[PATH_MAX];
	struct stat st;
	int error = folder_of(path, folder, sizeof folder) ? set(watch, folder, FOLDER_EVENTS | IN_ONLYDIR) : -ENAMETOOLONG;
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		follow(watch, path, true);
	return error == -ENOENT || error == -ENOTDIR ? 0 : error;
}

static void walk(struct path_watch *watch, const char *path, bool is_file)
{
	if (walk_from(watch, path, 0, is_file) == 0 && is_file)
		(void)watch_folder(watch, path);
}

/* So much of the path before, up to a slash, is the beginning of this one, too. */
static size_t common_length(const struct path_watch *watch, const char *path)
{
	size_t common = 0;
	for (size_t i = 0; path[i] != '\0' && path[i] == watch->last[i]; i++)
		if (path[i] == '/')
			common = i;
	return common;
}

int path_watch_add(struct path_watch *watch, const char *path)
{
	size_t common = common_length(watch, path);
	if (watch->missing > 0 && watch->missing <= common)
		return 0; /* where the way to the one before ended */
	bool same_folder = watch->last[0] != '\0' && !strchr(path + common + 1, '/') && !strchr(watch->last + common + 1, '/');
	if (!text_copy(watch->last, sizeof watch->last, path)) {
		watch->last[0] = '\0';
		return -ENAMETOOLONG;
	}
	watch->links = 0;
	watch->missing = walk_from(watch, path, common, true);
	if (watch->missing > 0)
		return watch->error;
	int error = watch_folder(watch, path);
	return same_folder ? watch->error : error; /* it was told of the one before */
}

/* --- what no longer is ------------------------------------------------------------------------------------------------------- */

/* One of the kernel's list: let go of it, or have it tell no more than is wanted. */
static void trim(struct path_watch *watch, int wd, uint32_t mask)
{
	size_t place = place_of(watch, wd);
	if (!is_listed(watch, place, wd)) {
		(void)inotify_rm_watch(watch->fd, wd);
		return;
	}
	const struct watched *watched = &watch->list[place];
	if ((mask & IN_ALL_EVENTS) != (watched->mask & IN_ALL_EVENTS))
		(void)inotify_add_watch(watch->fd, watched->path, watched->mask);
}

/* Where there is no /proc all of them stay, and more is heard than need be. */
static void trim_all(struct path_watch *watch)
{
	char path[64], line[512];
	(void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", watch->fd);
	FILE *list = fopen(path, "re");
	while (list && fgets(line, sizeof line, list)) {
		unsigned wd, mask;
		const char *at = strstr(line, " mask:");
		if (at && sscanf(line, "inotify wd:%x", &wd) == 1 && sscanf(at, " mask:%x", &mask) == 1)
			trim(watch, (int)wd, mask);
	}
	if (list)
		(void)fclose(list);
}

void path_watch_end(struct path_watch *watch)
{
	if (!watch->error)
		trim_all(watch);
	for (size_t i = 0; i < watch->n; i++)
		free(watch->list[i].path);
	free(watch->list);
	free(watch);
}

/* --- hearing ----------------------------------------------------------------------------------------------------------------- */

bool path_watch_heard(int fd)
{
	_Alignas(struct inotify_event) char bytes[EVENTS_BYTES];
	bool heard = false;
	ssize_t count;
	while ((count = read(fd, bytes, sizeof bytes)) > 0)
		for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= count;) {
			const struct inotify_event *event = (const struct inotify_event *)(const void *)(bytes + at);
			heard = heard || (event->mask & ~(uint32_t)(IN_IGNORED | IN_ISDIR)) != 0; /* IN_IGNORED: a watch is no more */
			at += (ssize_t)(sizeof *event + event->len);
		}
	return heard;
}
