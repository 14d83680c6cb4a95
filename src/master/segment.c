#include "master/segment.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "os/process.h"
#include "os/region.h"

static bool seat_taken(const struct shm_seat *seat)
{
	return atomic_load(&seat->state) != SEAT_FREE;
}

static bool process_lives(const struct shm_seat *seat)
{
	pid_t pid = atomic_load(&seat->pid);
	if (pid <= 0 || (kill(pid, 0) < 0 && errno == ESRCH))
		return false;
	/* The number may have come back as another process. Where that cannot be seen the seat stays taken. */
	uint64_t ticks = process_start_ticks(pid), then = atomic_load(&seat->pid_start_ticks);
	return ticks == 0 || then == 0 || ticks == then;
}

static int take_over(struct shm *shm, const char *path, const struct shm_dims *dims)
{
	void *base;
	uint64_t size;
	char why[256];
	int error = region_open(path, 1, &base, &size);
	if (error)
		return error;
	error = shm_attach(shm, base, size, why, sizeof why);
	const struct shm_dims *have = error ? NULL : &shm->dims;
	if (!error && (have->seats < dims->seats || have->listeners < dims->listeners || have->servers < dims->servers))
		error = -ENOSPC;
	if (error) {
		region_close(base, size);
		return error;
	}
	log_info("going on with the counters that a former master left in %s", path);
	(void)segment_clear_gone(shm);
	return 0;
}

/* Whoever looks at path sees a finished segment, or none. */
static int make(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid)
{
	void *base;
	char fresh[512];
	(void)snprintf(fresh, sizeof fresh, "%s.new", path);
	int error = region_create(fresh, shm_size_bytes(dims), gid, &base);
	if (error)
		return error;
	shm_init(shm, base, dims);
	if (rename(fresh, path) == 0)
		return 0;
	error = -errno;
	region_close(base, shm_size_bytes(dims));
	(void)unlink(fresh);
	*shm = (struct shm){ 0 };
	return error;
}

int segment_open(struct shm *shm, const char *path, const struct shm_dims *dims, gid_t gid)
{
	if (take_over(shm, path, dims) == 0)
		return 0;
	return make(shm, path, dims, gid);
}

/* How well a free seat suits: best one whose counters were this slot's before, then one that nobody had. */
static int suitability(const struct shm *shm, uint32_t seat, uint32_t slot)
{
	if (!shm_seat_ever_used(shm, seat))
		return 2;
	return atomic_load(&shm->seats[seat].slot) == slot ? 3 : 1;
}

int segment_find_seat(const struct shm *shm, uint32_t slot, uint32_t *out)
{
	int best = 0;
	for (uint32_t i = 0; i < shm->dims.seats && best < 3; i++)
		if (!seat_taken(&shm->seats[i]) && suitability(shm, i, slot) > best) {
			best = suitability(shm, i, slot);
			*out = i;
		}
	return best ? 0 : -ENOSPC;
}

int segment_clear_seat(struct shm *shm, uint32_t seat)
{
	int error = limit_reclaim(shm, seat);
	if (error)
		return error;
	atomic_store(&shm->seats[seat].sessions, 0);
	atomic_store(&shm->seats[seat].pid, 0);
	atomic_store(&shm->seats[seat].state, SEAT_FREE);
	return 0;
}

uint32_t segment_clear_gone(struct shm *shm)
{
	uint32_t taken = 0;
	for (uint32_t i = 0; i < shm->dims.seats; i++)
		if (seat_taken(&shm->seats[i]) && (process_lives(&shm->seats[i]) || segment_clear_seat(shm, i)))
			taken++;
	return taken;
}
