#include "upstream/line.h"

enum { SERVED_MOST = 64 }; /* in a turn of the loop, so that others have theirs */

static void make_due(struct line *line)
{
	if (line->due)
		return;
	line->due = true;
	line->next_due = line->lines->due;
	line->lines->due = line;
}

static void ring(const struct lines *lines, uint32_t seat)
{
	if (lines->bells)
		bell_ring(lines->bells, atomic_load_explicit(&lines->shm->seats[seat].slot, memory_order_relaxed));
}

/* --- joining and leaving ----------------------------------------------------------------------------------------------------- */

/* By ticket: a newcomer comes last, who waited before is among the first. */
static void insert(struct line *line, struct waiter *waiter)
{
	struct waiter *after = line->last;
	if (line->first && waiter->ticket < line->first->ticket)
		after = NULL;
	while (after && after->ticket > waiter->ticket)
		after = after->prev;
	waiter->prev = after;
	waiter->next = after ? after->next : line->first;
	*(after ? &after->next : &line->first) = waiter;
	*(waiter->next ? &waiter->next->prev : &line->last) = waiter;
}

bool line_join(struct line *line, struct waiter *waiter)
{
	struct lines *lines = line->lines;
	if (!limit_reserve(lines->shm, lines->seat, limit_upstream(lines->shm, line->upstream)))
		return false;
	if (!waiter->ticket)
		waiter->ticket = line_ticket(lines->shm, line->upstream);
	insert(line, waiter);
	if (line->first == waiter)
		make_due(line); /* a place may have been freed before anyone knew of it */
	return true;
}

void line_leave(struct line *line, struct waiter *waiter)
{
	struct lines *lines = line->lines;
	if (line->first == waiter) {
		line->moved = true;
		if (!line->is_looked_at)
			make_due(line);
	}
	*(waiter->prev ? &waiter->prev->next : &line->first) = waiter->next;
	*(waiter->next ? &waiter->next->prev : &line->last) = waiter->prev;
	limit_release(lines->shm, lines->seat, limit_upstream(lines->shm, line->upstream));
}

/* --- whose turn it is -------------------------------------------------------------------------------------------------------- */

/* To whoever is first: try. */
static void call_firsts(struct line *line)
{
	struct lines *lines = line->lines;
	struct line_first firsts[LINE_GENERATIONS];
	uint32_t n = line_firsts(lines->shm, line->upstream, loop_now_ns(lines->loop), firsts);
	for (uint32_t i = 0; i < n; i++) {
		if (firsts[i].seat == lines->seat)
			make_due(line);
		else
			ring(lines, firsts[i].seat);
	}
}

void line_tell(struct line *line)
{
	call_firsts(line);
}

static bool is_first(const struct line *line)
{
	const struct lines *lines = line->lines;
	return line->first && line_is_first(lines->shm, line->upstream, lines->seat, line->first->ticket, loop_now_ns(lines->loop));
}

bool line_is_ours(const struct line *line)
{
	return is_first(line);
}

static void show(const struct line *line)
{
	const struct lines *lines = line->lines;
	line_show(lines->shm, line->upstream, lines->seat, line->first ? line->first->ticket : 0, loop_now_ns(lines->loop));
}

/* Other workers may have hot connections: one of them is to close one. As long as nobody does so, nobody has any, and whoever gets one
 * while clients wait does not keep it: so there is no need to ask all the time. */
static void ask_for_hot(struct line *line)
{
	const struct lines *lines = line->lines;
	uint64_t now_ns = loop_now_ns(lines->loop);
	bool asked = atomic_exchange_explicit(&lines->shm->upstreams[line->upstream].hot_wanted, 1, memory_order_relaxed);
	if (!lines->bells || (asked && now_ns - line->asked_ns < LINE_LOOK_NS))
		return;
	line->asked_ns = now_ns;
	bells_ring_all(lines->bells);
}

