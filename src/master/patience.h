/* Files on a disk, or a server of files, that does not answer: who reads one hangs in the kernel, where not even Ctrl-C may reach it. So a
 * child reads them, and who waits for it says what does not answer, gives up in the end, and can be ended at any time.
 *
 * Process: `aegis -t`, `-T`, `-p`, all of whose work the child does; `aegis -s` and the master, for which it only tries whether settings
 * can be read. What hangs is left behind (hung.h), and has nothing open that somebody else waits for.
 */
#ifndef AEGIS_MASTER_PATIENCE_H
#define AEGIS_MASTER_PATIENCE_H

#include "base/clock.h"
#include "base/file_at.h"
#include "config/config.h"
#include "master/hung.h"

/* For one file. */
#define PATIENCE_NS (30 * NS_PER_S)

/* Let a child do it, and pass on what it writes to its standard output and error. What it returned (0 to 255), or -ETIMEDOUT when a file
 * did not answer within PATIENCE_NS, or -ECHILD when the child was killed, with an error added. Without a child (no memory, no process
 * left) it is done here. */
must_check int patience_do(int (*fn)(void *arg, struct file_at *at), void *arg, struct config_errors *errors);

/* Can the settings be read, with all that they include? 0, whatever they are worth, or -ETIMEDOUT with an error added when a file did not
 * answer within most_ns. */
must_check int patience_try(const struct config_source *source, uint64_t most_ns, struct hung *hung, struct config_errors *errors);

#endif
