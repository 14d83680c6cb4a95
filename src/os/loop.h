/* The event loop: level-triggered epoll and a few timers.
 *
 * Process: each has one loop, made after the fork. Watchers are embedded in what they watch (recover it with container_of) and must be
 *          stopped before their memory or their descriptor goes away.
 * Time:    loop_now_ns() is read once per turn; callbacks see one time.
 *
 * The kernel is told as little as possible: what is no longer waited for stays registered until it happens, and what is closed is
 * forgotten by the kernel itself. doc/architecture.md says what that saves.
 */
#ifndef AEGIS_OS_LOOP_H
#define AEGIS_OS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct loop;
struct loop_io;
struct loop_timer;

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

typedef void loop_io_fn(struct loop_io *io, int events);
typedef void loop_timer_fn(struct loop_timer *timer);
typedef void loop_turn_fn(void *arg);

struct loop_io {
	loop_io_fn *fn;
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

/* Called with arg before the loop goes to sleep, and right after it woke. */
void loop_on_turn(struct loop *loop, loop_turn_fn *before_sleep, loop_turn_fn *after_sleep, void *arg);

void loop_io_init(struct loop_io *io, loop_io_fn *fn);
/* The same watcher goes on with another callback, on the descriptor that it watches. */
void loop_io_hand_over(struct loop_io *io, loop_io_fn *fn);
/* Watch fd for events (LOOP_READ | LOOP_WRITE, 0 = nothing for now); changes what an active watcher waits for. 0, or -ENOMEM or -ENOSPC
 * (fs.epoll.max_user_watches) when the kernel has no room for another watch; never for one that is active. */
must_check int loop_io_set(struct loop *loop, struct loop_io *io, int fd, int events);
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
