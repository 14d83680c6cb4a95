/* Exact limits over all workers: reserve, then use, then release.
 *
 * The count itself is one shared atomic. Beside it every worker keeps a ledger of what it holds, so that the share of a
 * killed worker can be given back: after a death the master makes the count equal to the sum of the living ledgers. The
 * ledger sequence of a seat is odd while its worker is between the two writes; the master takes a sum only when no living
 * worker is in between and none was while it looked, so the result is exact although the others go on.
 *
 * What a dead seat leaves in the count is what the ledgers of the living, and places that are nobody's, do not explain, whatever it was in
 * the middle of. The living change count and ledger by the same number, so that this excess stays the same until it is taken off.
 *
 * Writers: limit.used by every worker (compare and swap, acq_rel); a ledger by the seat's worker,
 *          inside its sequence.
 */
#ifndef AEGIS_SHM_LIMIT_H
#define AEGIS_SHM_LIMIT_H

#include "shm/layout.h"

/* Reserve one. True, or false when the limit is reached. Worker of the seat only. */
must_check bool limit_reserve(struct shm *shm, uint32_t seat, uint32_t limit);

/* The same for those who shall leave a part of it, one in so many, to others; 0 = they may have all. */
must_check bool limit_reserve_leaving(struct shm *shm, uint32_t seat, uint32_t limit, uint32_t one_in);

/* Give back one that was reserved by the same seat. */
void limit_release(struct shm *shm, uint32_t seat, uint32_t limit);

/* A place that is left to whoever comes for it, and taken from there: it stays counted, and is in nobody's ledger meanwhile. How many such
 * places there are the owner of the segment must be able to tell (struct shm, nobodys); whatever that goes by changes between begin and
 * end, and nothing else does. taken: 1 or -1 (left), or 0 when nothing came of it. */
void limit_pass_begin(struct shm *shm, uint32_t seat);
void limit_pass_end(struct shm *shm, uint32_t seat, uint32_t limit, int taken);

/* The seat holds so many, whatever the maximum: of one that stands for workers whose ledgers are elsewhere (carry.h). Its owner only. */
void limit_hold(struct shm *shm, uint32_t seat, uint32_t limit, uint32_t n);

uint32_t limit_used(const struct shm *shm, uint32_t limit);

/* Give back all that a dead seat holds, over all rows ever used. 0, or -EAGAIN when the living were too busy for a stable look, or
 * when another one died in between two writes (call again, after its turn to be reclaimed at the latest; nothing is lost). Master
 * only; the seat's process must be gone (waited for), and no new one may be in the seat before 0. A seat is looked at unless it
 * is SEAT_FREE and never changed a limit since it was last reclaimed: set the state before the worker is forked. */
must_check int limit_reclaim(struct shm *shm, uint32_t dead_seat);

#endif
