/* Why a kernel refuses io_uring, in words. */
#ifndef AEGIS_OS_RING_REFUSAL_H
#define AEGIS_OS_RING_REFUSAL_H

#include <stddef.h>

/* What to tell when setting up failed with error (a positive errno). disabled is kernel.io_uring_disabled, -1 where there is none;
 * release is the kernel's. */
void ring_refusal(int error, int disabled, const char *release, char *why, size_t why_size);

/* The same for the kernel that runs here. */
void ring_refusal_here(int error, char *why, size_t why_size);

#endif
