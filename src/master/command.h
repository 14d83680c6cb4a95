/* "aegis -s": speak to the running instance by its pid file and its shared segment. */
#ifndef AEGIS_MASTER_COMMAND_H
#define AEGIS_MASTER_COMMAND_H

#include "base/attr.h"

/* verb: reload, drain, stop, quit, reopen or upgrade. A reload and an upgrade are waited for, so that a refusal can be told. Returns the
 * exit status: 0, 1 (no such verb), 3 (refused), 4 (none runs). */
must_check int command_send(const char *runtime_dir, const char *verb);

#endif
