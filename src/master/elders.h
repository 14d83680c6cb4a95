/* Masters that were replaced by an upgrade and still drain: what is left of them for the one that took over.
 *
 * Process: the master. Owner: master->adoption.elders, the youngest first. A further upgrade hands them on.
 * An elder that shares our segment tells us of its dead workers, since only we reclaim what they held. One that has another segment has a
 * seat in ours, which stands for all of its workers: once a second it tells us what they counted and how many connections they have.
 */
#ifndef AEGIS_MASTER_ELDERS_H
#define AEGIS_MASTER_ELDERS_H

#include <sys/types.h>

#include "master/handover.h"
#include "os/loop.h"

struct master;

struct elder {
	struct elder *next;
	struct master *master;
	pid_t pid;
	int channel;
	struct loop_io io;
	struct loop_timer deadline; /* when it is killed */
	bool is_parent;             /* the one that started us */
	bool stopped;               /* it accepts no more */
	bool shares;                /* the segment */
	bool has_seat;
	uint32_t seat;
};

/* It is the oldest. The channel is ours on success. 0 or -ENOMEM. */
must_check int elder_add(struct master *master, int channel, pid_t pid, bool is_parent);
void elder_free(struct elder *elder);

must_check int elder_watch(struct elder *elder);
void elder_tell(struct elder *elder, enum upgrade_message kind, uint32_t value, uint64_t value_ns);
void elder_take_seat(struct elder *elder, uint32_t generation);
/* text is taken apart. */
void elder_read_counts(struct elder *elder, char *text);

void elders_watch(struct master *master);
/* An heir listens to them from now on, unless elders_watch() follows. */
void elders_leave(struct master *master, bool same_segment);
/* End within the time, as our own old generations do; or at once, all but the `keep` youngest. One that does not is killed. */
void elders_drain(struct master *master, uint32_t pace, uint64_t timeout_ns);
void elders_quit(struct master *master, uint32_t keep);
void elders_reopen_log(struct master *master);
void elders_release_in_child(const struct master *master);

#endif
