/* A reload without new workers: where all that changed is what workers read in shared memory (RELOAD_IN_PLACE in the option table), the
 * rows are written anew and the generation goes on with the new settings, those of workers that are forked later included.
 *
 * Process: the master. Nothing in it can fail half-way.
 */
#ifndef AEGIS_MASTER_IN_PLACE_H
#define AEGIS_MASTER_IN_PLACE_H

#include "master/master.h"

/* True when that was enough by the plan: config is taken over, and note says what changed, cut off where it is long. False, and nothing is
 * changed, when new workers are needed; settings that are the same as before get them, too. */
must_check bool in_place_apply(struct master *master, struct config *config, const struct plan *plan, char *note, size_t note_size);

#endif
