/* Asks all workers for what they have (shm/roll.h): which connections are open, and the end of one of them.
 *
 * Process: the control process. One question at a time goes to the workers, the others wait; all workers are asked side by side. Who has
 * not answered within ROLL_PATIENCE_NS is silent: stuck, or stopped, or dying; the answer names them and does without them.
 * Workers of a master before this one whose segment is another one cannot be asked; the answer says how many connections they have.
 * Owner:   a question is the caller's. It is the roll call's from roll_calls_ask() until it is done or forgotten.
 */
#ifndef AEGIS_CONTROL_ROLL_CALL_H
#define AEGIS_CONTROL_ROLL_CALL_H

#include <stdio.h>

#include "base/clock.h"
#include "os/bell.h"
#include "os/loop.h"
#include "shm/layout.h"
#include "view/connections.h"

#define ROLL_PATIENCE_NS (500 * NS_PER_MS)
enum { ROLL_LIMIT_MOST = 100000 };

struct roll_calls;
struct roll_question;
typedef void roll_done_fn(struct roll_question *question);

struct roll_question {
	/* The caller's: */
	enum roll_kind kind;
	uint32_t seat, serial;            /* of ROLL_KILL */
	struct connections_filter filter; /* of ROLL_LIST */
	uint32_t limit;                   /* of ROLL_LIST: connections, up to ROLL_LIMIT_MOST */
	roll_done_fn *done;               /* not from within roll_calls_ask() */
	void *arg;
	/* What came of it: */
	bool killed;
	bool truncated;           /* there are more, or there was no memory or no time for more */
	struct roll_found *found; /* the oldest first; roll_question_free() */
	size_t n, size;
	uint32_t *silent; /* seats whose workers did not answer */
	uint32_t n_silent;
	/* The roll call's: */
	struct roll_question *next;
};

/* 0 or -ENOMEM. */
must_check int roll_calls_new(struct loop *loop, struct shm *shm, const struct bells *bells, struct roll_calls **out);
/* Questions that are not answered are never done. NULL is fine. */
void roll_calls_free(struct roll_calls *calls);

void roll_calls_ask(struct roll_calls *calls, struct roll_question *question);
/* Nobody wants to know any more: done is not called. A question that is done, or was never asked, may be forgotten. */
void roll_calls_forget(struct roll_calls *calls, struct roll_question *question);
/* Answer what is under way and what waits at once, with what is known. */
void roll_calls_hurry(struct roll_calls *calls);
/* Its results. */
void roll_question_free(struct roll_question *question);

/* The answer of a list, as JSON with a line end; trouble shows in ferror(out). */
void roll_question_print(const struct roll_question *question, const struct shm *shm, uint64_t now_ns, FILE *out);

#endif
