/* From one generation to the next: start and reload are the same steps.
 *
 *   load -> preflight (names, start tests) -> bind what is new -> fork -> all READY, new servers checked -> switch: listen, publish, go;
 * the old one drains
 *
 * Process: the master; at most one is under way. Each step that waits has a deadline. Any failure before the switch takes back all that
 * was done, and the running generation never noticed.
 */
#ifndef AEGIS_MASTER_TRANSITION_H
#define AEGIS_MASTER_TRANSITION_H

#include "master/master.h"

/* Begin with settings that were loaded (taken over). The end is told by master_transition_done(), perhaps before this returns. */
void transition_begin(struct master *master, struct config *config);
void transition_free(struct transition *transition);

/* What went wrong, in one line; "" when nothing did. */
const char *transition_note(const struct transition *transition);

/* Write what is in force to the segment. */
void transition_publish(struct master *master, const struct generation *generation);

/* From the generation that is starting. */
void transition_worker_ready(struct transition *transition);
/* Switch over when all is ready, and nobody is left who would shut the sockets down. */
void transition_try_switch(struct transition *transition);
void transition_worker_died(struct transition *transition);
/* From the control process in its trial: a health check of the settings cannot be made here. */
void transition_control_refused(struct transition *transition);

/* Look for one dead worker of the generation that is starting. True when there was one: the transition is over then. NULL is fine. */
bool transition_reap_one(struct transition *transition);

/* The generation to come, where the others yield to it already; or NULL. */
const struct generation *transition_reader(const struct transition *transition);

/* Once a second: say what is waited for. NULL is fine. */
void transition_tick(struct transition *transition);

/* Is the listener needed by the generation to come? */
bool transition_needs(const struct transition *transition, const struct listener *listener);

/* The new generation runs. */
bool transition_is_switched(const struct transition *transition);
/* Give up: a stop or a drain came in between. */
void transition_cancel(struct transition *transition);

/* Descriptors that a forked child must not keep. */
void transition_release_in_child(const struct transition *transition);

#endif
