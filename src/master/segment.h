/* The master's side of the shared segment: making it, or going on with the one that a killed master left behind. */
#ifndef AEGIS_MASTER_SEGMENT_H
#define AEGIS_MASTER_SEGMENT_H

#include <stdbool.h>
#include <sys/types.h>

#include "config/config.h"
#include "shm/limit.h"

/* Map path with room for at least dims. A segment left by a master that died is taken over when its layout is ours and it is large
 * enough: counters go on, seats of processes that are gone are cleared. Else a new one is made. 0, -EBUSY when its master lives (someone
 * removed the pid file), -ENOSPC when the file system is full, or another negative errno. */
must_check int segment_open(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid);

/* Room on the file system for the rows of so many more listeners, servers and upstreams, for the tables that are needed, and for the rows
 * of a seat. 0, or -ENOSPC. */
must_check int segment_make_room(const struct shm *shm, uint32_t listeners, uint32_t servers, uint32_t upstreams);
must_check int segment_make_room_for_tables(struct shm *shm, bool rates, bool affinities);
must_check int segment_make_room_for_seat(const struct shm *shm, uint32_t seat);
/* The same, with its box, its log rings and its flight recorder, as these settings want them. */
must_check int segment_make_room_for_worker(const struct shm *shm, uint32_t seat, const struct config *config);
/* What these take. */
uint64_t segment_worker_bytes(const struct config *config);

/* What the segment takes with so many rows and seats in use, and with these tables. */
uint64_t segment_bytes(
        const struct shm_dims *dims, uint64_t listeners, uint64_t servers, uint64_t upstreams, uint64_t seats, bool rates, bool affinities);

/* Use the one at path, whose master goes on for now: 0, or a negative errno when it is of another layout or too small. */
must_check int segment_join(struct shm *shm, const char *path, const struct shm_dims *dims);
/* Make one at path + ".next", to be put in the place of the one that its master still uses; that one is kept as path + ".last". */
must_check int segment_make_next(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid);
must_check int segment_put_next(const char *path);
/* In the old master: the other one did not come that far after all; or it did. */
void segment_take_back_last(const char *path);
void segment_drop_next(const char *path);
void segment_forget_last(const char *path);

/* Take a free seat for a new worker of a slot: it is SEAT_STARTING then. 0 or -ENOSPC. A slot gets a seat that it had before, so that its
 * own counters go on. */
must_check int segment_take_seat(struct shm *shm, uint32_t slot, uint32_t *out);
/* Has the process gone that took the seat? */
must_check bool segment_seat_is_gone(const struct shm *shm, uint32_t seat);

/* The worker of the seat is dead: give back what it held, and free the seat. 0, or -EAGAIN: call again soon. */
must_check int segment_clear_seat(struct shm *shm, uint32_t seat);

/* Clear the seats whose processes are gone, whoever's they were: workers can outlive a master that was killed. Returns how many
 * seats are taken still. */
uint32_t segment_clear_gone(struct shm *shm);

#endif
