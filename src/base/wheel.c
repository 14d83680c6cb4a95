#include "base/wheel.h"

#include <string.h>

#define SLOT_MASK ((uint64_t)WHEEL_SLOTS - 1)
#define MAX_DELTA_TICKS ((UINT64_C(1) << (WHEEL_SLOT_BITS * WHEEL_LEVELS)) - 1)

void wheel_init(struct wheel *wheel, uint64_t now_ns)
{
	memset(wheel, 0, sizeof *wheel);
	wheel->now_tick = now_ns >> WHEEL_TICK_SHIFT;
}

static void insert(struct wheel *wheel, struct wheel_entry *entry)
{
	uint64_t delta = entry->due_tick - wheel->now_tick;
	uint64_t tick = entry->due_tick;
	if (delta > MAX_DELTA_TICKS) { /* too far: wait in the last slot and be sorted in again there */
		delta = MAX_DELTA_TICKS;
		tick = wheel->now_tick + delta;
	}
	unsigned level = delta == 0 ? 0 : (63U - (unsigned)__builtin_clzll(delta)) / WHEEL_SLOT_BITS;
	unsigned slot = (unsigned)((tick >> (WHEEL_SLOT_BITS * level)) & SLOT_MASK);
	struct wheel_entry **head = &wheel->slots[level][slot];
	entry->next = *head;
	if (entry->next)
		entry->next->link = &entry->next;
	entry->link = head;
	*head = entry;
	wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_arm(struct wheel *wheel, struct wheel_entry *entry, uint64_t due_ns)
{
	wheel_disarm(entry);
	if (due_ns == WHEEL_NEVER)
		return;
	uint64_t due_tick = (due_ns >> WHEEL_TICK_SHIFT) + 1; /* rounded up: never early */
	entry->due_tick = due_tick > wheel->now_tick ? due_tick : wheel->now_tick + 1;
	insert(wheel, entry);
}

void wheel_disarm(struct wheel_entry *entry)
{
	if (!entry->link)
		return;
	*entry->link = entry->next;
	if (entry->next)
		entry->next->link = entry->link;
	entry->link = NULL;
}

uint64_t wheel_due_ns(const struct wheel_entry *entry)
{
	return entry->due_tick << WHEEL_TICK_SHIFT;
}

/* The next tick at which a slot of this level begins that may hold something; at most one round ahead. */
static uint64_t next_tick_of_level(const struct wheel *wheel, unsigned level)
{
	uint64_t bits = wheel->occupied[level];
	if (bits == 0)
		return WHEEL_NEVER;
	uint64_t round = wheel->now_tick >> (WHEEL_SLOT_BITS * level);
	unsigned first = (unsigned)((round + 1) & SLOT_MASK);
	uint64_t rotated = first ? bits >> first | bits << (WHEEL_SLOTS - first) : bits;
	uint64_t distance = (uint64_t)__builtin_ctzll(rotated) + 1;
	return (round + distance) << (WHEEL_SLOT_BITS * level);
}

static uint64_t next_tick(const struct wheel *wheel)
{
	uint64_t next = WHEEL_NEVER;
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		uint64_t tick = next_tick_of_level(wheel, level);
		if (tick < next)
			next = tick;
	}
	return next;
}

/* Sort what waits in a slot of a higher level into lower ones. */
static void cascade(struct wheel *wheel, unsigned level)
{
	unsigned slot = (unsigned)((wheel->now_tick >> (WHEEL_SLOT_BITS * level)) & SLOT_MASK);
	struct wheel_entry *entry = wheel->slots[level][slot];
	wheel->slots[level][slot] = NULL;
	wheel->occupied[level] &= ~(UINT64_C(1) << slot);
	while (entry) {
		struct wheel_entry *next = entry->next;
		insert(wheel, entry);
		entry = next;
	}
}

static void fire(struct wheel *wheel, wheel_fn *fn, void *arg)
{
	unsigned slot = (unsigned)(wheel->now_tick & SLOT_MASK);
	struct wheel_entry **head = &wheel->slots[0][slot];
	wheel->occupied[0] &= ~(UINT64_C(1) << slot);
	while (*head) { /* what fn arms is due at a later tick and so never lands in this slot */
		struct wheel_entry *entry = *head;
		wheel_disarm(entry);
		fn(entry, arg);
	}
}

void wheel_advance(struct wheel *wheel, uint64_t now_ns, wheel_fn *fn, void *arg)
{
	uint64_t target = now_ns >> WHEEL_TICK_SHIFT;
	while (wheel->now_tick < target) {
		uint64_t next = next_tick(wheel);
		if (next > target) {
			wheel->now_tick = target;
			return;
		}
		wheel->now_tick = next;
		for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--)
			if ((next & ((UINT64_C(1) << (WHEEL_SLOT_BITS * level)) - 1)) == 0)
				cascade(wheel, level);
		fire(wheel, fn, arg);
	}
}

uint64_t wheel_next_ns(const struct wheel *wheel)
{
	uint64_t next = next_tick(wheel);
	return next == WHEEL_NEVER ? WHEEL_NEVER : next << WHEEL_TICK_SHIFT;
}
