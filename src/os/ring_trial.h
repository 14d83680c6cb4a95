/* Does a new ring do what it must? Some kernels know an operation by name and refuse it in use. */
#ifndef AEGIS_OS_RING_TRIAL_H
#define AEGIS_OS_RING_TRIAL_H

#include <stdbool.h>

#include "os/ring.h"

/* Send, receive, accept, cancel and close something, which takes well under a millisecond. The ring is as before, its sums excepted. False,
 * and the reason in why, when one of them fails or nothing is heard of it. */
must_check bool ring_trial(struct ring *ring, char *why, size_t why_size);

#endif
