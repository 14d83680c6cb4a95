/* Deadlines: a hierarchical timing wheel (Varghese and Lauck, 1987), five levels of 64 slots, ticks of 4.2 ms.
 *
 * Arming and disarming cost a few instructions and no system call. An entry never fires before it is due, and at most one
 * tick after. Meant for lazily checked deadlines: who is woken looks whether it is really due and arms again.
 * Entries are embedded in what they belong to; an armed entry must be disarmed before its memory goes away.
 */
#ifndef AEGIS_BASE_WHEEL_H
#define AEGIS_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define WHEEL_NEVER UINT64_MAX

enum { WHEEL_LEVELS = 5, WHEEL_SLOT_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_SLOT_BITS, WHEEL_TICK_SHIFT = 22 };

struct wheel_entry {
	struct wheel_entry *next;
	struct wheel_entry **link; /* what points to us; NULL = not armed */
	uint64_t due_tick;
};

struct wheel {
	uint64_t now_tick;
	uint64_t occupied[WHEEL_LEVELS]; /* a bit for each slot that may hold something */
	struct wheel_entry *slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

typedef void wheel_fn(struct wheel_entry *entry, void *arg);

void wheel_init(struct wheel *wheel, uint64_t now_ns);
/* Arm, or arm again, for due_ns; the past means the next tick. WHEEL_NEVER disarms. */
void wheel_arm(struct wheel *wheel, struct wheel_entry *entry, uint64_t due_ns);
void wheel_disarm(struct wheel_entry *entry);
static inline bool wheel_armed(const struct wheel_entry *entry)
{
	return entry->link != NULL;
}
/* When an armed entry fires, in ns. */
uint64_t wheel_due_ns(const struct wheel_entry *entry);
/* Fire all that is due; fn may arm and disarm anything. An entry is disarmed before fn sees it. */
void wheel_advance(struct wheel *wheel, uint64_t now_ns, wheel_fn *fn, void *arg);
/* When wheel_advance() has something to do next: never later than the first due entry; WHEEL_NEVER when empty. */
uint64_t wheel_next_ns(const struct wheel *wheel);

#endif
