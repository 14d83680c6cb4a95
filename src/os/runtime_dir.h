/* Where a running instance keeps its files when nothing says otherwise: the pid file, the shared segment, the admin socket. */
#ifndef AEGIS_OS_RUNTIME_DIR_H
#define AEGIS_OS_RUNTIME_DIR_H

#include "base/attr.h"

/* /run/aegis for root, else $XDG_RUNTIME_DIR/aegis, else /tmp/aegis-UID. Cut where it does not fit; a relative
 * $XDG_RUNTIME_DIR is passed over, as its specification asks. Returns out. */
char *runtime_dir_default(char *out, size_t size);

#endif
