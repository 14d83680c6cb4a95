/* What the files of a generation share: generation.c (the whole, and what is said to its workers), generation_fork.c (a worker begins) and
 * generation_dying.c (its end, and who takes its place). See generation.h.
 */
#ifndef AEGIS_MASTER_GENERATION_OWN_H
#define AEGIS_MASTER_GENERATION_OWN_H

#include "master/generation.h"
#include "master/master.h"

/* Is there a process? */
static inline bool worker_process_lives(const struct worker_process *worker)
{
	return worker->state != WORKER_DEAD && worker->state != WORKER_EXITED;
}

/* 0 or a negative errno: then there is none. */
must_check int worker_process_fork(struct worker_process *worker);
/* As generation_tell_yield(), to one. */
void worker_process_tell_yield(struct worker_process *worker, uint32_t first, uint64_t listeners);
void worker_process_close_channel(struct worker_process *worker);
void worker_process_forget_owner(struct worker_process *worker);

/* Its process and its connections are gone: what it held is free. The generation may be gone after this. */
void worker_process_bury(struct worker_process *worker);
void worker_process_on_burial(struct loop_timer *timer);
void worker_process_on_respawn(struct loop_timer *timer);

/* What others handed over to a worker that is dead is for any that runs; it waits for one to come. */
void generation_pass_on_inboxes(struct master *master);

#endif
