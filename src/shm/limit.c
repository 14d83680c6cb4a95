#include "shm/limit.h"

#include <errno.h>
#include <sched.h>

#include "shm/sums.h"

/* The sequence of a seat brackets each change as in a seqlock (Boehm, "Can seqlocks get along with programming language memory
 * models?", 2012): the fence keeps the changes from being seen before the odd number, the release keeps them before the even
 * one. A reader that sees the effect of a change, and be it through a later compare and swap of another worker (a release
 * sequence), therefore sees the sequence moved as well. */
static void change_begin(struct shm_seat *seat)
{
	uint64_t sequence = atomic_load_explicit(&seat->ledger_sequence, memory_order_relaxed);
	atomic_store_explicit(&seat->ledger_sequence, sequence + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void change_end(struct shm_seat *seat)
{
	uint64_t sequence = atomic_load_explicit(&seat->ledger_sequence, memory_order_relaxed);
	atomic_store_explicit(&seat->ledger_sequence, sequence + 1, memory_order_release);
}

/* max: 0 = no limit. */
static bool reserve(struct shm *shm, uint32_t seat, uint32_t limit, uint32_t max)
{
	struct limit *row = shm_limit(shm, limit);
	uint32_t used = atomic_load_explicit(&row->used, memory_order_relaxed);
	if (max && used >= max)
		return false;

	bool reserved = true;
	change_begin(&shm->seats[seat]);
	while (!atomic_compare_exchange_weak_explicit(&row->used, &used, used + 1, memory_order_acq_rel, memory_order_relaxed)) {
		if (max && used >= max) {
			reserved = false;
			break;
		}
	}
	if (reserved) {
		_Atomic uint32_t *held = shm_ledger(shm, seat, limit);
		atomic_store_explicit(held, atomic_load_explicit(held, memory_order_relaxed) + 1, memory_order_relaxed);
	}
	change_end(&shm->seats[seat]);
	return reserved;
}

bool limit_reserve(struct shm *shm, uint32_t seat, uint32_t limit)
{
	return reserve(shm, seat, limit, atomic_load_explicit(&shm_limit(shm, limit)->max, memory_order_relaxed));
}

bool limit_reserve_leaving(struct shm *shm, uint32_t seat, uint32_t limit, uint32_t one_in)
{
	uint32_t max = atomic_load_explicit(&shm_limit(shm, limit)->max, memory_order_relaxed);
	return reserve(shm, seat, limit, one_in ? max - max / one_in : max);
}

void limit_release(struct shm *shm, uint32_t seat, uint32_t limit)
{
	_Atomic uint32_t *held = shm_ledger(shm, seat, limit);
	uint32_t n = atomic_load_explicit(held, memory_order_relaxed);
	ensure(n > 0);
	change_begin(&shm->seats[seat]);
	atomic_store_explicit(held, n - 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&shm_limit(shm, limit)->used, 1, memory_order_acq_rel);
	change_end(&shm->seats[seat]);
}

void limit_pass_begin(struct shm *shm, uint32_t seat)
{
	change_begin(&shm->seats[seat]);
}

void limit_pass_end(struct shm *shm, uint32_t seat, uint32_t limit, int taken)
{
	_Atomic uint32_t *held = shm_ledger(shm, seat, limit);
	uint32_t n = atomic_load_explicit(held, memory_order_relaxed);
	ensure(taken >= 0 || n > 0);
	atomic_store_explicit(held, n + (uint32_t)taken, memory_order_relaxed);
	change_end(&shm->seats[seat]);
}

void limit_hold(struct shm *shm, uint32_t seat, uint32_t limit, uint32_t n)
{
	_Atomic uint32_t *held = shm_ledger(shm, seat, limit);
	uint32_t before = atomic_load_explicit(held, memory_order_relaxed);
	if (before == n)
		return;
	change_begin(&shm->seats[seat]);
	atomic_store_explicit(held, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&shm_limit(shm, limit)->used, n - before, memory_order_acq_rel);
	change_end(&shm->seats[seat]);
}

uint32_t limit_used(const struct shm *shm, uint32_t limit)
{
	return atomic_load_explicit(&shm_limit(shm, limit)->used, memory_order_relaxed);
}

static bool seat_takes_part(const struct shm_seat *seat)
{
	return atomic_load_explicit(&seat->state, memory_order_relaxed) != SEAT_FREE ||
	       atomic_load_explicit(&seat->ledger_sequence, memory_order_relaxed) != 0;
}

/* The sum of all sequences, or false when one is odd. They only grow, so that two equal sums mean that none moved. */
static bool sum_sequences(const struct shm *shm, uint32_t seats, uint64_t *out)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < seats; i++) {
		uint64_t sequence = atomic_load_explicit(&shm->seats[i].ledger_sequence, memory_order_acquire);
		if (sequence & 1)
			return false;
		sum += sequence;
	}
	*out = sum;
	return true;
}

