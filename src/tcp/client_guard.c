#include "tcp/client_guard.h"

void client_guard_init(struct client_guard *guard)
{
	*guard = (struct client_guard){ .said_ns = 0 };
	rate_guard_init(&guard->up);
	rate_guard_init(&guard->down);
}

static bool counts(const struct rate_guard *guard)
{
	return guard->since_ns != RATE_GUARD_NEVER;
}

/* --- up ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t silent_ns(const struct client_guard *guard)
{
	return guard->said_ns + CLIENT_GUARD_SILENCE_NS;
}

static void note_silence(struct client_guard *guard, uint64_t now_ns)
{
	if (counts(&guard->up) && now_ns >= silent_ns(guard))
		rate_guard_owes(&guard->up, false, silent_ns(guard));
}

void client_guard_up(struct client_guard *guard, uint64_t bytes, uint64_t now_ns)
{
	note_silence(guard, now_ns);
	rate_guard_owes(&guard->up, true, now_ns);
	rate_guard_moved(&guard->up, bytes);
	guard->said_ns = now_ns;
}

static bool slow_up(struct client_guard *guard, uint64_t min_rate, const struct client_state *state, uint64_t now_ns)
{
	note_silence(guard, now_ns);
	if (!counts(&guard->up) || rate_guard_due_ns(&guard->up) > now_ns)
		return false;
	if (!guard->held_back && !state->blocked && !state->finished)
		return rate_guard_slow(&guard->up, min_rate, now_ns);
	rate_guard_init(&guard->up);
	rate_guard_owes(&guard->up, !state->finished, now_ns);
	guard->held_back = false;
	return false;
}

/* --- down -------------------------------------------------------------------------------------------------------------------- */

/* What was sent to the client a while ago. */
static uint64_t sent_before(const struct client_guard *guard, uint64_t now_ns)
{
	if (now_ns - guard->sent_ns >= CLIENT_GUARD_MARK_NS)
		return guard->sent;
	return guard->marks[client_guard_marks(guard, now_ns) ? 0 : 1];
}

/* What the client has taken since the last look, and whether it keeps up: then a window begins anew. */
static void look_down(struct client_guard *guard, const struct client_state *state, uint64_t now_ns)
{
	uint64_t taken = guard->sent - (state->untaken < guard->sent ? state->untaken : guard->sent);
	if (taken > guard->taken) {
		rate_guard_moved(&guard->down, taken - guard->taken);
		guard->taken = taken;
	}
	if (guard->taken >= sent_before(guard, now_ns)) {
		rate_guard_init(&guard->down);
		rate_guard_owes(&guard->down, guard->taken < guard->sent, now_ns);
	}
	if (!client_guard_marks(guard, now_ns))
		return;
	guard->marks[1] = guard->marks[0];
	guard->marks[0] = guard->sent;
	guard->marked_ns = now_ns;
}

void client_guard_down(struct client_guard *guard, uint64_t bytes, const struct client_state *state, uint64_t now_ns)
{
	rate_guard_init(&guard->up);
	guard->held_back = false;
	if (state)
		look_down(guard, state, now_ns);
	guard->sent += bytes;
	guard->sent_ns = now_ns;
	rate_guard_owes(&guard->down, true, now_ns);
}

static bool slow_down(struct client_guard *guard, uint64_t min_rate, const struct client_state *state, uint64_t now_ns)
{
	if (rate_guard_due_ns(&guard->down) > now_ns)
		return false;
	look_down(guard, state, now_ns);
	return rate_guard_due_ns(&guard->down) <= now_ns && rate_guard_slow(&guard->down, min_rate, now_ns);
}

/* --- both -------------------------------------------------------------------------------------------------------------------- */

uint64_t client_guard_due_ns(const struct client_guard *guard)
{
	uint64_t due_ns = rate_guard_due_ns(&guard->down), up_ns = rate_guard_due_ns(&guard->up);
	if (up_ns < due_ns)
		due_ns = up_ns;
	return due_ns;
}

bool client_guard_slow(struct client_guard *guard, uint64_t min_rate, const struct client_state *state, uint64_t now_ns)
{
	return slow_up(guard, min_rate, state, now_ns) || slow_down(guard, min_rate, state, now_ns);
}
