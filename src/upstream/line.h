/* Clients of this worker that wait for a place at the servers of an upstream, in their order, and their part in the line of all workers
 * (shm/line.h).
 *
 * Process: a worker; one struct line per upstream, struct lines is what they share.
 * Owner:   a waiter is embedded in what waits. It is in the line from line_join() to line_leave().
 *
 * Looking: before the loop sleeps, lines in which something happened are looked at: while the first waiter of the worker is the first of
 * all, it is served. What happened is: someone joined or left, a place was freed here (line_freed()), the bell rang, or nobody has looked
 * for LINE_LOOK_NS. Nothing is served from within another call.
 *
 * Hot connections of a worker hold places, too. Where there is nothing for who is first, the other workers are asked for the place of one.
 */
#ifndef AEGIS_UPSTREAM_LINE_H
#define AEGIS_UPSTREAM_LINE_H

#include "os/bell.h"
#include "os/loop.h"
#include "shm/line.h"

struct waiter {
	struct waiter *next, *prev;
	uint64_t ticket; /* 0 = it never waited */
};

struct line;
struct lines;

/* What is done for a line. */
struct line_ops {
	/* It is the waiter's turn. Either it leaves the line, served or not; or nothing is free for it: then *due_ns, which is in the near
	 * future, may be made less. */
	void (*serve)(struct line *line, struct waiter *waiter, uint64_t *due_ns);
	/* Others wait: free one place that a hot connection holds. False when there is none. */
	bool (*spare)(struct line *line);
	/* The bell rang, for whatever reason; or NULL. */
	void (*rung)(struct lines *lines);
};

struct lines {
	struct loop *loop;
	struct shm *shm;
	uint32_t seat;
	const struct bells *bells; /* NULL: nobody is rung */
	const struct line_ops *ops;
	struct line *all, *due;
	struct loop_io bell;
	struct loop_timer look;
};

struct line {
	struct lines *lines;
	struct line *next, *next_due;
	struct waiter *first, *last;
	uint64_t due_ns;   /* when to look at the latest */
	uint64_t asked_ns; /* when others were asked for a hot connection */
	uint32_t upstream; /* its row */
	bool due;          /* linked by next_due */
	bool moved;        /* the first one left: it is another one's turn */
	bool is_looked_at; /* now */
	bool has_hot;      /* workers hold hot connections to its servers */
};

/* bells: one for each slot of a worker. 0 or a negative errno. */
must_check int lines_init(
        struct lines *lines, struct loop *loop, struct shm *shm, uint32_t seat, const struct bells *bells, const struct line_ops *ops);
void lines_fini(struct lines *lines);
/* To be called before the loop sleeps. */
void lines_before_sleep(struct lines *lines);

/* lines: NULL for one in which nobody ever waits. upstream: its row in shared memory. */
void line_init(struct line *line, struct lines *lines, uint32_t upstream, bool has_hot);

/* Does anybody wait, with whatever worker? Then a newcomer has to join. */
static inline bool line_is_busy(const struct line *line)
{
	return unlikely(line->lines && line_waits(line->lines->shm, line->upstream));
}

/* False when as many wait as may. Who waited before has its former place. */
must_check bool line_join(struct line *line, struct waiter *waiter);
void line_leave(struct line *line, struct waiter *waiter);

/* A place at a server was freed, or something else that someone may wait for has changed. */
void line_tell(struct line *line);
static inline void line_freed(struct line *line)
{
	atomic_thread_fence(memory_order_seq_cst); /* see shm/line.h */
	if (line_is_busy(line))
		line_tell(line);
}

/* Is who is first of all with this worker? */
must_check bool line_is_ours(const struct line *line);

#endif
