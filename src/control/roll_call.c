#include "control/roll_call.h"

#include <errno.h>
#include <string.h>

#include "os/region.h"

#define LOOK_NS NS_PER_MS

struct seat_asked {
	uint64_t number;   /* of the request that it is to answer; 0 = it is not asked, or has said all */
	uint64_t asked_ns; /* when */
	uint64_t series;
	bool has_room; /* for its rows, on the file system */
};

struct roll_calls {
	struct loop *loop;
	struct shm *shm;
	const struct bells *bells;
	struct loop_timer look;
	struct roll_question *first, *last; /* the first one is under way, once begun */
	bool begun;
	uint64_t number; /* the last one */
	struct roll_row *rows;
	struct seat_asked *seats; /* [shm->dims.seats] */
};

static void on_look(struct loop_timer *timer);

int roll_calls_new(struct loop *loop, struct shm *shm, const struct bells *bells, struct roll_calls **out)
{
	struct roll_calls *calls = calloc(1, sizeof *calls);
	if (!calls)
		return -ENOMEM;
	*calls = (struct roll_calls){ .loop = loop, .shm = shm, .bells = bells };
	loop_timer_init(&calls->look, on_look);
	calls->rows = calloc(ROLL_ROWS, sizeof *calls->rows);
	calls->seats = calloc(shm->dims.seats, sizeof *calls->seats);
	if (!calls->rows || !calls->seats) {
		roll_calls_free(calls);
		return -ENOMEM;
	}
	*out = calls;
	return 0;
}

void roll_calls_free(struct roll_calls *calls)
{
	if (!calls)
		return;
	loop_timer_stop(calls->loop, &calls->look);
	free(calls->rows);
	free(calls->seats);
	free(calls);
}

void roll_question_free(struct roll_question *question)
{
	free(question->found);
	free(question->silent);
	question->found = NULL;
	question->silent = NULL;
	question->n = question->size = 0;
	question->n_silent = 0;
}

/* --- one seat ---------------------------------------------------------------------------------------------------------------- */

/* One that is starting has no connections yet, and those of an old master look at another segment. */
static bool has_worker(const struct roll_calls *calls, uint32_t seat)
{
	uint32_t state = atomic_load_explicit(&calls->shm->seats[seat].state, memory_order_relaxed);
	return (state == SEAT_RUNNING || state == SEAT_DRAINING) && !shm_seat_is_elder(calls->shm, seat);
}

static void add_silent(struct roll_question *question, uint32_t seat)
{
	uint32_t *silent = reallocarray(question->silent, question->n_silent + 1, sizeof *silent);
	if (!silent) {
		question->truncated = true;
		return;
	}
	question->silent = silent;
	silent[question->n_silent++] = seat;
}

/* Numbers are times, so that no process ever has one that another one had. */
static uint64_t next_number(struct roll_calls *calls)
{
	uint64_t now_ns = clock_now_ns();
	calls->number = now_ns > calls->number ? now_ns : calls->number + 1;
	return calls->number;
}

static void ask_seat(struct roll_calls *calls, const struct roll_question *question, uint32_t seat)
{
	struct seat_asked *asked = &calls->seats[seat];
	asked->number = next_number(calls);
	asked->series = asked->series ? asked->series : asked->number;
	asked->asked_ns = loop_now_ns(calls->loop);
	const struct roll_request request = {
		.number = asked->number, .series = asked->series, .kind = question->kind, .serial = question->serial
	};
	roll_ask(&calls->shm->roll_boxes[seat], &request);
	bell_ring(calls->bells, atomic_load_explicit(&calls->shm->seats[seat].slot, memory_order_relaxed));
}

/* Who is asked first needs room for the answer. */
static void begin_seat(struct roll_calls *calls, struct roll_question *question, uint32_t seat)
{
	struct seat_asked *asked = &calls->seats[seat];
	asked->number = asked->series = 0;
	if (!has_worker(calls, seat))
		return;
	if (!asked->has_room && region_populate(shm_roll_rows(calls->shm, seat), ROLL_ROWS * sizeof(struct roll_row))) {
		add_silent(question, seat);
		return;
	}
	asked->has_room = true;
	ask_seat(calls, question, seat);
}

static void take_row(struct roll_calls *calls, struct roll_question *question, uint32_t seat, const struct roll_row *row)
{
	if (!connections_has(calls->shm, &question->filter, row))
		return;
	if (question->n == question->size) {
		size_t size = question->size ? 2 * question->size : 256;
		struct roll_found *found = reallocarray(question->found, size, sizeof *found);
		question->size = found ? size : question->size;
		question->found = found ? found : question->found;
		question->truncated = question->truncated || !found;
	}
	if (question->truncated || question->n >= question->limit) {
		question->truncated = true;
		return;
	}
	question->found[question->n++] = (struct roll_found){ .seat = seat, .row = *row };
}

