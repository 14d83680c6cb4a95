/* The event loop: epoll and a few timers.
 *
 * Process: each has one loop, made after the fork. Watchers are embedded in what they watch (recover it with container_of) and must be
 *          stopped before their memory or their descriptor goes away.
 * Time:    loop_now_ns() is read once per turn; callbacks see one time.
 *
 * Two kinds of watchers. A level-triggered one is called as long as what it waits for is so. An edge-triggered one (LOOP_EDGE) is called
 * when something changes: it must read or write until there is no more, or ask to be called again (loop_io_again()). It is registered once
 * and never again.
 *
 * The kernel is told as little as possible: what is no longer waited for stays registered until it happens, what is closed is forgotten by
 * the kernel itself, and one timer descriptor is set only when the first deadline becomes earlier. doc/architecture.md says what that
 * saves.
 */
#ifndef AEGIS_OS_LOOP_H
#define AEGIS_OS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct loop;
struct loop_io;
struct loop_timer;

enum {
	LOOP_READ = 1,
	LOOP_WRITE = 2,
	LOOP_EDGE = 4,   /* to loop_io_set(): edge-triggered */
	LOOP_ENDED = 8,  /* told to edge-triggered ones: the peer's end of input or an error is there, after what can be read */
	LOOP_URGENT = 16 /* likewise: there is an urgent byte, at which a read stops short */
};

typedef void loop_io_fn(struct loop_io *io, int events);
typedef void loop_timer_fn(struct loop_timer *timer);
typedef void loop_turn_fn(void *arg);
/* Wait in place of epoll_wait() until the descriptor of loop_poll_fd() is readable or anything of its own has happened, for ever when
 * sleep is true, else only look. It calls loop_woke() when it woke and before it handles what is its own. */
typedef void loop_waiter_fn(void *arg, bool sleep);

struct loop_io {
	loop_io_fn *fn;
	struct loop_io *next; /* among those to be called again */
	struct loop_io **link;
	int fd;
	uint16_t pending; /* its place in the batch being dispatched, + 1; 0 = none */
	uint8_t wanted;
	uint8_t known; /* what the kernel waits for; 0 = not registered */
};

struct loop_timer {
	loop_timer_fn *fn;
	struct loop_timer *next;
	struct loop_timer **link; /* what points to us; NULL = not active */
	uint64_t due_ns;
	uint64_t round;
};

/* NULL when out of descriptors or memory. */
must_check struct loop *loop_new(void);
void loop_free(struct loop *loop);
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
uint64_t loop_now_ns(const struct loop *loop);

/* Called with arg before the loop goes to sleep. */
void loop_on_turn(struct loop *loop, loop_turn_fn *before_sleep, void *arg);
/* The longest turn so far, asleep not counted; begins anew at 0. */
uint64_t loop_take_longest_turn_ns(struct loop *loop);

/* For another way to wait (see loop_waiter_fn); NULL goes back to epoll_wait(). */
void loop_set_waiter(struct loop *loop, loop_waiter_fn *waiter, void *arg);
int loop_poll_fd(const struct loop *loop);
void loop_woke(struct loop *loop);
void loop_poll_ready(struct loop *loop); /* loop_poll_fd() is readable */

void loop_io_init(struct loop_io *io, loop_io_fn *fn);
/* The same watcher goes on with another callback, on the descriptor that it watches. */
void loop_io_hand_over(struct loop_io *io, loop_io_fn *fn);
/* Watch fd for events (LOOP_READ | LOOP_WRITE, 0 = nothing for now; LOOP_EDGE, always or never); changes what an active watcher waits for.
 * 0, or -ENOMEM or -ENOSPC (fs.epoll.max_user_watches) when the kernel has no room for another watch; never for one that is active. */
must_check int loop_io_set(struct loop *loop, struct loop_io *io, int fd, int events);
/* Call an edge-triggered watcher in the next turn as if it had become readable: there is more, and the others come first. */
void loop_io_again(struct loop *loop, struct loop_io *io);
/* No further callback, not even one of this turn; the kernel is told at once. A watcher that is not active may be stopped. */
void loop_io_stop(struct loop *loop, struct loop_io *io);
/* The same without telling the kernel: only right before the descriptor is closed, and only when no other process has a copy of it (the
 * kernel forgets a file when its last descriptor is closed). */
void loop_io_forget(struct loop *loop, struct loop_io *io);
int loop_io_events(const struct loop_io *io);

void loop_timer_init(struct loop_timer *timer, loop_timer_fn *fn);
/* Fire once, after_ns from loop_now_ns(); restarts an active timer. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t after_ns);
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);
bool loop_timer_active(const struct loop_timer *timer);

#endif