static void spare_hot(struct line *line)
{
	_Atomic uint32_t *wanted = &line->lines->shm->upstreams[line->upstream].hot_wanted;
	if (!atomic_load_explicit(wanted, memory_order_relaxed) || !line_is_busy(line) || !line->has_hot)
		return;
	if (atomic_exchange_explicit(wanted, 0, memory_order_relaxed) && !line->lines->ops->spare(line))
		atomic_store_explicit(wanted, 1, memory_order_relaxed); /* not here: for another one */
}

/* Serve those whose turn it is. True when it is another worker's turn. */
static bool serve(struct line *line)
{
	struct lines *lines = line->lines;
	for (int served = 0; is_first(line); served++) {
		struct waiter *waiter = line->first;
		if (served == SERVED_MOST) {
			line->due_ns = loop_now_ns(lines->loop);
			return false;
		}
		lines->ops->serve(line, waiter, &line->due_ns);
		if (line->first == waiter) {
			if (line->has_hot)
				ask_for_hot(line);
			return false;
		}
		show(line);
	}
	return true;
}

static void look(struct line *line)
{
	line->due_ns = loop_now_ns(line->lines->loop) + LINE_LOOK_NS;
	line->is_looked_at = true;
	show(line);
	bool others = serve(line);
	line->is_looked_at = false;
	if (!others)
		return;
	if (line->moved)
		call_firsts(line);
	line->moved = false;
	spare_hot(line);
}

/* --- waking up --------------------------------------------------------------------------------------------------------------- */

/* What the bell is for is not said: look everywhere. */
static void on_bell(struct loop_io *io, int events)
{
	struct lines *lines = container_of(io, struct lines, bell);
	(void)events;
	for (struct line *line = lines->all; line; line = line->next)
		if (line->first || line_is_busy(line))
			make_due(line);
	if (lines->ops->rung)
		lines->ops->rung(lines);
}

static void set_timer(struct lines *lines)
{
	uint64_t now_ns = loop_now_ns(lines->loop), next_ns = UINT64_MAX;
	for (const struct line *line = lines->all; line; line = line->next)
		if (line->first && line->due_ns < next_ns)
			next_ns = line->due_ns;
	if (next_ns != UINT64_MAX)
		loop_timer_start(lines->loop, &lines->look, next_ns > now_ns ? next_ns - now_ns : 0);
}

static void on_look(struct loop_timer *timer)
{
	struct lines *lines = container_of(timer, struct lines, look);
	uint64_t now_ns = loop_now_ns(lines->loop);
	for (struct line *line = lines->all; line; line = line->next)
		if (line->first && line->due_ns <= now_ns)
			make_due(line);
	if (!lines->due)
		set_timer(lines); /* those for whom it was set have left */
}

void lines_before_sleep(struct lines *lines)
{
	if (likely(!lines->due))
		return;
	while (lines->due) {
		struct line *line = lines->due;
		lines->due = line->next_due;
		line->due = false;
		look(line);
	}
	set_timer(lines);
}

/* --- from the first to the last ---------------------------------------------------------------------------------------------- */

int lines_init(
        struct lines *lines, struct loop *loop, struct shm *shm, uint32_t seat, const struct bells *bells, const struct line_ops *ops)
{
	*lines = (struct lines){ .loop = loop, .shm = shm, .seat = seat, .bells = bells, .ops = ops };
	loop_io_init(&lines->bell, on_bell);
	loop_timer_init(&lines->look, on_look);
	if (!bells)
		return 0;
	uint32_t slot = atomic_load_explicit(&shm->seats[seat].slot, memory_order_relaxed);
	return loop_io_set(loop, &lines->bell, bell_fd(bells, slot), LOOP_READ | LOOP_EDGE);
}

void lines_fini(struct lines *lines)
{
	if (!lines->loop)
		return;
	loop_io_stop(lines->loop, &lines->bell);
	loop_timer_stop(lines->loop, &lines->look);
	*lines = (struct lines){ 0 };
}

void line_init(struct line *line, struct lines *lines, uint32_t upstream, bool has_hot)
{
	*line = (struct line){ .lines = lines, .upstream = upstream, .has_hot = has_hot };
	if (!lines)
		return;
	line->next = lines->all;
	lines->all = line;
}
