#include "tools/blast_track.h"

static const uint64_t answered_bit = UINT64_C(1) << 63, lost_bit = UINT64_C(1) << 62, state_bits = UINT64_C(3) << 62;

void track_init(struct track *track, uint64_t *entries, uint32_t size)
{
	ensure(size > 0 && (size & (size - 1)) == 0);
	*track = (struct track){ .entries = entries, .size = size };
}

static uint64_t *entry_of(const struct track *track, uint64_t sequence)
{
	return &track->entries[sequence & (track->size - 1)];
}

static void settle(struct track *track)
{
	track->awaited--;
	while (track->oldest < track->next && (*entry_of(track, track->oldest) & state_bits) != 0)
		track->oldest++;
}

uint64_t track_send(struct track *track, uint64_t now_ns)
{
	ensure(track_room(track) > 0);
	*entry_of(track, track->next) = now_ns & ~state_bits;
	track->awaited++;
	return track->next++;
}

uint64_t track_send_one_way(struct track *track)
{
	ensure(track->awaited == 0);
	*entry_of(track, track->next) = answered_bit;
	track->oldest = ++track->next;
	return track->next - 1;
}

enum track_answer track_receive(struct track *track, uint64_t sequence, uint64_t *sent_ns, bool *reordered)
{
	if (sequence >= track->next)
		return TRACK_UNSENT;
	if (track->next - sequence > track->size)
		return TRACK_STALE;
	uint64_t *entry = entry_of(track, sequence), state = *entry & state_bits;
	if ((state & answered_bit) != 0)
		return TRACK_DUPLICATE;
	*sent_ns = *entry & ~state_bits;
	*reordered = sequence + 1 < track->newest;
	*entry |= answered_bit;
	if (sequence >= track->newest)
		track->newest = sequence + 1;
	if (state == 0)
		settle(track);
	return state == 0 ? TRACK_ANSWERED : TRACK_LATE;
}

bool track_give_up(struct track *track, uint64_t before_ns, uint64_t *sequence, uint64_t *sent_ns)
{
	/* The oldest is awaited, or there is none: settle() saw to that. */
	if (track->awaited == 0)
		return false;
	uint64_t *entry = entry_of(track, track->oldest);
	if (*entry > before_ns)
		return false;
	*sequence = track->oldest;
	*sent_ns = *entry;
	*entry |= lost_bit;
	settle(track);
	return true;
}
