/* The upgrade of the program, as the new master sees it: it takes over what the old one hands over, starts its generation beside the old
 * one's, and switches when that is ready.
 *
 *             all workers are ready           GO                 its workers accept
 *   ADOPTING ------------------------> ASKED -----> IN_CHARGE ---------------------> DONE
 *                READY to the old one                           DRAIN to the old one
 *
 * Until GO it only looks at the segment and claims rows and seats in it (master->guest). When the old master goes away before, it goes on
 * without it. When it gives up it says why, and exits as a start that failed. The old master is an elder from then on (elders.h).
 */
#ifndef AEGIS_MASTER_ADOPT_H
#define AEGIS_MASTER_ADOPT_H

#include "master/elders.h"
#include "master/handover.h"

struct generation;
struct master;
struct shm_dims;

enum adopt_state { ADOPT_NONE, ADOPT_ADOPTING, ADOPT_ASKED, ADOPT_IN_CHARGE, ADOPT_DONE };

struct adoption {
	enum adopt_state state;
	struct handover handover;
	pid_t from; /* the old master */
	bool same_segment;
	bool *held; /* by row: servers that the old control process looks after */
	struct elder *elders;
};

/* Is this an upgrade? Then what is handed over is read. 0 or a negative errno with *why. */
must_check int adopt_begin(struct master *master, char *why, size_t why_size);
void adopt_fini(struct master *master);
/* From the beginning until our workers accept. */
must_check bool adopt_is_under_way(const struct master *master);

/* That of the old master; NULL when there is none. */
const char *adopt_runtime_dir(const struct master *master);
/* Its locked pid file, or -1. */
must_check int adopt_pid_file(struct master *master);
/* Use its segment where that is of our layout and large enough for dims; else make a new one beside it. 0 or a negative errno. */
must_check int adopt_segment(struct master *master, const struct shm_dims *dims);
/* The keys of session tickets, which workers of both use then. False when there are none, or of a kind that this program does not know. */
must_check bool adopt_tickets(struct master *master);
/* The sockets of the admin API, before gates_open(). */
void adopt_gates(struct master *master);
/* The rest, when there is a loop: bells (made anew when this is no upgrade), listeners, boxes, older masters. 0 or a negative errno. */
must_check int adopt_all(struct master *master);
/* Servers, by row, that are not to be checked in the trial; NULL where there are none. */
const bool *adopt_held(const struct master *master);

/* All is ready: true when the switch may come. Else the old master is asked, and transition_try_switch() called when it has answered. */
must_check bool adopt_may_switch(struct master *master);
/* The old master has let go of the segment, or is gone. counts: the text that came with it, or NULL. */
void adopt_take_charge(struct master *master, char *counts);
/* We listen on all sockets: they are ours. */
void adopt_listens(struct master *master);
/* Our workers read datagrams: those of old masters are to do so no more, nor to stand on the ports. After each reload, too. */
void adopt_reads(struct master *master, const struct generation *reader);
/* Our workers accept: the old master is told to drain. */
void adopt_switched(struct master *master);
/* It accepts no more, or is gone: the upgrade is over for who waits for it. */
void adopt_parent_stopped(struct master *master);
/* Does the old master still accept? */
must_check bool adopt_waits(const struct master *master);
/* The end, before all that: the old master is told why, and goes on. */
void adopt_give_up(struct master *master, const char *why);

#endif
