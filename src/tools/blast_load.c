/* A load process of aegis-udpblast: its loop, its queue, its schedule and its end. See blast.h. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/blast.h"
#include "tools/processes.h"

/* New flows are not all begun at once: whoever is in between makes a session for each of them. */
enum { BEGIN_AT_ONCE = 64, EVENTS_PER_TURN = 64, BURSTS_PER_TURN = 64 };
enum { REMEMBERED = 8, MOST_ENTRIES = 1 << 22 };
static const uint64_t rest_ns = 5 * NS_PER_MS, shortest_look_ns = 10 * NS_PER_MS, longest_look_ns = 250 * NS_PER_MS;
/* What nobody asked for would come right behind the last answer, and what is late some time after it. A server that never stops is not
 * listened to for ever. */
enum { LAST_LOOK_MS = 10, LATE_LOOK_MS = 100 };
static const uint64_t last_looks_ns = 2 * NS_PER_S;

static bool is_over(const struct blast *blast)
{
	return blast->now_ns >= blast->end_ns;
}

static uint64_t n_awaited(const struct blast *blast)
{
	const struct blast_tally *tally = blast->tally;
	return blast->plan->one_way ? 0 : tally->sent_now - tally->answered_now - tally->lost_now;
}

/* --- turns ------------------------------------------------------------------------ */

static void enqueue(struct blast *blast, struct blast_flow *flow)
{
	flow->next = NULL;
	*blast->end = flow;
	blast->end = &flow->next;
}

static struct blast_flow *dequeue(struct blast *blast)
{
	struct blast_flow *flow = blast->first;
	blast->first = flow->next;
	if (blast->first == NULL)
		blast->end = &blast->first;
	return flow;
}

/* A socket to send on, a new one where this one has sent what it may. */
static bool has_socket(struct blast *blast, struct blast_flow *flow)
{
	const struct blast_plan *plan = blast->plan;
	if (flow->fd >= 0 && plan->renew > 0 && flow->here >= plan->renew && flow->track.awaited == 0) {
		blast_close(blast, flow);
		flow->id += plan->flows;
	}
	return flow->fd >= 0 || blast_open(blast, flow) == 0;
}

/* How many it may send at once now. */
static uint32_t next_burst(const struct blast *blast, const struct blast_flow *flow)
{
	const struct blast_plan *plan = blast->plan;
	uint64_t n = plan->burst < flow->left ? plan->burst : flow->left;
	n = n < flow->turn_left ? n : flow->turn_left;
	bool spent = plan->renew > 0 && flow->here >= plan->renew;
	if (spent && flow->track.awaited > 0)
		return 0;
	if (plan->renew > 0 && !spent && n > plan->renew - flow->here)
		n = plan->renew - flow->here;
	uint64_t under_way = flow->track.next - flow->track.oldest;
	return under_way + n <= plan->window ? (uint32_t)n : 0;
}

static void end_turn(struct blast *blast, struct blast_flow *flow)
{
	flow->active = false;
	blast->active--;
	if (flow->left > 0)
		enqueue(blast, flow);
}

/* Send a burst. What could not be sent is not tried again: it counts as such. */
static bool send_burst(struct blast *blast, struct blast_flow *flow, uint32_t n, uint64_t sent_ns)
{
	bool open = has_socket(blast, flow);
	uint32_t done = open ? blast_send(blast, flow, n, sent_ns) : 0;
	if (!open)
		blast->tally->unsent += blast_counts(blast) ? n : 0;
	flow->left -= n;
	if (flow->left == 0)
		blast->sending--;
	return done == n;
}

static void step(struct blast *blast, struct blast_flow *flow)
{
	uint32_t n;
	while (!is_over(blast) && blast->now_ns >= blast->rest_until_ns && (n = next_burst(blast, flow)) > 0) {
		flow->turn_left -= n;
		if (!send_burst(blast, flow, n, blast->now_ns))
			blast->rest_until_ns = blast->now_ns + rest_ns;
	}
	if (!flow->begun && (flow->track.oldest > 0 || flow->track.awaited == 0)) {
		flow->begun = true;
		blast->beginning--;
	}
	if (flow->track.awaited == 0)
		end_turn(blast, flow);
}

static void begin_turns(struct blast *blast)
{
	const struct blast_plan *plan = blast->plan;
	for (int budget = BURSTS_PER_TURN; budget > 0 && blast->first != NULL && blast->active < blast->at_once; budget--) {
		if (is_over(blast) || blast->now_ns < blast->rest_until_ns || (!blast->first->begun && blast->beginning >= BEGIN_AT_ONCE))
			return;
		struct blast_flow *flow = dequeue(blast);
		flow->active = true;
		flow->turn_left = blast->at_once < blast->n || plan->one_way ? plan->window : UINT64_MAX;
		blast->active++;
		blast->beginning += !flow->begun;
		step(blast, flow);
	}
}

