#include "shm/line.h"

#include "shm/sums.h"

uint64_t line_ticket(struct shm *shm, uint32_t upstream)
{
	return atomic_fetch_add_explicit(&shm->upstreams[upstream].tickets, 1, memory_order_relaxed) + 1;
}

/* Before the first ticket of a seat is shown, so that whoever sees the ticket's effects looks far enough. */
static void take_part(struct shm_upstream *row, uint32_t seat)
{
	uint32_t seats = atomic_load_explicit(&row->line_seats, memory_order_relaxed);
	while (seats <= seat &&
	        !atomic_compare_exchange_weak_explicit(&row->line_seats, &seats, seat + 1, memory_order_relaxed, memory_order_relaxed))
		;
}

void line_show(struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t ticket, uint64_t now_ns)
{
	struct line_head *head = shm_line_head(shm, upstream, seat);
	uint64_t shown = atomic_load_explicit(&head->ticket, memory_order_relaxed);
	if (!shown && !ticket)
		return;
	atomic_store_explicit(&head->looked_ns, now_ns, memory_order_relaxed);
	if (shown == ticket)
		return;
	if (ticket)
		take_part(&shm->upstreams[upstream], seat);
	atomic_store_explicit(&head->ticket, ticket, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
}

static uint32_t seats_of(const struct shm *shm, uint32_t upstream)
{
	uint32_t seats = atomic_load_explicit(&shm->upstreams[upstream].line_seats, memory_order_relaxed);
	return seats < shm->dims.seats ? seats : shm->dims.seats;
}

/* The ticket that a seat shows, or 0 when it does not count. */
static uint64_t ticket_of(const struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t now_ns)
{
	const struct line_head *head = shm_line_head(shm, upstream, seat);
	uint64_t ticket = atomic_load_explicit(&head->ticket, memory_order_acquire);
	if (likely(!ticket))
		return 0;
	uint64_t looked_ns = atomic_load_explicit(&head->looked_ns, memory_order_relaxed);
	return now_ns > looked_ns && now_ns - looked_ns > LINE_STALE_NS ? 0 : ticket;
}

static uint32_t generation_of(const struct shm *shm, uint32_t seat)
{
	return atomic_load_explicit(&shm->seats[seat].generation, memory_order_relaxed);
}

bool line_is_first(const struct shm *shm, uint32_t upstream, uint32_t seat, uint64_t ticket, uint64_t now_ns)
{
	uint32_t seats = seats_of(shm, upstream), generation = generation_of(shm, seat);
	for (uint32_t i = 0; i < seats; i++) {
		if (i == seat)
			continue;
		uint64_t other = ticket_of(shm, upstream, i, now_ns);
		if (other && other < ticket && generation_of(shm, i) == generation)
			return false;
	}
	return true;
}

static uint32_t note(struct line_first *firsts, uint32_t n, const struct line_first *found)
{
	uint32_t i = 0;
	while (i < n && firsts[i].generation != found->generation)
		i++;
	if (i == LINE_GENERATIONS || (i < n && firsts[i].ticket < found->ticket))
		return n;
	firsts[i] = *found;
	return i == n ? n + 1 : n;
}

uint32_t line_firsts(const struct shm *shm, uint32_t upstream, uint64_t now_ns, struct line_first firsts[LINE_GENERATIONS])
{
	uint32_t n = 0;
	atomic_thread_fence(memory_order_seq_cst);
	if (!line_waits(shm, upstream))
		return 0;
	uint32_t seats = seats_of(shm, upstream);
	for (uint32_t i = 0; i < seats; i++) {
		struct line_first found = { .ticket = ticket_of(shm, upstream, i, now_ns), .seat = i };
		if (!found.ticket)
			continue;
		found.generation = generation_of(shm, i);
		n = note(firsts, n, &found);
	}
	return n;
}

void line_clear(struct shm *shm, uint32_t seat)
{
	uint32_t n_upstreams = sums_n_upstreams(shm);
	for (uint32_t i = 0; i < n_upstreams; i++)
		atomic_store_explicit(&shm_line_head(shm, i, seat)->ticket, 0, memory_order_relaxed);
}
