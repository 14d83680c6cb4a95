/* What this worker knows of the conditions of an upstream's servers (shm/condition.h), and how it finds out that they changed: the epoch of
 * the upstream says that something happened, and a time of its own when something changes without anyone's doing. What follows from them
 * is in upstream->entries (may it be chosen, with what weight) and in server->usability.
 *
 * Process: a worker. For the folder's own use.
 */
#ifndef AEGIS_UPSTREAM_CONDITIONS_H
#define AEGIS_UPSTREAM_CONDITIONS_H

#include "upstream/upstream.h"

/* After servers and entries. 0 or -ENOMEM. */
must_check int conditions_init(struct upstream *upstream, const struct upstream_places *places);
void conditions_fini(struct upstream *upstream);

/* Look at all servers. */
void conditions_refresh(struct upstream *upstream, uint64_t now_ns);

/* The same if something may have changed since the last look: one load where nothing did. */
static inline void conditions_notice(struct upstream *upstream, uint64_t now_ns)
{
	uint64_t epoch = atomic_load_explicit(upstream->rules.epoch, memory_order_acquire);
	if (unlikely(epoch != upstream->seen_epoch || now_ns >= upstream->due_ns))
		conditions_refresh(upstream, now_ns);
}

#endif
