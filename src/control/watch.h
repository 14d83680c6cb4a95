/* Hears when files of certificates change, also in folders that only root may enter.
 *
 * Process: the control process. It opens the watch with the rights that it was forked with, and reads nothing: that is the master's child's
 *          (master/keys.h). What is watched is the folder of each file, under the name in the settings and where a symbolic link leads, so
 *          that a file that is replaced by a rename, and a link that is set anew, are heard of as well as one that is written; and
 *          that of each folder on the way that is such a link.
 */
#ifndef AEGIS_CONTROL_WATCH_H
#define AEGIS_CONTROL_WATCH_H

#include "config/config.h"
#include "os/loop.h"

struct watch;

/* With the rights to look into the folders. NULL where there is nothing to watch, or tls.watch is false; what cannot be watched is
 * logged. */
struct watch *watch_open(const struct config *config);
/* changed is called some time after the last of a number of changes; at once where a file is so new that it may have changed before the
 * watch was there. 0 or a negative errno. */
must_check int watch_start(struct watch *watch, struct loop *loop, void (*changed)(void *arg), void *arg);
/* NULL is fine. */
void watch_free(struct watch *watch);

#endif
