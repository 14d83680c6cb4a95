/* aegis-stat: what a running instance counts, read from its shared segment. One file for each output; all print a snapshot
 * (view/snapshot.h); those that the control process prints too are in src/view.
 *
 * Process: aegis-stat, beside the daemon: it reads the segment, takes no lock and asks nobody.
 */
#ifndef AEGIS_TOOLS_STAT_H
#define AEGIS_TOOLS_STAT_H

#include <limits.h>
#include <stdio.h>

#include "view/snapshot.h"

/* The exit codes, as in the manual page. */
enum stat_exit { STAT_OK = 0, STAT_ARGUMENTS = 1, STAT_UNREADABLE = 3, STAT_NOT_RUNNING = 4 };

enum { STAT_WHY_SIZE = PATH_MAX + 256 };

/* For the outputs that go on: how long a period is, and after how many to stop (0 = never). */
struct stat_periods {
	uint64_t period_ns;
	uint64_t count;
};

/* Look at the instance of the runtime directory. STAT_OK and *out, or another exit code and *why, a line for the user. */
must_check enum stat_exit stat_look(const char *dir, struct snapshot **out, char *why, size_t why_size);

/* Each prints all of it; trouble shows in ferror(out). */
void stat_print_tables(const struct snapshot *snapshot, FILE *out);
/* doc/metrics.md: all metrics and close reasons. */
void stat_print_reference(FILE *out);
/* "     234 active |     12 err |      5 rej |    2.45 Gbps |     15.67 GB total": the rate is since the snapshot before,
 * which may be NULL. */
void stat_print_line(const struct snapshot *before, const struct snapshot *now, uint64_t elapsed_ns, FILE *out);

/* Print such a line each period, or fill the screen with tables, until it ends. Returns the exit code; has told why. */
must_check enum stat_exit stat_run_lines(const char *dir, const struct stat_periods *periods);
must_check enum stat_exit stat_run_screen(const char *dir, const struct stat_periods *periods);

#endif
