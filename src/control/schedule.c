#include "control/schedule.h"

static void queue_init(struct schedule_queue *queue)
{
	*queue = (struct schedule_queue){ .last = &queue->first };
}

static void queue_put(struct schedule_queue *queue, struct schedule_entry *entry)
{
	entry->next = NULL;
	entry->link = queue->last;
	*queue->last = entry;
	queue->last = &entry->next;
	queue->count++;
}

static void queue_leave(struct schedule_queue *queue, struct schedule_entry *entry)
{
	*entry->link = entry->next;
	if (entry->next)
		entry->next->link = entry->link;
	else
		queue->last = entry->link;
	entry->link = NULL;
	queue->count--;
}

void schedule_init(struct schedule *schedule, uint64_t now_ns, unsigned max_in_flight, uint64_t seed)
{
	ensure(max_in_flight > 0);
	wheel_init(&schedule->wheel, now_ns);
	queue_init(&schedule->fresh);
	queue_init(&schedule->ready);
	schedule->in_flight = 0;
	schedule->max_in_flight = max_in_flight;
	schedule->random = seed;
}

/* splitmix64 (Steele, Lea and Flood, 2014): any seed will do. */
static uint64_t next_random(struct schedule *schedule)
{
	uint64_t z = schedule->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t jittered_interval(struct schedule *schedule, const struct schedule_entry *entry)
{
	bool fast = entry->hurries && entry->fast_interval_ns < entry->interval_ns;
	uint64_t interval_ns = fast ? entry->fast_interval_ns : entry->interval_ns;

	return interval_ns - interval_ns / 10 + next_random(schedule) % (interval_ns / 5 + 1);
}

static void wait_until(struct schedule *schedule, struct schedule_entry *entry, uint64_t due_ns)
{
	entry->state = SCHEDULE_WAITING;
	wheel_arm(&schedule->wheel, &entry->alarm, due_ns);
}

void schedule_add(struct schedule *schedule, struct schedule_entry *entry)
{
	ensure(entry->state == SCHEDULE_OUT);
	entry->state = SCHEDULE_FRESH;
	queue_put(&schedule->fresh, entry);
}

/* Out of whatever it is in. */
static void leave(struct schedule *schedule, struct schedule_entry *entry)
{
	wheel_disarm(&entry->alarm);
	if (entry->state == SCHEDULE_FRESH)
		queue_leave(&schedule->fresh, entry);
	else if (entry->state == SCHEDULE_READY)
		queue_leave(&schedule->ready, entry);
	else if (entry->state == SCHEDULE_IN_FLIGHT)
		schedule->in_flight--;
}

void schedule_remove(struct schedule *schedule, struct schedule_entry *entry)
{
	leave(schedule, entry);
	entry->state = SCHEDULE_OUT;
}

void schedule_hurry(struct schedule *schedule, struct schedule_entry *entry, bool hurries, uint64_t now_ns)
{
	bool begins = hurries && !entry->hurries;

	entry->hurries = hurries;
	if (!begins || entry->state != SCHEDULE_WAITING || entry->started_ns == 0)
		return; /* before the first check there is nothing to hurry on from */
	uint64_t due_ns = entry->started_ns + jittered_interval(schedule, entry);
	if (due_ns < wheel_due_ns(&entry->alarm))
		wait_until(schedule, entry, due_ns > now_ns ? due_ns : now_ns);
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void spread_fresh(struct schedule *schedule, uint64_t now_ns)
{
	uint64_t n = schedule->fresh.count;

	for (uint64_t k = 0; schedule->fresh.first; k++) {
		struct schedule_entry *entry = schedule->fresh.first;
		uint64_t due_ns = now_ns + at_most(n * SCHEDULE_PACE_NS, at_most(entry->interval_ns, SCHEDULE_SPREAD_NS)) * k / n;
		uint64_t put_off_ns = at_most(entry->first_ns, now_ns + entry->interval_ns);
		leave(schedule, entry);
		wait_until(schedule, entry, put_off_ns > due_ns ? put_off_ns : due_ns);
	}
}

struct advance {
	struct schedule *schedule;
	schedule_overdue_fn *overdue;
	void *arg;
};

static void on_alarm(struct wheel_entry *alarm, void *arg)
{
	const struct advance *advance = arg;
	struct schedule_entry *entry = container_of(alarm, struct schedule_entry, alarm);

	if (entry->state == SCHEDULE_IN_FLIGHT) {
		advance->overdue(entry, advance->arg);
		return;
	}
	entry->state = SCHEDULE_READY;
	queue_put(&advance->schedule->ready, entry);
}

void schedule_advance(struct schedule *schedule, uint64_t now_ns, schedule_overdue_fn *overdue, void *arg)
{
	struct advance advance = { schedule, overdue, arg };

	spread_fresh(schedule, now_ns);
	wheel_advance(&schedule->wheel, now_ns, on_alarm, &advance);
}

struct schedule_entry *schedule_take(struct schedule *schedule, uint64_t now_ns)
{
	struct schedule_entry *entry = schedule->ready.first;

	if (!entry || schedule->in_flight >= schedule->max_in_flight)
		return NULL;
	leave(schedule, entry);
	entry->state = SCHEDULE_IN_FLIGHT;
	entry->started_ns = now_ns;
	schedule->in_flight++;
	wheel_arm(&schedule->wheel, &entry->alarm, now_ns + entry->timeout_ns);
	return entry;
}

void schedule_done(struct schedule *schedule, struct schedule_entry *entry, uint64_t now_ns)
{
	ensure(entry->state == SCHEDULE_IN_FLIGHT);
	leave(schedule, entry);
	uint64_t due_ns = entry->started_ns + jittered_interval(schedule, entry);
	wait_until(schedule, entry, due_ns > now_ns ? due_ns : now_ns);
}

uint64_t schedule_next_ns(const struct schedule *schedule)
{
	if (schedule->fresh.first || (schedule->ready.first && schedule->in_flight < schedule->max_in_flight))
		return 0;
	return wheel_next_ns(&schedule->wheel);
}
