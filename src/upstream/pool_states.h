/* Between pool.c, which owns the states, and pool_dial.c, which fills the pools. */
#ifndef AEGIS_UPSTREAM_POOL_STATES_H
#define AEGIS_UPSTREAM_POOL_STATES_H

#include "upstream/pool.h"

/* Put it into a list; from none when it is new. */
void hot_move(struct hot *hot, enum hot_state state);
/* Take it out of its list; its memory is free. */
void hot_remove(struct hot *hot);
/* Close its connection, give its place back. */
void hot_close(struct hot *hot);
/* It is established and idle: hear of it, in this state. False when it had to be closed. */
must_check bool hot_rest(struct hot *hot, enum hot_state state);

/* Of the pools that share (pool->box is not NULL): leave an idle connection, with its place, to all workers. It is gone in any case; false
 * when it had to be closed. By completion nothing may be under way on it. */
must_check bool pool_lend(struct pool *pool, struct conn *conn);
/* Take one out, with a place. */
must_check bool pool_borrow(struct pool *pool, struct hot_conn *out);
/* Close one that is in the box, and free its place. False when there is none. */
bool pool_drop_boxed(struct pool *pool);
/* Look for what is old or dead. */
void pool_sweep_box(struct pool *pool);
/* box: NULL, or one without descriptors: none. */
void pool_share_init(struct pool *pool, const struct box *box, uint32_t workers);

/* Something is missing: dial before the loop sleeps. */
void pool_fill_soon(struct pool *pool);
/* Dial what is missing, a few at a time. */
void pool_fill(struct pool *pool, uint64_t now_ns);
/* A warm connection did not live: the next attempts wait, longer each time. */
void pool_back_off(struct pool *pool, uint64_t now_ns);
/* Attempts that take too long. */
void pool_end_overdue(struct pool *pool, uint64_t now_ns);

#endif
