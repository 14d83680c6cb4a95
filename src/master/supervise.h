/* The master's care for its children and sockets: dead workers, ended generations, listeners that nobody needs. */
#ifndef AEGIS_MASTER_SUPERVISE_H
#define AEGIS_MASTER_SUPERVISE_H

#include "master/master.h"

/* Deal with all children that died. */
void master_reap(struct master *master);

/* Workers of ours that live, of all generations. */
uint32_t master_own_workers(const struct master *master);

/* Seats of dead workers that could not be cleared at once are tried again. */
void master_on_reclaim(struct loop_timer *timer);

#endif