/* It answered, or is no more, or lets us wait. */
static void look_at_seat(struct roll_calls *calls, struct roll_question *question, uint32_t seat)
{
	struct seat_asked *asked = &calls->seats[seat];
	enum roll_state state;
	uint32_t n;
	if (!roll_is_answered(&calls->shm->roll_boxes[seat], shm_roll_rows(calls->shm, seat), asked->number, &state, calls->rows, &n)) {
		bool gone = !has_worker(calls, seat), late = loop_now_ns(calls->loop) - asked->asked_ns >= ROLL_PATIENCE_NS;
		if (late && !gone)
			add_silent(question, seat);
		if (late || gone)
			asked->number = 0;
		return;
	}
	for (uint32_t i = 0; i < n && question->kind == ROLL_LIST; i++)
		take_row(calls, question, seat, &calls->rows[i]);
	question->killed = question->killed || state == ROLL_KILLED;
	asked->number = 0;
	if (state == ROLL_MORE && !question->truncated)
		ask_seat(calls, question, seat);
}

/* --- questions ----------------------------------------------------------------------------------------------------------------- */

static void begin(struct roll_calls *calls, struct roll_question *question)
{
	calls->begun = true;
	for (uint32_t seat = 0; seat < calls->shm->dims.seats; seat++) {
		calls->seats[seat].number = 0;
		if (question->kind == ROLL_LIST || seat == question->seat)
			begin_seat(calls, question, seat);
	}
}

/* True when nobody is waited for. */
static bool look(struct roll_calls *calls, struct roll_question *question)
{
	bool all = true;
	for (uint32_t seat = 0; seat < calls->shm->dims.seats; seat++) {
		if (calls->seats[seat].number)
			look_at_seat(calls, question, seat);
		all = all && !calls->seats[seat].number;
	}
	return all;
}

static int compare_ages(const void *left, const void *right)
{
	const struct roll_found *a = left, *b = right;
	if (a->row.accepted_ns != b->row.accepted_ns)
		return a->row.accepted_ns < b->row.accepted_ns ? -1 : 1;
	if (a->seat != b->seat)
		return a->seat < b->seat ? -1 : 1;
	return a->row.serial < b->row.serial ? -1 : a->row.serial > b->row.serial;
}

static struct roll_question *take_first(struct roll_calls *calls)
{
	struct roll_question *question = calls->first;
	calls->first = question->next;
	calls->begun = false;
	question->next = NULL;
	return question;
}

static void finish_first(struct roll_calls *calls)
{
	struct roll_question *question = take_first(calls);
	if (question->n > 0)
		qsort(question->found, question->n, sizeof *question->found, compare_ages);
	question->done(question); /* which may ask another one */
}

static void look_soon(struct roll_calls *calls)
{
	if (calls->first && !loop_timer_active(&calls->look))
		loop_timer_start(calls->loop, &calls->look, LOOK_NS);
}

static void on_look(struct loop_timer *timer)
{
	struct roll_calls *calls = container_of(timer, struct roll_calls, look);
	if (calls->first && !calls->begun)
		begin(calls, calls->first);
	if (calls->first && look(calls, calls->first))
		finish_first(calls);
	look_soon(calls);
}

void roll_calls_ask(struct roll_calls *calls, struct roll_question *question)
{
	question->next = NULL;
	*(calls->first ? &calls->last->next : &calls->first) = question;
	calls->last = question;
	look_soon(calls);
}

void roll_calls_forget(struct roll_calls *calls, struct roll_question *question)
{
	struct roll_question *before = NULL;
	if (calls->first == question) {
		(void)take_first(calls);
		return;
	}
	for (before = calls->first; before && before->next != question;)
		before = before->next;
	if (!before)
		return;
	before->next = question->next;
	if (calls->last == question)
		calls->last = before;
}

void roll_calls_hurry(struct roll_calls *calls)
{
	while (calls->first) {
		struct roll_question *question = calls->first;
		question->truncated = true; /* but nobody is silent: they had no time */
		finish_first(calls);
	}
}

/* --- the answer ---------------------------------------------------------------------------------------------------------------- */

static void print_silent(struct emit *emit, const struct shm *shm, uint32_t seat)
{
	const struct shm_seat *row = &shm->seats[seat];
	emit_open(emit, NULL, '{');
	emit_u64(emit, "slot", atomic_load_explicit(&row->slot, memory_order_relaxed));
	emit_u64(emit, "generation", atomic_load_explicit(&row->generation, memory_order_relaxed));
	emit_i32(emit, "pid", atomic_load_explicit(&row->pid, memory_order_relaxed));
	emit_close(emit, '}');
}

void roll_question_print(const struct roll_question *question, const struct shm *shm, uint64_t now_ns, FILE *out)
{
	struct emit emit = { .out = out };
	emit_open(&emit, NULL, '{');
	emit_open(&emit, "connections", '[');
	for (size_t i = 0; i < question->n; i++)
		connections_emit(&emit, shm, question->found[i].seat, &question->found[i].row, now_ns);
	emit_close(&emit, ']');
	emit_bool(&emit, "truncated", question->truncated);
	emit_open(&emit, "silent_workers", '[');
	for (uint32_t i = 0; i < question->n_silent; i++)
		print_silent(&emit, shm, question->silent[i]);
	emit_close(&emit, ']');
	connections_emit_elders(&emit, shm);
	emit_close(&emit, '}');
	fputc('\n', out);
}
