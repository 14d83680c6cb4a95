/* What became of the datagrams of one flow: answered, given up, answered late or more than once, out of order.
 *
 * Process: a load process of aegis-udpblast.
 * Life of a datagram: AWAITED from track_send() until its answer comes, or until track_give_up() calls it lost; an answer after that is a
 *          late one. The ring remembers the last datagrams; of older ones an answer can only be called stale.
 * Order:   datagrams are numbered in the order in which they are sent, and their times never go backwards. So those that are given up
 *          are always the oldest, and everything before `oldest` is settled.
 */
#ifndef AEGIS_TOOLS_BLAST_TRACK_H
#define AEGIS_TOOLS_BLAST_TRACK_H

#include <stdbool.h>

#include "base/attr.h"

/* What an answer is. */
enum track_answer {
	TRACK_ANSWERED,
	TRACK_LATE,      /* the first one, to a datagram that was given up */
	TRACK_DUPLICATE, /* not the first one */
	TRACK_STALE,     /* to a datagram so old that nobody knows whether it is the first */
	TRACK_UNSENT     /* to a datagram that was not sent */
};

struct track {
	uint64_t *entries; /* of the ring: when it was sent, and its state in the two top bits */
	uint32_t size;     /* a power of two */
	uint32_t awaited;  /* how many */
	uint64_t next;     /* the sequence that the next datagram gets */
	uint64_t oldest;   /* all before it are settled */
	uint64_t newest;   /* the highest sequence that was answered, + 1 */
};

/* entries: room for size of them, which the caller keeps for as long as the track lives. */
void track_init(struct track *track, uint64_t *entries, uint32_t size);

/* How many more can be sent without forgetting one that is awaited. */
static inline uint32_t track_room(const struct track *track)
{
	return track->size - (uint32_t)(track->next - track->oldest);
}

/* Send the next one: there is room. Returns its sequence. */
uint64_t track_send(struct track *track, uint64_t now_ns);
/* Send one that nobody answers. */
uint64_t track_send_one_way(struct track *track);

/* An answer to this sequence came. Of one that was answered or is late *sent_ns says when it was sent, *reordered whether an answer to
 * a later one came before; else they are untouched. */
enum track_answer track_receive(struct track *track, uint64_t sequence, uint64_t *sent_ns, bool *reordered);

/* Give the oldest one up if it is awaited since before_ns or longer. True, its sequence and when it was sent; or false. */
must_check bool track_give_up(struct track *track, uint64_t before_ns, uint64_t *sequence, uint64_t *sent_ns);

#endif