/* --- the schedule of a rate ------------------------------------------------------- */

static uint64_t next_due_ns(const struct blast *blast)
{
	const struct blast_plan *plan = blast->plan;
	if (plan->rate_per_s <= 0 || blast->sending == 0 || is_over(blast))
		return UINT64_MAX;
	double turn = (double)blast->due_round * plan->flows + blast->first_flow + blast->due_flow;
	uint64_t due_ns = blast->start_ns + (uint64_t)(turn * plan->burst * (double)NS_PER_S / plan->rate_per_s);
	return due_ns < blast->end_ns ? due_ns : UINT64_MAX;
}

static void send_due(struct blast *blast, struct blast_flow *flow, uint64_t due_ns)
{
	uint64_t n = blast->plan->burst < flow->left ? blast->plan->burst : flow->left;
	if (!blast->plan->one_way)
		while (track_room(&flow->track) < n)
			blast_give_up_oldest(blast, flow);
	(void)send_burst(blast, flow, (uint32_t)n, due_ns);
}

static void step_due(struct blast *blast)
{
	uint64_t due_ns;
	if (is_over(blast))
		return;
	for (int budget = BURSTS_PER_TURN; budget > 0 && (due_ns = next_due_ns(blast)) <= blast->now_ns && due_ns < blast->end_ns;
	        budget--) {
		struct blast_flow *flow = &blast->flows[blast->due_flow];
		if (flow->left > 0)
			send_due(blast, flow, due_ns);
		if (++blast->due_flow == blast->n) {
			blast->due_flow = 0;
			blast->due_round++;
		}
	}
}

/* --- one turn of the loop --------------------------------------------------------- */

static void look_for_lost(struct blast *blast)
{
	uint64_t each = blast->plan->lost_after_ns / 4;
	each = each < shortest_look_ns ? shortest_look_ns : each < longest_look_ns ? each : longest_look_ns;
	if (blast->now_ns < blast->next_look_ns)
		return;
	blast->next_look_ns = blast->now_ns + each;
	for (uint32_t i = 0; i < blast->n; i++) {
		struct blast_flow *flow = &blast->flows[i];
		blast_give_up(blast, flow);
		if (flow->active)
			step(blast, flow);
	}
}

static int sleep_ms(struct blast *blast)
{
	uint64_t due_ns = next_due_ns(blast), wake_ns = blast->next_look_ns;
	bool by_window = blast->plan->rate_per_s <= 0;
	bool can_send = by_window && blast->first != NULL && blast->active < blast->at_once &&
	                (blast->first->begun || blast->beginning < BEGIN_AT_ONCE);
	if (can_send && !is_over(blast) && blast->rest_until_ns < wake_ns)
		wake_ns = blast->rest_until_ns;
	if (blast->end_ns > blast->now_ns && blast->end_ns < wake_ns)
		wake_ns = blast->end_ns;
	if (due_ns <= blast->now_ns || wake_ns <= blast->now_ns)
		return 0;
	if (due_ns < wake_ns)
		sleeper_wake_at(&blast->sleeper, due_ns);
	return (int)((wake_ns - blast->now_ns) / NS_PER_MS) + 1;
}

