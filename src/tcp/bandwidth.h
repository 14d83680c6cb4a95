/* How fast the connections of a listener may be: each by itself, or all of them together over all workers.
 *
 * Process: a worker. struct bandwidth belongs to a listener, struct lane to one direction of a session. Decisions only: no I/O, no clock.
 *
 * A connection by itself has a bucket of its own (policy/shaper.h). Those that share a rate book pieces of it in shared memory, a hundredth
 * of a second's worth at a time and no more than they have, and use each when its time has come: so all of them are served in turn,
 * whatever worker they are with, and nobody asks for what is not there. When much is booked already the pieces are a tenth as large, so
 * that the next turn comes sooner; when more than half a second is, a connection that was just served leaves what is free to others for a
 * while.
 *
 * The bucket is full at the beginning: a tenth of a second's worth (at low rates 4 kB), and never refills beyond that.
 */
#ifndef AEGIS_TCP_BANDWIDTH_H
#define AEGIS_TCP_BANDWIDTH_H

#include "config/config.h"
#include "policy/shaper.h"
#include "relay/relay.h"
#include "shm/layout.h"

#define LANE_NOT_PAUSED UINT64_MAX

struct bandwidth {
	struct bandwidth_way {
		uint64_t bytes_per_s; /* 0 = no limit */
		struct rate *shared;  /* NULL: each connection by itself */
		struct rate_limit limit;
		uint32_t piece_bytes, crumb_bytes; /* booked at a time, by few and by many */
	} from[2];                                 /* [enum side] */
};

/* What a connection may move of what one of its sides sends. */
struct lane {
	uint64_t due_ns;   /* paused until then */
	uint64_t since_ns; /* when it was not paused any more */
	union {
		struct shaper shaper;
		struct {
			uint32_t booked;  /* bytes that may be used since then, or will be when the pause is over */
			bool passed_over; /* too much was booked by others */
		};
	};
};

void bandwidth_init(struct bandwidth *bandwidth, const struct listener_config *config, struct shm_listener *shared);
static inline bool bandwidth_is_limited(const struct bandwidth *bandwidth)
{
	return bandwidth->from[SIDE_CLIENT].bytes_per_s || bandwidth->from[SIDE_SERVER].bytes_per_s;
}

void lane_init(struct lane *lane, const struct bandwidth_way *way);
/* Give back what was booked and not used. */
void lane_fini(struct lane *lane, const struct bandwidth_way *way);

/* How many bytes may be read now of those that are there (unread, at least 1). 0: none before lane->due_ns. */
must_check uint64_t lane_allow(struct lane *lane, const struct bandwidth_way *way, uint64_t unread, uint64_t now_ns);
/* So many were read; all: there are no more for now. */
void lane_moved(struct lane *lane, const struct bandwidth_way *way, uint64_t bytes, bool all, uint64_t now_ns);
/* The pause, if there is one, is over. True when it was. */
must_check bool lane_resume(struct lane *lane, uint64_t now_ns);

#endif
