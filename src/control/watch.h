/* Hears when files of certificates change, also in folders that only root may enter, and tells of it when a number of changes is over.
 *
 * Process: the control process. What is watched the master's child says, with the rights that Aegis was started with, before it reads the
 *          files (master/keys.h, os/path_watch.h); what is heard needs none. What came while nobody listened is heard later.
 */
#ifndef AEGIS_CONTROL_WATCH_H
#define AEGIS_CONTROL_WATCH_H

#include "os/loop.h"

struct watch;

/* fd: of os/path_watch.h, which becomes its own on success. changed is called some time after the last of a number of changes. missed:
 * somebody else may have heard of changes and not told, so that it is called once in any case. 0 and *out, or a negative errno. */
must_check int watch_new(struct loop *loop, int fd, bool missed, void (*changed)(void *arg), void *arg, struct watch **out);
/* NULL is fine. */
void watch_free(struct watch *watch);

#endif
