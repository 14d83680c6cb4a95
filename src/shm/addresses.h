/* The addresses of a server that was named by a host name, as the control process found them last.
 *
 * Process: written by the control process only; workers look at the sequence before they dial, and take the addresses over when it moved. A
 *          writer that is killed in the middle leaves an odd sequence: readers go on with what they have, and the next writer begins anew.
 * Memory:  in the shared segment, all zero = nothing known but what the settings' start found.
 */
#ifndef AEGIS_SHM_ADDRESSES_H
#define AEGIS_SHM_ADDRESSES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

enum { ADDRESSES_MOST = 8, ADDRESSES_WORDS = 4 /* of 8 bytes, for an IPv4 or IPv6 address with its port */ };

struct addresses {
	_Atomic uint32_t sequence; /* odd while being written */
	_Atomic uint32_t n;
	_Atomic uint64_t words[ADDRESSES_MOST][ADDRESSES_WORDS];
};

/* Write up to ADDRESSES_MOST; unix addresses have no place here. */
void addresses_publish(struct addresses *addresses, const struct addr *addrs, size_t n);

/* True, *n and *sequence, when there is something newer than *sequence (0 = nothing was read yet), whole. out has ADDRESSES_MOST places. */
must_check bool addresses_read(const struct addresses *addresses, uint32_t *sequence, struct addr *out, size_t *n);

static inline bool addresses_moved(const struct addresses *addresses, uint32_t sequence)
{
	return atomic_load_explicit(&addresses->sequence, memory_order_relaxed) != sequence;
}

#endif
