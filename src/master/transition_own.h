/* What the files of a transition share, each with some of its steps: transition_preflight.c, transition_open.c, transition.c (fork, wait
 * for all) and transition_switch.c. See transition.h.
 */
#ifndef AEGIS_MASTER_TRANSITION_OWN_H
#define AEGIS_MASTER_TRANSITION_OWN_H

#include "base/log.h"
#include "master/keys.h"
#include "master/master.h"
#include "master/preflight.h"
#include "master/transition.h"

/* A socket set that this transition made or changed, to be taken back when it fails. */
struct change {
	struct listener *listener;
	bool made;
	uint32_t fds_before; /* otherwise */
};

struct transition {
	struct master *master;
	struct config *config;       /* until the generation owns it */
	struct listener **listeners; /* the same */
	struct places places;        /* the same */
	struct generation *generation;
	struct change *changes;
	size_t n_changes;
	struct preflight preflight;
	struct loop_io preflight_io;
	struct keys keys; /* certificates for the generation to come */
	struct loop_io keys_io;
	bool preflight_over, keys_over;
	bool keys_again; /* they are read a second time */
	struct vault_findings certificates;
	struct loop_timer deadline;
	bool log_changed;
	bool held;                  /* those that drain, or will, were told to read no more datagrams of listeners that stay */
	bool switched, handed_over; /* to the new generation; and the old one was told to drain */
	uint32_t replaced;          /* the generation that was switched from, while it may still accept; 0 = none */
	char note[SHM_NOTE_SIZE];
};

/* NULL where nothing runs yet. */
static inline const struct config *transition_running_config(const struct transition *transition)
{
	return transition->master->running ? transition->master->running->config : NULL;
}

/* Before its settings are the generation's. */
static inline uint32_t transition_worker_count(const struct transition *transition)
{
	return master_worker_count(transition->master, transition->config);
}

/* Before the switch: all that was done is taken back, and it is over with this note. It may be freed after that. */
void transition_fail(struct transition *transition, int status, const char *format, ...) printf_like(3, 4);

/* Look names up and read certificates, where the settings need that. transition_go_on() when all is known, perhaps before this returns, or
 * transition_fail(). */
void transition_start_preflight(struct transition *transition);
void transition_end_preflight(struct transition *transition);
/* Names and certificates are good: open what is needed, and fork. */
void transition_go_on(struct transition *transition);

/* Open what the settings need of the master: logs, listening sockets, gates. True when all is there; else it failed. */
must_check bool transition_open(struct transition *transition);
/* Close what transition_open() opened, and bring back what it changed. */
void transition_take_back(struct transition *transition);

/* All is ready: the new generation takes over. Nothing is taken back from then on, unless a socket does not listen. */
void transition_switch_over(struct transition *transition);
/* The new generation accepts; it is over when the old one no longer does, so that whoever is told so meets the new settings only. */
void transition_finish_when_handed_over(struct transition *transition);

#endif
