/* The upgrade of the program, as the old master sees it: it starts the new one, goes on until that is ready, hands over, drains and ends.
 *
 *           USR2                     READY                  DRAIN
 *   NONE ---------> STARTING ------------------> HANDING ------------> REPLACED, until its last worker has ended
 *    ^                 | the new one exits,         | the same, or not
 *    |                 | fails, is late (30 s)      | within 5 s
 *    +-----------------+----------------------------+
 *
 * Up to DRAIN all can be taken back. In HANDING the control process has ended and the segment is the new master's, if both use the same
 * one: at any time one master reclaims what dead workers held, publishes and takes seats (master->guest: it is the other one).
 */
#ifndef AEGIS_MASTER_UPGRADE_H
#define AEGIS_MASTER_UPGRADE_H

#include "os/loop.h"
#include "shm/layout.h"

struct master;
struct carry;

enum upgrade_state { UPGRADE_NONE, UPGRADE_STARTING, UPGRADE_HANDING, UPGRADE_REPLACED };

struct upgrade {
	char *program;          /* absolute; NULL: could not be found at the start */
	char *const *arguments; /* as we were started */
	enum upgrade_state state;
	pid_t pid;   /* of the new master, until it was waited for; 0 = none */
	int channel; /* to it, -1 = none */
	struct loop_io io;
	struct loop_timer deadline;
	struct loop_timer count; /* once a second, where there are two segments */
	struct carry *carry;     /* the same: what was told of the counters */
	bool same_segment;
	bool said_stopped;
	uint32_t begun; /* when it was replaced: upgrades that were asked for until then */
	bool wanted;    /* asked for while a reload was under way */
	bool reload_asked, reopen_asked;
	char *readers;            /* the UDP listeners that its workers read: yield_write(); NULL = not said */
	char note[SHM_NOTE_SIZE]; /* what the new master said */
};

/* At the start. argv must stay. */
void upgrade_init(struct master *master, char *const *argv);
void upgrade_fini(struct master *master);

/* USR2. One that comes while a reload is under way follows it; one that comes during an upgrade is ignored. */
void order_upgrade(struct master *master);

/* A stop or a drain comes in between: the new master is ended. */
void upgrade_cancel(struct master *master, const char *why);
/* Is one under way, so that settings and generations must stay as they are? */
must_check bool upgrade_under_way(const struct master *master);
/* Has the new master taken charge, and may still fail? */
must_check bool upgrade_is_handing(const struct master *master);
/* Has another master taken our place? */
must_check bool upgrade_is_replaced(const struct master *master);

/* A worker of ours died while another master is in charge of the seats. */
void upgrade_buried(struct master *master, uint32_t seat);
/* Workers stopped or ended: tell the new master when none of ours accepts any more. */
void upgrade_generation_changed(struct master *master);
/* Look for the new master's death. True when it died. */
must_check bool upgrade_reap_one(struct master *master);
void upgrade_release_in_child(const struct master *master);

#endif
