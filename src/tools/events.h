/* What happened lately, found by comparing each snapshot with the one before: servers that changed their state, breakers, ejections,
 * reloads, workers that were replaced, clients turned away, lines that form, logs that lose lines, the instance itself.
 *
 * Process: aegis-stat. All zero is an empty list. What came and went between two looks is seen only where a counter
 * tells. Something that goes on (turning clients away, errors, a line) is one event when it begins and one when it has been over for
 * EVENTS_QUIET_S.
 */
#ifndef AEGIS_TOOLS_EVENTS_H
#define AEGIS_TOOLS_EVENTS_H

#include "tools/canvas.h"
#include "tools/rates.h"

enum { EVENTS_KEPT = 256, EVENT_TEXT_SIZE = 200 };
/* Of servers in one comparison; a settings file can drop thousands of them at once. */
enum { EVENTS_SERVERS_AT_ONCE = 24 };

#define EVENTS_QUIET_S 10

struct event {
	uint64_t unix_s;         /* when it was seen */
	enum canvas_style style; /* how bad it is */
	char text[EVENT_TEXT_SIZE];
};

/* Something that goes on. */
struct spell {
	uint64_t began_s, last_s; /* last_s 0 = it does not */
	uint64_t count;
};

struct events {
	struct event kept[EVENTS_KEPT]; /* a ring */
	unsigned n, next;
	struct spell reasons[N_REASONS];
	struct spell lines[SHM_UPSTREAMS]; /* by the row of the upstream */
	struct spell drops, pauses, log_drops, access_drops;
	int32_t lost_pid; /* of the instance that could not be read; 0 = none was lost */
	bool is_lost;
};

/* The event that so many came after; NULL where there are not so many. */
const struct event *events_at(const struct events *events, unsigned back);

void events_add(struct events *events, uint64_t unix_s, enum canvas_style style, const char *format, ...) printf_like(4, 5);

/* Compare. before may be NULL at the first look, which has no events. */
void events_compare(
        struct events *events, const struct snapshot *before, const struct snapshot *now, const struct rates *rates, uint64_t unix_s);
/* There was nothing to look at: why, and of which process it was (0 = unknown). */
void events_lost(struct events *events, int32_t pid, const char *why, uint64_t unix_s);

#endif
