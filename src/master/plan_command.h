/* `aegis -p`: the plan of a reload of the running instance, or of a start where none runs.
 *
 * Process: one of its own, beside the instance; it reads what that shows in its runtime directory and asks nobody.
 */
#ifndef AEGIS_MASTER_PLAN_COMMAND_H
#define AEGIS_MASTER_PLAN_COMMAND_H

#include "config/config.h"

/* Print the plan. given is the command line: what it does not say (file NULL, no overrides, no -r) is as the running instance was started,
 * else as a start without it would have it, with default_file. Returns the exit status: 0 nothing is in the way, 1 invalid settings, 2 it
 * would fail, 4 there is no instance to compare with, and nothing is in the way of a start. */
must_check int plan_command(const struct config_source *given, const char *default_file, bool json);

#endif
