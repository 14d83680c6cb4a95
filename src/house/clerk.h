/* Answers what the control process asks a worker about its sessions (shm/roll.h): which there are, and the end of one.
 *
 * Process: a worker. The bell of its slot tells that there may be a question; each answer is a bounded piece of work.
 * State:   where the next piece of a series begins; that session may end meanwhile, hence clerk_forget().
 */
#ifndef AEGIS_HOUSE_CLERK_H
#define AEGIS_HOUSE_CLERK_H

#include <stdint.h>

#include "base/attr.h"

struct house;
struct visit;

struct clerk {
	uint64_t series;
	struct visit *next; /* NULL: all were looked at */
};

/* Answer, if there is a question. A session may be over when this returns. */
void clerk_answer(struct house *house);
/* The session ends; it is still linked. */
void clerk_forget(struct clerk *clerk, const struct visit *visit);

#endif
