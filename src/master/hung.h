/* Children of the master that it has killed and does not wait for. Most end in that moment. One that hangs in the kernel, since a disk or a
 * server of files does not answer, ends when that does, and what it was for goes on without it.
 *
 * Process: the master, which reaps them as it does the others.
 */
#ifndef AEGIS_MASTER_HUNG_H
#define AEGIS_MASTER_HUNG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

enum { HUNG_MOST = 16, HUNG_BEARABLE = 4 };

struct hung {
	struct {
		pid_t pid;
		uint64_t since_ns;
	} children[HUNG_MOST];
	uint32_t n;
};

/* Kill it, and reap it now or later. It may have ended already. */
void hung_end(struct hung *hung, pid_t pid, uint64_t now_ns);
/* Look for one that has ended. True when there was one. */
must_check bool hung_reap_one(struct hung *hung);
/* Do so many hang that one more is not to be started? */
must_check bool hung_too_many(const struct hung *hung, uint64_t now_ns);
/* At the end: give those that were just killed a moment, and say who stays behind. */
void hung_fini(struct hung *hung);

#endif
