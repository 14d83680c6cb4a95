/* Facts about processes. */
#ifndef AEGIS_OS_PROCESS_H
#define AEGIS_OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

/* The start time of a process in clock ticks since boot (field 22 of /proc/PID/stat): with the pid it names a process for
 * good. 0 when there is no such process. */
uint64_t process_start_ticks(pid_t pid);

/* What the kernel calls this boot of the machine (a UUID of 36 letters); "" where it does not say. Returns out. */
char *process_boot_id(char *out, size_t size);

/* Where the shell found the program that it started as argument0: an absolute path, malloc'd, through whatever links; NULL when it cannot
 * be told. */
char *process_program(const char *argument0);

/* Is there no such process, or one that has ended and that nobody waited for? In a container without an init that is all that orphans
 * come to. */
bool process_has_ended(pid_t pid);

/* Is there a process of that number, not our own, that calls itself aegis? */
bool process_is_aegis(pid_t pid);

/* Lock a pid file and write our pid into it: one master per runtime directory. The descriptor (keep it open; the lock goes with it), or
 * -EEXIST with *running the pid of who holds it, or another negative errno. Never follows a symbolic link. */
must_check int process_lock_pid_file(const char *path, pid_t *running);

/* Write our pid into a pid file that was locked, by us or by who handed the descriptor over. 0 or a negative errno. */
must_check int process_write_pid(int fd);

/* The pid of the running instance by its locked pid file; -ENOENT when none runs, or another negative errno. */
must_check int process_running(const char *path);

/* Make a directory and its missing parents, mode 0755 and owned by us. 0 or a negative errno. With `private` the last one must
 * be ours and is made 0700 (-EPERM where it belongs to someone else or is a symbolic link). */
must_check int process_make_directory(const char *path, int private);

#endif
