/* systemd: readiness, status and watchdog through $NOTIFY_SOCKET (sd_notify(3) protocol), sockets through $LISTEN_FDS
 * (sd_listen_fds(3) protocol). Quiet where systemd is not there. */
#ifndef AEGIS_OS_NOTIFY_H
#define AEGIS_OS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

/* Read the environment once, at start, and remove the variables from it. */
void notify_init(void);
bool notify_enabled(void);

/* Send newline-separated assignments: "READY=1\nSTATUS=...". Never blocks. */
void notify_send(const char *format, ...) printf_like(1, 2);

/* Nanoseconds between WATCHDOG=1 messages (half of WATCHDOG_USEC when meant for this pid), 0 = none wanted. */
uint64_t notify_watchdog_ns(void);

/* The sockets passed by systemd. The n-th descriptor with that FileDescriptorName (from 0), or -ENOENT. All are CLOEXEC. */
must_check int notify_socket(const char *name, int n);
/* How many were passed. */
int notify_socket_count(void);

/* In a child that becomes another program in our place: put the variables back, for its own pid, and let it inherit the sockets. 0 or a
 * negative errno. */
must_check int notify_export(void);

/* Close them all, and say no more: in a child. */
void notify_release_in_child(void);

#endif
