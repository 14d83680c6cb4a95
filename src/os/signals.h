/* Signals as a descriptor: nothing runs in a handler. */
#ifndef AEGIS_OS_SIGNALS_H
#define AEGIS_OS_SIGNALS_H

#include "base/attr.h"

/* Ignore SIGPIPE, block the signals (a 0-terminated list) and return a non-blocking, CLOEXEC descriptor that tells of them, or a negative
 * errno. */
must_check int signals_open(const int *signals);
/* The next signal number, or 0 when none waits. *sender is its pid where known. */
int signals_next(int fd, int *sender);
/* In a worker: ignore what is meant for the master, whatever the terminal sends; default for the rest; unblock all. */
void signals_for_child(void);

#endif