/* How much more is counted than the ledgers say. False when someone changed something meanwhile. */
static bool excess_of(const struct shm *shm, uint32_t seats, uint32_t limit, uint32_t *excess)
{
	uint64_t before, after;
	if (!sum_sequences(shm, seats, &before))
		return false;
	uint32_t used = limit_used(shm, limit);
	for (uint32_t i = 0; i < seats; i++)
		if (seat_takes_part(&shm->seats[i]))
			used -= atomic_load_explicit(shm_ledger(shm, i, limit), memory_order_relaxed);
	used -= shm->nobodys ? shm->nobodys(shm->nobodys_arg, limit) : 0;
	atomic_thread_fence(memory_order_acquire);
	if (!sum_sequences(shm, seats, &after) || before != after)
		return false;
	*excess = used;
	return true;
}

static int reclaim_limit(struct shm *shm, uint32_t seats, uint32_t limit)
{
	for (int attempt = 0; attempt < 256; attempt++) {
		uint32_t excess;
		if (excess_of(shm, seats, limit, &excess)) {
			/* The living change count and ledger by the same number, so the excess is the dead one's for good and
			 * may be taken off while they go on. */
			if (excess)
				atomic_fetch_sub_explicit(&shm_limit(shm, limit)->used, excess, memory_order_acq_rel);
			return 0;
		}
		if (attempt >= 16)
			sched_yield(); /* whoever is in between may wait for this CPU */
	}
	return -EAGAIN;
}

/* Forget what the dead one held; from here on it is in the counts only. Its sequence no longer stands in the way, should it have died
 * in between, and 0 says that the seat is out until its next worker. */
static void settle_seat(struct shm *shm, uint32_t dead_seat, uint32_t n_listeners, uint32_t n_servers, uint32_t n_upstreams)
{
	atomic_store_explicit(shm_ledger(shm, dead_seat, limit_global()), 0, memory_order_relaxed);
	for (uint32_t i = 0; i < n_listeners; i++)
		atomic_store_explicit(shm_ledger(shm, dead_seat, limit_listener(i)), 0, memory_order_relaxed);
	for (uint32_t i = 0; i < n_servers; i++)
		atomic_store_explicit(shm_ledger(shm, dead_seat, limit_server(shm, i)), 0, memory_order_relaxed);
	for (uint32_t i = 0; i < n_upstreams; i++)
		atomic_store_explicit(shm_ledger(shm, dead_seat, limit_upstream(shm, i)), 0, memory_order_relaxed);
	atomic_store_explicit(&shm->seats[dead_seat].ledger_sequence, 0, memory_order_relaxed);
}

int limit_reclaim(struct shm *shm, uint32_t dead_seat)
{
	uint32_t n_listeners = sums_n_listeners(shm), n_servers = sums_n_servers(shm), n_upstreams = sums_n_upstreams(shm);
	settle_seat(shm, dead_seat, n_listeners, n_servers, n_upstreams);

	uint32_t seats = shm->dims.seats; /* no further than the last one that takes part */
	while (seats > 0 && !seat_takes_part(&shm->seats[seats - 1]))
		seats--;
	int err = reclaim_limit(shm, seats, limit_global());
	for (uint32_t i = 0; !err && i < n_listeners; i++)
		err = reclaim_limit(shm, seats, limit_listener(i));
	for (uint32_t i = 0; !err && i < n_servers; i++)
		err = reclaim_limit(shm, seats, limit_server(shm, i));
	for (uint32_t i = 0; !err && i < n_upstreams; i++)
		err = reclaim_limit(shm, seats, limit_upstream(shm, i));
	return err;
}
