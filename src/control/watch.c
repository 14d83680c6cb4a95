#include "control/watch.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "tls/files.h"

/* Certificate and key are two files: both shall be there. */
#define QUIET_NS (500 * NS_PER_MS)
#define MOST_NS (5 * NS_PER_S)
#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB)

enum { NEW_S = 60, EVENTS_BYTES = 16 * 1024 };

struct watch {
	int fd;
	const struct config *config;
	bool at_once; /* something was new when the watch began */
	struct loop *loop;
	struct loop_io io;
	struct loop_timer quiet;
	uint64_t since_ns; /* the first change that was not told; 0 = none */
	void (*changed)(void *arg);
	void *arg;
};

/* --- what is watched --------------------------------------------------------------------------------------------------------- */

/* The folder of a file is heard of once, however many of the files are in it. */
static void add_folder(struct watch *watch, const char *path, bool told)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	if (!slash || length >= sizeof folder)
		return;
	(void)snprintf(folder, sizeof folder, "%.*s", length > 0 ? (int)length : 1, path);
	if (inotify_add_watch(watch->fd, folder, EVENTS | IN_ONLYDIR) < 0 && told)
		log_warn("cannot watch %s: %s; what changes there is taken over at a reload", folder, strerror(errno));
}

/* A folder on the way that is a symbolic link may be made to lead elsewhere. */
static void add_links(struct watch *watch, const char *path)
{
	char part[PATH_MAX];
	struct stat st;

	if (!text_copy(part, sizeof part, path))
		return;
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (lstat(part, &st) == 0 && S_ISLNK(st.st_mode))
			add_folder(watch, part, false);
		*slash = '/';
	}
}

static void add_file(struct watch *watch, const struct tls_file *file, bool told)
{
	char real[PATH_MAX];
	struct stat st;

	add_folder(watch, file->path, told);
	add_links(watch, file->path);
	if (realpath(file->path, real) && strcmp(real, file->path) != 0)
		add_folder(watch, real, false);
	if (stat(file->path, &st) == 0 && time(NULL) - st.st_ctime < NEW_S)
		watch->at_once = true;
}

/* Links may lead elsewhere than before, as far as that can be seen without the rights that the watch began with. */
static void follow_links(struct watch *watch)
{
	struct tls_files files;

	if (tls_files_list(watch->config, &files))
		return;
	for (size_t i = 0; i < files.n; i++)
		add_file(watch, &files.files[i], false);
	tls_files_free(&files);
}

struct watch *watch_open(const struct config *config)
{
	struct tls_files files;
	struct watch *watch;

	if (!config->tls.watch || tls_files_list(config, &files))
		return NULL;
	watch = files.n > 0 ? calloc(1, sizeof *watch) : NULL;
	if (watch) {
		watch->config = config;
		watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (watch->fd < 0)
			log_warn("cannot watch the files of certificates: %s; what changes is taken over at a reload", strerror(errno));
	}
	for (size_t i = 0; watch && watch->fd >= 0 && i < files.n; i++)
		add_file(watch, &files.files[i], true);
	tls_files_free(&files);
	return watch;
}

/* --- hearing ----------------------------------------------------------------------------------------------------------------- */

static void on_quiet(struct loop_timer *timer)
{
	struct watch *watch = container_of(timer, struct watch, quiet);
	watch->since_ns = 0;
	follow_links(watch);
	watch->changed(watch->arg);
}

static void wait_for_quiet(struct watch *watch)
{
	uint64_t now_ns = loop_now_ns(watch->loop);
	if (watch->since_ns == 0)
		watch->since_ns = now_ns;
	if (loop_timer_active(&watch->quiet) && now_ns - watch->since_ns > MOST_NS)
		return; /* where there is no end of changes what there is has to do */
	loop_timer_start(watch->loop, &watch->quiet, QUIET_NS);
}

static void on_events(struct loop_io *io, int events)
{
	struct watch *watch = container_of(io, struct watch, io);
	_Alignas(struct inotify_event) char bytes[EVENTS_BYTES];
	bool any = false;
	(void)events;
	while (read(watch->fd, bytes, sizeof bytes) > 0)
		any = true; /* whatever it is: to look at the files costs little, and says whether they changed */
	if (any)
		wait_for_quiet(watch);
}

int watch_start(struct watch *watch, struct loop *loop, void (*changed)(void *arg), void *arg)
{
	watch->loop = loop;
	watch->changed = changed;
	watch->arg = arg;
	loop_io_init(&watch->io, on_events);
	loop_timer_init(&watch->quiet, on_quiet);
	if (watch->fd < 0)
		return 0;
	int error = loop_io_set(loop, &watch->io, watch->fd, LOOP_READ);
	if (!error && watch->at_once)
		wait_for_quiet(watch);
	return error;
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	if (watch->loop) {
		loop_timer_stop(watch->loop, &watch->quiet);
		loop_io_stop(watch->loop, &watch->io);
	}
	if (watch->fd >= 0)
		close(watch->fd);
	free(watch);
}
