#include "shm/roll.h"

const char *step_name(enum step step)
{
	static const char *const names[] = {
#define X(id, name) [STEP_##id] = name,
		SESSION_STEPS(X)
#undef X
	};
	return step < N_STEPS ? names[step] : "unknown";
}

void roll_ask(struct roll_box *box, const struct roll_request *request)
{
	atomic_store_explicit(&box->series, request->series, memory_order_relaxed);
	atomic_store_explicit(&box->kind, request->kind, memory_order_relaxed);
	atomic_store_explicit(&box->serial, request->serial, memory_order_relaxed);
	atomic_store_explicit(&box->asked, request->number, memory_order_release);
}

bool roll_is_asked(const struct roll_box *box, struct roll_request *out)
{
	uint64_t asked = atomic_load_explicit(&box->asked, memory_order_acquire);
	if (asked == atomic_load_explicit(&box->answered, memory_order_relaxed))
		return false;
	*out = (struct roll_request){
		.number = asked,
		.series = atomic_load_explicit(&box->series, memory_order_relaxed),
		.kind = atomic_load_explicit(&box->kind, memory_order_relaxed) == ROLL_KILL ? ROLL_KILL : ROLL_LIST,
		.serial = atomic_load_explicit(&box->serial, memory_order_relaxed),
	};
	return true;
}

void roll_answer(struct roll_box *box, const struct roll_request *request, enum roll_state state, uint32_t n)
{
	atomic_store_explicit(&box->state, state, memory_order_relaxed);
	atomic_store_explicit(&box->n, n, memory_order_relaxed);
	atomic_store_explicit(&box->answered, request->number, memory_order_release);
}

bool roll_is_answered(const struct roll_box *box, const struct roll_row *shared, uint64_t number, enum roll_state *state,
        struct roll_row *rows, uint32_t *n)
{
	if (atomic_load_explicit(&box->answered, memory_order_acquire) != number)
		return false;
	uint32_t said = atomic_load_explicit(&box->state, memory_order_relaxed),
	         count = atomic_load_explicit(&box->n, memory_order_relaxed);
	*state = said <= ROLL_KILLED ? (enum roll_state)said : ROLL_LOST;
	*n = count <= ROLL_ROWS ? count : ROLL_ROWS;
	memcpy(rows, shared, *n * sizeof *rows);
	return true;
}
