/* Who has UDP sessions: the table of them (shm/flows.h) and, for each worker, the way into its inbox, which workers that are forked later
 * inherit (udp/transfer.h). All workers of a generation know each other, and those before them; a new master gets all of it.
 *
 * Process: the master. There is none of it until settings have a UDP listener.
 */
#ifndef AEGIS_MASTER_OWNERS_H
#define AEGIS_MASTER_OWNERS_H

#include "udp/transfer.h"

struct config;
struct handover;

struct orphan {
	int inbox;
	uint32_t heir; /* who is to empty it */
};

struct owners {
	struct flows flows;
	struct udp_owner *list; /* those that live */
	int *inboxes;           /* [n]: the other end of each; -1 = another master has it */
	uint32_t n;
	struct orphan *orphans; /* inboxes of the dead that were not empty */
	uint32_t n_orphans;
};

void owners_init(struct owners *owners);
void owners_close(struct owners *owners);

/* Make a worker of these settings one: its number, or 0 where there is no need or no way: then its sessions are not found by others, which
 * is logged. */
must_check uint32_t owners_add(struct owners *owners, const struct config *config);
/* It is dead. What is in its inbox waits for owners_orphan(). */
void owners_remove(struct owners *owners, uint32_t id);
/* An inbox of a dead worker that this one is to empty, and nobody else who lives was to; -1 = there is none. It stays ours, for the case
 * that he dies, too. */
int owners_orphan(struct owners *owners, uint32_t heir);
/* What a worker is to know; valid until the next change. */
void owners_post(const struct owners *owners, uint32_t id, struct udp_post *out);
/* In a forked child: keep what owner id needs; 0 = nothing. */
void owners_release_in_child(const struct owners *owners, uint32_t id);

/* For an upgrade. 0 or a negative errno. */
must_check int owners_hand_over(const struct owners *owners, struct handover *handover);
must_check int owners_adopt(struct owners *owners, const struct handover *handover);

#endif
