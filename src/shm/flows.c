#include "shm/flows.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_CELLS = CACHE_LINE_BYTES / sizeof(struct flows_cell), LINES_MIN = 1 << 14, LINES_MOST = 1 << 20 };
enum { PUT_TRIES = 4 };

#define MAGIC UINT64_C(0x3173776f6c66) /* "flows1": another one for another layout */

static_assert(sizeof(struct flows_line) == CACHE_LINE_BYTES && sizeof(struct flows_cell) == 16, "cells as the text says");
static_assert(FLOWS_LOOK % LINE_CELLS == 0, "whole lines");

static uint64_t size_bytes(uint64_t n_lines)
{
	return sizeof(struct flows_shared) + n_lines * sizeof(struct flows_line);
}

/* At most half of it is used, so that one that finds no cell is rare. */
static uint64_t line_count(uint64_t sessions)
{
	uint64_t count = LINES_MIN;
	while (count < LINES_MOST && count * LINE_CELLS < 2 * sessions)
		count *= 2;
	return count;
}

static int map(struct flows *out, int fd, uint64_t n_lines)
{
	void *memory = mmap(NULL, size_bytes(n_lines), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*out = (struct flows){ .shared = memory, .line_mask = n_lines - 1, .fd = fd };
	return 0;
}

int flows_new(struct flows *out, uint64_t sessions, const uint64_t seed[2])
{
	uint64_t n_lines = line_count(sessions);
	int fd = memfd_create("aegis-flows", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int error = ftruncate(fd, (off_t)size_bytes(n_lines)) < 0 ? -errno : map(out, fd, n_lines);
	if (error) {
		close(fd);
		return error;
	}
	out->shared->magic = MAGIC;
	out->shared->n_lines = n_lines;
	memcpy(out->shared->seed, seed, sizeof out->shared->seed);
	return 0;
}

int flows_open(struct flows *out, int fd)
{
	struct stat file;
	struct flows flows;
	if (fstat(fd, &file) < 0)
		return -errno;
	uint64_t size = file.st_size > 0 ? (uint64_t)file.st_size : 0, n_lines = (size - sizeof(struct flows_shared)) / CACHE_LINE_BYTES;
	if (size < size_bytes(LINES_MIN) || size > size_bytes(LINES_MOST) || size != size_bytes(n_lines) || (n_lines & (n_lines - 1)) != 0)
		return -EINVAL;
	int error = map(&flows, fd, n_lines);
	if (error)
		return error;
	if (flows.shared->magic != MAGIC || flows.shared->n_lines != n_lines) {
		(void)munmap(flows.shared, size);
		return -EINVAL;
	}
	*out = flows;
	return 0;
}

void flows_close(struct flows *flows)
{
	if (flows->shared) {
		(void)munmap(flows->shared, size_bytes(flows->line_mask + 1));
		close(flows->fd);
	}
	*flows = (struct flows){ .fd = -1 };
}

/* --- owners ------------------------------------------------------------------------------------------------------------------ */

static _Atomic uint32_t *place_of(const struct flows *flows, uint32_t owner)
{
	return &flows->shared->owners[owner % FLOWS_OWNERS];
}

uint32_t flows_join(const struct flows *flows)
{
	for (uint32_t i = 0; i < 2 * FLOWS_OWNERS; i++) {
		/* Places come in turn, and their number goes up each time around. */
		uint32_t owner = FLOWS_OWNERS + atomic_fetch_add(&flows->shared->serial, 1), nobody = 0;
		if (owner != 0 && atomic_compare_exchange_strong(place_of(flows, owner), &nobody, owner))
			return owner;
	}
	return 0;
}

void flows_leave(const struct flows *flows, uint32_t owner)
{
	if (owner)
		(void)atomic_compare_exchange_strong(place_of(flows, owner), &owner, 0);
}

bool flows_lives(const struct flows *flows, uint32_t owner)
{
	return owner != 0 && atomic_load_explicit(place_of(flows, owner), memory_order_acquire) == owner;
}

/* --- cells ------------------------------------------------------------------------------------------------------------------- */

static uint64_t tag_of(uint64_t hash)
{
	return hash ? hash : 1;
}

/* The lower half of the hash chooses the place in a worker's own table. */
static struct flows_cell *cell_at(const struct flows *flows, uint64_t hash, uint32_t i)
{
	uint64_t line = ((hash >> 32) + i / LINE_CELLS) & flows->line_mask;
	return &flows->shared->lines[line].cells[i % LINE_CELLS];
}

static uint32_t owner_of(uint64_t holder)
{
	return (uint32_t)(holder >> 32);
}

static uint64_t holder_make(uint32_t owner, uint32_t server)
{
	return (uint64_t)owner << 32 | server;
}

bool flows_find(const struct flows *flows, uint64_t hash, struct flows_found *out)
{
	uint64_t tag = tag_of(hash);
	bool found = false;
	for (uint32_t i = 0; i < FLOWS_LOOK; i++) {
		struct flows_cell *cell = cell_at(flows, hash, i);
		if (likely(atomic_load_explicit(&cell->tag, memory_order_acquire) != tag))
			continue;
		uint64_t holder = atomic_load_explicit(&cell->holder, memory_order_acquire);
		if (!(uint32_t)holder || atomic_load_explicit(&cell->tag, memory_order_relaxed) != tag)
			continue;
		*out = (struct flows_found){
			.owner = owner_of(holder), .server = (uint32_t)holder, .lives = flows_lives(flows, owner_of(holder))
		};
		found = true;
		if (out->lives)
			break;
	}
	return found;
}

/* A cell that can be claimed: best is the one in which the session was with a dead owner. NULL = none. */
static struct flows_cell *look_for_room(const struct flows *flows, uint64_t hash, uint64_t *seen)
{
	struct flows_cell *room = NULL;
	for (uint32_t i = 0; i < FLOWS_LOOK; i++) {
		struct flows_cell *cell = cell_at(flows, hash, i);
		uint64_t holder = atomic_load_explicit(&cell->holder, memory_order_acquire);
		if (holder && flows_lives(flows, owner_of(holder)))
			continue;
		bool same = holder && atomic_load_explicit(&cell->tag, memory_order_relaxed) == tag_of(hash);
		if (room && !same)
			continue;
		room = cell;
		*seen = holder;
		if (same)
			break;
	}
	return room;
}

uint64_t flows_put(const struct flows *flows, uint64_t hash, uint32_t owner, uint32_t server)
{
	uint64_t seen;
	for (int attempt = 0; attempt < PUT_TRIES; attempt++) {
		struct flows_cell *cell = look_for_room(flows, hash, &seen);
		if (!cell)
			return 0;
		if (!atomic_compare_exchange_strong_explicit(
		            &cell->holder, &seen, holder_make(owner, 0), memory_order_acq_rel, memory_order_relaxed))
			continue;
		atomic_store_explicit(&cell->tag, tag_of(hash), memory_order_relaxed);
		atomic_store_explicit(&cell->holder, holder_make(owner, server), memory_order_release);
		return (uint64_t)(cell - flows->shared->lines[0].cells) + 1;
	}
	return 0;
}

static struct flows_cell *cell_of(const struct flows *flows, uint64_t cell)
{
	return &flows->shared->lines[(cell - 1) / LINE_CELLS].cells[(cell - 1) % LINE_CELLS];
}

void flows_move(const struct flows *flows, uint64_t cell, uint32_t owner, uint32_t server)
{
	if (cell)
		atomic_store_explicit(&cell_of(flows, cell)->holder, holder_make(owner, server), memory_order_release);
}

void flows_drop(const struct flows *flows, uint64_t cell)
{
	if (!cell)
		return;
	atomic_store_explicit(&cell_of(flows, cell)->tag, 0, memory_order_release);
	atomic_store_explicit(&cell_of(flows, cell)->holder, 0, memory_order_release);
}

/* --- ports ------------------------------------------------------------------------------------------------------------------- */

/* Another one's that the kernel gave away: he is dead, or was seen to be, or will be in a moment. */
bool flows_take_port(const struct flows *flows, uint16_t port, uint32_t owner, uint64_t now_ns)
{
	_Atomic uint64_t *at = &flows->shared->ports[port];
	uint64_t seen = atomic_load_explicit(at, memory_order_relaxed);
	uint32_t now_s = (uint32_t)(now_ns / NS_PER_S) + 1, before = owner_of(seen), since_s = (uint32_t)seen;
	if (before != 0 && before != owner) {
		if (!flows_lives(flows, before))
			atomic_store_explicit(at, now_s, memory_order_relaxed);
		return false;
	}
	if (since_s != 0 && (int32_t)(now_s - since_s) < FLOWS_PORT_S) /* whose clock was read earlier may be before it */
		return false;
	atomic_store_explicit(at, holder_make(owner, 0), memory_order_relaxed);
	return true;
}

void flows_leave_port(const struct flows *flows, uint16_t port, uint32_t owner)
{
	_Atomic uint64_t *at = &flows->shared->ports[port];
	if (owner_of(atomic_load_explicit(at, memory_order_relaxed)) == owner)
		atomic_store_explicit(at, 0, memory_order_relaxed);
}
