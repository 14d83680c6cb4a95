/* The control process (control/control.h) as the master sees it: forked, watched, replaced.
 *
 * Process: the master. There is one from the start until the last worker has ended. While a transition is under way there is a second one
 * in its trial, with the settings to come. At the switch the old one is retired before the new one is told GO: exactly one writes at a
 * time. It then only ends what its clients wait for.
 *
 * States:  none -> (prepare) TRIAL -> (switch) RUNNING -> (switch) RETIRED -> none; one that died or stands still while RUNNING is
 * replaced, at once or, when it keeps dying, ever later. Nothing waits for a trial longer than two seconds, nor for one to retire longer
 * than half a second: then it is killed.
 */
#ifndef AEGIS_MASTER_HELPER_H
#define AEGIS_MASTER_HELPER_H

#include "os/loop.h"

struct generation;
struct master;

struct helper_process {
	struct master *master;
	pid_t pid; /* 0 = none */
	int channel;
	struct loop_io io;
	uint64_t forked_ns;
	uint64_t heard_ns; /* when it last said something */
};

enum { HELPER_RETIRED_MOST = 4, HELPER_DEFERRED_MOST = 16 };

/* Who gave an order, to be answered perhaps after another one has taken over. pid 0: nobody. */
struct asker {
	pid_t pid;
	uint32_t number;
};

struct deferred_order {
	struct asker asker;
	uint32_t kind; /* enum control_message */
	uint64_t value_ns;
};

struct helper {
	struct helper_process running, next;
	struct helper_process retired[HELPER_RETIRED_MOST];
	bool resting;                                         /* the running one was told to */
	struct deferred_order deferred[HELPER_DEFERRED_MOST]; /* orders that came while hands changed */
	size_t n_deferred;
	struct loop_timer take_deferred;
	bool awaited; /* the trial of next is not over */
	struct loop_timer trial;
	struct loop_timer respawn;
	uint32_t quick_deaths; /* in a row */
};

void helper_init(struct helper *helper, struct master *master);

/* A transition begins the trial of one for these settings, where they need one. That this failed is no reason to give the settings up: it
 * was logged, and is tried again after the switch. */
void helper_prepare(struct helper *helper, const struct generation *generation);
/* The trial is over, or there is none. When that changes, transition_try_switch() is called. */
must_check bool helper_is_prepared(const struct helper *helper);
/* The transition is given up: the running one goes on. */
void helper_abandon(struct helper *helper);

/* The switch: first the running one retires, so that the rows are nobody's; then, when master->running is the new generation, the next one
 * goes to work. */
void helper_end_running(struct helper *helper);
void helper_go(struct helper *helper);

/* When the settings of master->running changed in place: after helper_end_running(), one that has them. */
void helper_renew(struct helper *helper);

/* No server gets new connections any more: there is nothing to check, and nothing to follow. */
void helper_rest(struct helper *helper);
/* None any more, at the end of the master: it may end in peace, within a second. */
void helper_stop(struct helper *helper);

/* Answer an order: 0 or a negative errno, and a JSON object. */
void helper_answer(struct helper *helper, const struct asker *asker, int error, const char *text);

/* Look for one that died, and replace it. True when there was one. */
must_check bool helper_reap_one(struct helper *helper);
/* Once a second: one that stands still is killed. */
void helper_tick(struct helper *helper);

/* The log was opened again; the access log was, that of the running process or of the one in its trial. */
void helper_send_log(struct helper *helper, int fd);
void helper_send_access_log(struct helper *helper, bool next, int fd);
/* The generation that runs has other certificates: checks speak TLS by them from now on. */
void helper_renew_certificates(struct helper *helper);
/* Let a forked child not keep the master's ends of the channels. */
void helper_release_in_child(const struct helper *helper);

#endif