static int take_events(struct blast *blast, int timeout_ms)
{
	struct epoll_event events[EVENTS_PER_TURN];
	int n = epoll_wait(blast->sleeper.epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
	blast->now_ns = clock_now_ns();
	for (int i = 0; i < n; i++) {
		struct blast_flow *flow = events[i].data.ptr;
		if (flow == NULL) /* the timer */
			continue;
		blast_receive(blast, flow);
		if (flow->active)
			step(blast, flow);
	}
	return n;
}

static void turn(struct blast *blast)
{
	take_events(blast, sleep_ms(blast));
	look_for_lost(blast);
	if (blast->plan->rate_per_s > 0)
		step_due(blast);
	else
		begin_turns(blast);
}

static void look_once_more(struct blast *blast)
{
	uint64_t until_ns = blast->now_ns + last_looks_ns;
	while (take_events(blast, blast->tally->lost_now > 0 ? LATE_LOOK_MS : LAST_LOOK_MS) > 0 && blast->now_ns < until_ns)
		;
}

static void run(struct blast *blast, uint64_t start_ns)
{
	const struct blast_plan *plan = blast->plan;
	uint64_t cpu_before_ns = processes_cpu_ns();
	blast->start_ns = start_ns;
	blast->warm_ns = start_ns + plan->warmup_ns;
	blast->end_ns = plan->run_ns > 0 ? blast->warm_ns + plan->run_ns : UINT64_MAX;
	blast->now_ns = blast->last_sent_ns = clock_now_ns();
	while (blast->sending > 0 && !is_over(blast))
		turn(blast);
	/* Who sends no more waits for what is under way; a turn gives up what is lost. */
	while (n_awaited(blast) > 0)
		turn(blast);
	look_once_more(blast);
	blast->tally->end_ns = blast->last_sent_ns > blast->last_answer_ns ? blast->last_sent_ns : blast->last_answer_ns;
	blast->tally->cpu_ns = processes_cpu_ns() - cpu_before_ns;
}

/* --- from first to last ----------------------------------------------------------- */

/* A ring for as many as the plan awaits answers for, and where memory is no matter for some more, so that late answers are known. */
static uint32_t ring_size(const struct blast_plan *plan)
{
	uint32_t size = 2;
	while (size < plan->window || (size < REMEMBERED * plan->window && (uint64_t)size * plan->flows < MOST_ENTRIES))
		size *= 2;
	return size;
}

static int make_flows(struct blast *blast, uint32_t first)
{
	uint32_t size = ring_size(blast->plan);
	blast->flows = calloc(blast->n, sizeof *blast->flows);
	blast->entries = calloc((size_t)blast->n * size, sizeof *blast->entries);
	if (blast->flows == NULL || blast->entries == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < blast->n; i++) {
		struct blast_flow *flow = &blast->flows[i];
		*flow = (struct blast_flow){ .fd = -1, .id = first + i, .left = blast->plan->datagrams };
		track_init(&flow->track, &blast->entries[(size_t)i * size], size);
		enqueue(blast, flow);
	}
	return 0;
}

static int init(struct blast *blast, uint32_t first, uint32_t n)
{
	const struct blast_plan *plan = blast->plan;
	blast->n = blast->sending = n;
	blast->first_flow = first;
	blast->end = &blast->first;
	blast->at_once = (uint32_t)(((uint64_t)plan->at_once * n + plan->flows - 1) / plan->flows);
	int rc = sleeper_open(&blast->sleeper);
	if (rc == 0)
		rc = make_flows(blast, first);
	if (rc == 0)
		rc = blast_make_boxes(blast);
	/* All of them now, so that the run does nothing but send and receive; who needs a new one often gets it when it is its turn. */
	for (uint32_t i = 0; rc == 0 && i < n && plan->renew == 0; i++)
		rc = blast_open(blast, &blast->flows[i]);
	return rc;
}

static void fini(struct blast *blast)
{
	for (uint32_t i = 0; blast->flows != NULL && i < blast->n; i++)
		blast_close(blast, &blast->flows[i]);
	blast_free_boxes(blast);
	free(blast->flows);
	free(blast->entries);
	sleeper_close(&blast->sleeper);
	free(blast);
}

/* Tell that all is open, or that it could not be; the start is when nobody holds the other end any more. */
static bool await_start(int ready, int go, bool well)
{
	char byte = well ? BLAST_READY : BLAST_UNREADY;
	ssize_t rc;
	if (write(ready, &byte, 1) != 1 || !well)
		return false;
	do
		rc = read(go, &byte, 1);
	while (rc < 0 && errno == EINTR);
	return rc == 0;
}

int blast_main(const struct blast_plan *plan, struct blast_shared *shared, uint32_t process, uint32_t first, uint32_t n, int ready, int go,
        int rows_fd)
{
	int code = BLAST_START;
	struct message *message = calloc(1, sizeof *message);
	struct blast *blast = calloc(1, sizeof *blast);
	if (blast == NULL || message == NULL)
		goto out;
	/* The parent's number: it tells this run from others, and the flows of all its processes by their own. */
	message_init_echo(message, plan->payload_bytes, (uint32_t)getppid());
	blast->plan = plan;
	blast->message = message;
	blast->tally = &shared->tallies[process];
	blast->rows.fd = rows_fd;
	if (!await_start(ready, go, init(blast, first, n) == 0))
		goto out;
	run(blast, atomic_load(&shared->start_ns));
	rows_flush(&blast->rows);
	blast->tally->rows_lost = blast->rows.failed;
	code = BLAST_OK;

out:
	if (blast != NULL)
		fini(blast);
	free(message);
	return code;
}
