/* A loop that waits by a ring hears of its own descriptors and timers, and of what the ring does. Skipped where there is no ring. */
#include "os/ring_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

enum { ROUNDS = 1000 };

static struct ground {
	struct loop *loop;
	struct ring *ring;
	struct ring_loop ring_loop;
	struct loop_io io;
	struct loop_timer timer, late;
	struct ring_port port;
	int of_loop, of_ring; /* descriptors that each waits for */
	int heard_by_loop, heard_by_ring, ticks;
} ground;

static void on_lost(int error)
{
	fail_msg("ring_wait: %s", strerror(-error));
}

static void take(int fd)
{
	uint64_t count;
	assert_int_equal(read(fd, &count, sizeof count), sizeof count);
	assert_int_equal(count, 1);
}

static void give(int fd)
{
	const uint64_t one = 1;
	assert_int_equal(write(fd, &one, sizeof one), sizeof one);
}

static void stop_when_done(void)
{
	if (ground.heard_by_loop == ROUNDS && ground.heard_by_ring == ROUNDS && ground.ticks > 0)
		loop_stop(ground.loop);
}

/* Each one answers the other. */
static void on_io(struct loop_io *io, int events)
{
	(void)io;
	assert_true(events & LOOP_READ);
	take(ground.of_loop);
	ground.heard_by_loop++;
	give(ground.of_ring);
	stop_when_done();
}

static void on_port(struct ring_port *port, unsigned op, int result, unsigned flags, unsigned buffer)
{
	(void)buffer;
	assert_int_equal(op, RING_POLL);
	assert_true(result & POLLIN);
	assert_false(flags & RING_MORE);
	take(ground.of_ring);
	if (++ground.heard_by_ring < ROUNDS) {
		ring_poll(ground.ring, port, ground.of_ring, POLLIN, false);
		give(ground.of_loop);
	}
	stop_when_done();
}

static void on_tick(struct loop_timer *timer)
{
	(void)timer;
	ground.ticks++;
	stop_when_done();
}

static void on_late(struct loop_timer *timer)
{
	(void)timer;
	fail_msg("heard %d times by the loop, %d by the ring, %d ticks", ground.heard_by_loop, ground.heard_by_ring, ground.ticks);
}

static void test_the_loop_and_the_ring_are_heard(void **state)
{
	static const struct ring_shape shape = { .entries = 8, .completions = 64, .buffers = 8, .buffer_bytes = 4096 };
	char why[160];
	(void)state;
	ground.ring = ring_new(&shape, why, sizeof why);
	ground.loop = loop_new();
	assert_non_null(ground.ring);
	assert_non_null(ground.loop);
	ground.of_loop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ground.of_ring = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop_io_init(&ground.io, on_io);
	loop_timer_init(&ground.timer, on_tick);
	loop_timer_init(&ground.late, on_late);
	assert_int_equal(loop_io_set(ground.loop, &ground.io, ground.of_loop, LOOP_READ), 0);
	loop_timer_start(ground.loop, &ground.timer, NS_PER_MS);
	loop_timer_start(ground.loop, &ground.late, 20 * NS_PER_S);
	ring_loop_join(&ground.ring_loop, ground.loop, ground.ring, on_lost);
	ground.port.fn = on_port;
	ring_poll(ground.ring, &ground.port, ground.of_ring, POLLIN, false);
	give(ground.of_loop);
	loop_run(ground.loop);
	assert_int_equal(ground.heard_by_loop, ROUNDS);
	assert_int_equal(ground.heard_by_ring, ROUNDS);
	ring_free(ground.ring);
	loop_timer_stop(ground.loop, &ground.late);
	loop_timer_stop(ground.loop, &ground.timer);
	loop_free(ground.loop);
	close(ground.of_loop);
	close(ground.of_ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_loop_and_the_ring_are_heard) };
	char why[160];
	if (!ring_probe(why, sizeof why)) {
		printf("skipped: %s\n", why);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
