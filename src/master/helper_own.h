/* What the files of the helper share: helper_process.c (one process: fork it, tell it, end it), helper_orders.c (what its clients want of
 * the master), helper_replace.c (one that died), and helper.c, the changes of hands. See helper.h.
 */
#ifndef AEGIS_MASTER_HELPER_OWN_H
#define AEGIS_MASTER_HELPER_OWN_H

#include "control/control.h"
#include "master/helper.h"
#include "master/master.h"
#include "os/channel.h"

static inline struct helper *helper_of(const struct helper_process *process)
{
	return &process->master->helper;
}

/* It was told to make way, and only ends what its clients wait for. */
static inline bool helper_is_retired(const struct helper_process *process)
{
	const struct helper *helper = helper_of(process);
	return process != &helper->running && process != &helper->next;
}

/* For whom one is forked: the settings, their rows, and what their checks by TLS need (vault_excerpt()). */
struct helper_ground {
	const struct config *config;
	const struct places *places;
	int excerpt; /* -1 = nothing */
	int watch;   /* the same: of the files of certificates */
};

static inline struct helper_ground helper_ground_of(const struct generation *generation)
{
	return (struct helper_ground){
		.config = generation->config, .places = &generation->places, .excerpt = generation->excerpt, .watch = generation->watch
	};
}

/* --- one process (helper_process.c) ---------------------------------------------------------------------------------------- */

/* Fork one where there is none. 0 or a negative errno. */
must_check int helper_fork(struct helper_process *process, const struct helper_ground *ground, bool trial);
/* Kill it, and wait until it is gone: the next one may begin only then. */
void helper_end(struct helper_process *process);
/* It is gone. */
void helper_forget(struct helper_process *process);
/* The same process in another place. */
void helper_move(struct helper_process *from, struct helper_process *to);
/* Where there is none, nothing is told; and that one does not listen is logged. */
void helper_tell(struct helper_process *process, enum control_message kind, int fd);
void helper_tell_more(struct helper_process *process, const struct channel_message *message, int fd);

/* --- orders (helper_orders.c) ---------------------------------------------------------------------------------------------- */

must_check bool helper_is_order(enum control_message kind);
/* Carry it out. The process that it came from may be another one after that. */
void helper_take_order(struct master *master, const struct asker *asker, uint32_t kind, uint64_t value_ns);
/* In the midst of changing hands it is not the time for another order: it is taken from the loop. */
void helper_defer_order(struct helper_process *process, const struct channel_message *message);
void helper_on_take_deferred(struct loop_timer *timer);

/* --- dying (helper_replace.c) ---------------------------------------------------------------------------------------------- */

/* One to run, later. */
void helper_try_again(struct helper *helper, uint64_t after_ns);
void helper_on_respawn(struct loop_timer *timer);

/* --- changes of hands (helper.c) ------------------------------------------------------------------------------------------- */

/* The trial is over, however it went. The transition may be over after that. */
void helper_end_trial(struct helper *helper);

#endif
