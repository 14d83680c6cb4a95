/* Hears when the files at some paths may have changed: written, replaced, taken away and made again, or because a folder or a symbolic link
 * on the way to them was. What it hears is no more than that; who hears it looks for himself.
 *
 * Watched (inotify) is each step of a path by itself, so that it is heard of when it is renamed or removed, and a symbolic link's target
 * in the same way; of the folder of the file, and of that where a link leads in the end, whatever happens in it. Where a step is missing,
 * its folder is watched until it is there.
 *
 * Process: whoever opens it hands the descriptor on. Who sets what is watched needs the right to read the folders, and is one at a time;
 *          who hears needs none. Watches live as long as the descriptor, whoever set them. Set them before the files are read: then
 *          nothing that happens after is missed.
 * Blind:   to a file system that is mounted over a folder on the way, and to what another machine does on a network file system.
 */
#ifndef AEGIS_OS_PATH_WATCH_H
#define AEGIS_OS_PATH_WATCH_H

#include <stdbool.h>

#include "base/attr.h"

struct path_watch;

/* A descriptor (CLOEXEC, not blocking), readable when there is something to hear; or a negative errno. */
must_check int path_watch_open(void);

/* Begin to say what is watched. NULL: out of memory. */
must_check struct path_watch *path_watch_begin(int fd);
/* The next path. 0, or a negative errno: its folder cannot be watched. Of one without a folder that is there: 0. One path after another in
 * the same folder costs nothing. */
must_check int path_watch_add(struct path_watch *watch, const char *path);
/* That was all: what was watched before and no longer is let go of. Frees. */
void path_watch_end(struct path_watch *watch);

/* Take all that there is to hear. True when something may have changed. */
must_check bool path_watch_heard(int fd);

#endif
